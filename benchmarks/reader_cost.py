"""What the reader costs on one thread: a text that is new, and an explanation that is new on texts that are known.

    python benchmarks/reader_cost.py

Texts and sentences are those of `training/reader/readings.jsonl`. Times are processor time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch

import neuronscope as ns
from neuronscope.simulators.reader import ReaderSimulator
from reader import exemplar

READINGS = Path(__file__).parents[1] / "training" / "reader" / "readings.jsonl"
EXACT = 'This neuron activates strongly on "{}" and "queen"; weakly on "to" after "according".'
TEXTS, SENTENCES = 40, 30


def seconds(simulator: ReaderSimulator, explanations: Sequence[str], exemplars: Sequence[ns.Exemplar]) -> float:
    """Processor time of one call."""
    began = time.process_time()
    simulator.simulate(explanations, exemplars)
    return time.process_time() - began


def main() -> None:
    """Print milliseconds."""
    torch.set_num_threads(1)
    records = [json.loads(line) for line in READINGS.read_text(encoding="utf-8").splitlines()]
    texts = [text["tokens"] for record in records for text in record["texts"]]
    sentences = [mode["explanation"] for record in records for mode in record["modes"]][:SENTENCES]
    exemplars = [exemplar(tokens, index) for index, tokens in enumerate(texts[: TEXTS + 1])]
    simulator = ReaderSimulator()
    seconds(simulator, [sentences[0]], exemplars[:1])  # loads the models
    seconds(simulator, [EXACT.format("king")], exemplars[:1])
    new = seconds(simulator, [EXACT.format("duke")], exemplars[1:])
    exact = seconds(simulator, [EXACT.format("earl")], exemplars[1:])
    prose = seconds(simulator, sentences, exemplars[1:]) / len(sentences)
    again = seconds(simulator, sentences, exemplars[1:]) / len(sentences)
    print(f"a new text                              {1e3 * (new - exact) / TEXTS:6.0f} ms")
    print(f"a new explanation on {TEXTS} known texts      {1e3 * prose:6.0f} ms")
    print(f"the same explanation again              {1e3 * again:6.0f} ms")
    print(f"one of quotes and grammar alone         {1e3 * exact:6.0f} ms")


if __name__ == "__main__":
    main()
