"""Collects in child processes and kills them with SIGKILL at random times; run by `test_exemplars_checkpoints.py`.

Usage: killed_collections.py MODEL_FOLDER CORPUS_FILE WORKPLACE KILLS. Prints JSON. Children are forked from a process
that has imported and loaded everything, so that the time they live is spent on collecting.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # threads do not survive a fork

import torch
from tqdm.auto import tqdm

import neuronscope as ns
from neuronscope.exemplars import checkpoints
from neuronscope.exemplars import statistics_pass as collection


def collect(subject: Any, corpus: str, cache: Path) -> None:
    ns.collect_exemplars(subject, corpus, None, 16, 7, cache_dir=cache, batch_size=4)


def child(subject: Any, corpus: str, cache: Path) -> int:
    process = os.fork()
    if process:
        return process
    tqdm.set_lock(threading.RLock())  # its own is shared with children, and one that is killed may hold it
    try:
        collect(subject, corpus, cache)
    finally:
        os._exit(0 if (next(cache.glob("*/store.json"), None)) else 1)


def contents(cache: Path) -> dict[str, str]:
    """Digests of all files of the only store."""
    (store,) = [file.parent for file in cache.glob("*/store.json")]
    files = sorted(file for file in store.rglob("*") if file.is_file())
    return {str(file.relative_to(store)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def main(model: str, corpus: str, workplace: Path, kills: int) -> dict[str, Any]:
    checkpoints.INTERVAL, checkpoints.MAX_SHARE, collection.CHUNK_SEQUENCES = 0.0, float("inf"), 8
    torch.set_num_threads(1)
    subject = ns.load_subject(model, device="cpu")
    collect(subject, corpus, workplace / "whole")
    start = time.monotonic()
    assert os.waitpid(child(subject, corpus, workplace / "again"), 0)[1] == 0
    duration = time.monotonic() - start
    generator, done, resumed, stores, equal = random.Random(), 0, 0, 0, 0
    whole = contents(workplace / "whole")
    while done < kills or not stores:
        cache = workplace / f"cut-{stores}"
        finished = False
        while not finished:
            resumed += any(cache.glob("*.partial/checkpoint.safetensors"))
            process = child(subject, corpus, cache)
            if done < kills:
                time.sleep(generator.uniform(0.0, duration))
                os.kill(process, signal.SIGKILL)
            _, status = os.waitpid(process, 0)
            finished = not os.WIFSIGNALED(status)
            done += not finished
        stores += 1
        equal += contents(cache) == whole and not any(cache.glob("*.partial"))
    return {"kills": done, "resumed": resumed, "stores": stores, "equal": equal, "seconds": duration}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))))
