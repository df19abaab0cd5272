"""Prints this process's peak memory in MB after a collection, and after one over ten times the tokens."""

from __future__ import annotations

import json
import random
import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import neuronscope as ns
from table_subject import TableSubject

LETTERS = "?abcdefghijklmnopqrstuvwxyz"


def texts() -> Iterator[str]:
    """Endless long documents."""
    generator = random.Random(0)
    while True:
        yield "".join(generator.choices(LETTERS, k=2000))


def collect(n_tokens: int, folder: Path) -> float:
    """Collect, and return the peak so far."""
    table = np.random.default_rng(0).normal(size=(len(LETTERS), 64)).astype(np.float32)
    ns.collect_exemplars(TableSubject(LETTERS, [table]), texts(), [0], 64, 20, n_tokens, cache_dir=folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / (1 << 10)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        collect(100_000, Path(folder) / "first")  # everything is imported, every pool of memory has its size
        print(json.dumps([collect(n, Path(folder) / str(n)) for n in (200_000, 2_000_000)]))
