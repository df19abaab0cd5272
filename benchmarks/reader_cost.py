"""What the reader costs on one thread: texts and explanations that are new, and ones that are known.

    python benchmarks/reader_cost.py

Texts and sentences are those of `training/reader/readings.jsonl`; the cache folder is an empty one. Times are processor
time.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

import neuronscope as ns
from neuronscope.simulators.reader import ReaderSimulator

READINGS = Path(__file__).parents[1] / "training" / "reader" / "readings.jsonl"
EXACT = 'This neuron activates strongly on "{}" and "queen"; weakly on "to" after "according".'
MANY, TEXTS, SENTENCES = 400, 40, 30


def milliseconds(simulator: ReaderSimulator, explanations: Sequence[str], exemplars: Sequence[ns.Exemplar]) -> float:
    """Processor time of one call."""
    began = time.process_time()
    simulator.simulate(explanations, exemplars)
    return 1e3 * (time.process_time() - began)


def main() -> None:
    """Print milliseconds."""
    torch.set_num_threads(1)
    records = [json.loads(line) for line in READINGS.read_text(encoding="utf-8").splitlines()]
    texts = [text["tokens"] for record in records for text in record["texts"]]
    sentences = [mode["explanation"] for record in records for mode in record["modes"]][: SENTENCES + 1]
    exemplars = [
        ns.Exemplar(tokens, np.zeros(len(tokens), dtype=np.int64), np.zeros(len(tokens), dtype=np.float32), index, "")
        for index, tokens in enumerate(texts)
    ]
    warm, *sentences = sentences
    known = exemplars[:TEXTS]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NEURONSCOPE_CACHE"] = folder
        milliseconds(ReaderSimulator(), [warm, EXACT.format("king")], exemplars[-1:])  # loads the models
        simulator, second, third = ReaderSimulator(), ReaderSimulator(), ReaderSimulator()
        few = milliseconds(simulator, [], known)
        many = milliseconds(simulator, [], exemplars[:MANY])
        reread = milliseconds(second, [], known)
        milliseconds(simulator, [EXACT.format("king")], known)
        milliseconds(second, [EXACT.format("king")], known)
        milliseconds(third, [EXACT.format("king")], known)
        alone = statistics.mean(milliseconds(simulator, [sentence], known) for sentence in sentences)
        again = statistics.mean(milliseconds(simulator, [sentence], known) for sentence in sentences)
        elsewhere = statistics.mean(milliseconds(second, [sentence], known) for sentence in sentences)
        together = milliseconds(third, sentences, known) / len(sentences)
        exact = milliseconds(simulator, [EXACT.format("duke")], known)
        exact_again = milliseconds(simulator, [EXACT.format("duke")], known)
    for what, value in (
        (f"a new text, of the first {TEXTS}", few / TEXTS),
        (f"a new text, of the first {MANY}", (few + many) / MANY),
        ("a new text, its words known", reread / TEXTS),
        (f"an explanation on {TEXTS} known texts, new", alone),
        ("the same, its words known", elsewhere),
        (f"the same, {SENTENCES} asked for together", together),
        ("an explanation asked for before", again),
        ("quotes and grammar alone, a word new", exact),
        ("the same, its words known", exact_again),
    ):
        print(f"{what:50s} {value:6.1f} ms")


if __name__ == "__main__":
    main()
