"""How well a simulator reads the sentences of a strong LLM, beside a strong reader of the same sentences.

    python benchmarks/reader.py READER_JSONL --simulators hybrid reader

The file has one explanation a line: `modes` (each an `explanation`, with a `strength` or without), `texts` (`tokens`;
`predicted`, the strong reader's values; `actual`, what the neuron did; both by token index) and `form`, how the
sentences came about. Printed for each form, as means over its explanations: the correlation of each simulator's joint
prediction (the largest of its modes, each scaled by its strength) with the activations, and with the strong reader's
predictions. `training/reader/readings.jsonl` can be given too: its `predicted` has one dictionary a mode.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import neuronscope as ns
from neuronscope.simulators.registry import resolve_simulator

Array = NDArray[np.float32]
DEFAULT_STRENGTH = 10.0


def main() -> None:
    """Print one row a form, and one for all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--simulators", nargs="+", default=["hybrid", "reader"])
    parser.add_argument("--each", action="store_true", help="one row for each explanation too")
    arguments = parser.parse_args()
    records = [json.loads(line) for line in arguments.path.read_text(encoding="utf-8").splitlines()]
    rows: dict[str, list[list[float]]] = defaultdict(list)
    seconds = dict.fromkeys(arguments.simulators, 0.0)
    for record in records:
        actual = dense(record["texts"], "actual")
        strong = dense(record["texts"], "predicted")
        figures = [correlation(strong, actual)]
        for name in arguments.simulators:
            began = time.process_time()
            predicted = joint(resolve_simulator(name), record)
            seconds[name] += time.process_time() - began
            figures += [correlation(predicted, actual), correlation(predicted, strong)]
        rows[record["form"]].append(figures)
        rows["all"].append(figures)
        if arguments.each:
            print(f"{record['layer']:3d} {record['neuron']:5d} {record['form'][:40]:40s} {show(figures)}")
    header = "  ".join(f"{name} r, agreement" for name in arguments.simulators)
    print(f"\n{'form':60s} n   strong r   {header}")
    for form, figures_of_form in sorted(rows.items(), key=lambda row: row[0] == "all"):
        print(f"{form[:60]:60s} {len(figures_of_form):2d}  {show(np.mean(figures_of_form, axis=0))}")
    modes = sum(len(record["modes"]) for record in records)
    for name, spent in seconds.items():
        print(f"{name}: {spent / modes:.2f} s of processor time for an explanation's texts")


def joint(simulator: Any, record: dict[str, Any]) -> Array:
    """The largest prediction of any mode, each scaled by its strength, over all texts."""
    explanations = [mode["explanation"] for mode in record["modes"]]
    strengths = np.array([mode.get("strength", DEFAULT_STRENGTH) for mode in record["modes"]], dtype=np.float32)
    exemplars = [exemplar(text["tokens"], index) for index, text in enumerate(record["texts"])]
    predictions = simulator.simulate(explanations, exemplars)
    return np.concatenate([(strengths[:, None] * prediction).max(axis=0) / 10 for prediction in predictions])


def exemplar(tokens: Sequence[str], index: int) -> ns.Exemplar:
    """A text as simulators take it: without activations."""
    return ns.Exemplar(
        tokens=tuple(tokens),
        token_ids=tuple(range(len(tokens))),
        activations=np.zeros(len(tokens), dtype=np.float32),
        sequence_id=index,
        source="benchmark",
    )


def dense(texts: Sequence[dict[str, Any]], field: str) -> Array:
    """A field's values by token as one array; the largest of any mode where it has one dictionary a mode."""
    values = [np.zeros(len(text["tokens"]), dtype=np.float32) for text in texts]
    for row, text in zip(values, texts, strict=True):
        given = text[field]
        for by_token in given if isinstance(given, list) else [given]:
            for index, value in by_token.items():
                row[int(index)] = max(row[int(index)], value)
    return np.concatenate(values)


def correlation(first: Array, second: Array) -> float:
    """Pearson's r; 0 where either is constant."""
    if first.std() == 0 or second.std() == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def show(figures: Any) -> str:
    """Figures with three digits."""
    return "  ".join(f"{figure:8.3f}" for figure in figures)


if __name__ == "__main__":
    main()
