"""Step 6: train the heads.

    python training/reader/train.py WORK [--validate]

Learns the readings of `readings.jsonl` as shares of each mode's strength, by squared error, and in a quarter of each batch
planted concepts in simple sentences: short ones of one clause, which the reader tells from others. Writes
WORK/weights.safetensors. A head that is finished is kept, and a call goes on with the next one. With `--validate` every
fifth neuron, and every fifth group of concepts, is left out and measured instead. Some five minutes on one core.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from neuronscope.simulators.reader.features import COLUMN
from neuronscope.simulators.reader.model import HEADS, ReaderNetwork

STEPS, BATCH, PLANTED, RATE, DECAY = 3000, 2048, 512, 2e-3, 0.05

SIMPLE = COLUMN["sentence_is_simple"]

Task = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--validate", action="store_true")
    arguments = parser.parse_args()
    tasks = torch.load(arguments.work / "tasks.pt", weights_only=False)["tasks"]
    training = [task for task in tasks if not (arguments.validate and task["validation"])]
    network = ReaderNetwork()
    network.probes.load_state_dict(torch.load(arguments.work / "probes.pt"))
    network.kinship.load_state_dict(torch.load(arguments.work / "kinship.pt"))
    network.naming.load_state_dict(torch.load(arguments.work / "naming.pt"))
    for seed in range(HEADS):
        path = arguments.work / f"head-{seed}{'-validate' if arguments.validate else ''}.pt"
        if not path.exists():
            torch.manual_seed(seed)
            torch.save(trained(ReaderNetwork().heads[0], training), path)
        network.heads[seed].load_state_dict(torch.load(path))
        print("head", seed, flush=True)
    network.eval()
    if arguments.validate:
        held = [task for task in tasks if task["validation"]]
        print("correlation with the activations, agreement, of the strong reader:")
        print(measure(network, [task for task in held if task["kind"] == "readings"]))
        print("planted concepts:", planted(network, [task for task in held if task["kind"] == "planted"]))
    else:
        half = {name: values.half().contiguous() for name, values in network.state_dict().items()}
        save_file(half, arguments.work / "weights.safetensors")


def trained(head: torch.nn.Module, tasks: list[Task]) -> dict[str, torch.Tensor]:
    """The state of a head after `STEPS` batches of tokens."""
    readings, concepts = (rows_of(tasks, kind) for kind in ("readings", "planted"))
    optimiser = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=DECAY)
    for step in range(STEPS):
        drawn = [
            (told[at], targets[at])
            for (told, targets), count in ((readings, BATCH - PLANTED), (concepts, PLANTED))
            for at in [torch.randint(len(told), (count,))]
        ]
        told, targets = (torch.cat(parts) for parts in zip(*drawn, strict=True))
        loss = torch.nn.functional.mse_loss(head(told).squeeze(-1), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        optimiser.param_groups[0]["lr"] = RATE * (0.5 + 0.5 * math.cos(math.pi * step / STEPS))
    return head.state_dict()


def rows_of(tasks: list[Task], kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Features and targets of all tokens; of planted concepts those in simple sentences."""
    pairs = [
        (rows, values)
        for task in tasks
        if task["kind"] == kind
        for rows, values in zip(task["told"], task["targets"], strict=True)
        if kind == "readings" or rows[0, SIMPLE] > 0
    ]
    told = torch.cat([rows for rows, _ in pairs]).float()
    return told, torch.cat([torch.tensor(np.asarray(values)) for _, values in pairs]).float().clamp(0, 1.5)


@torch.no_grad()
def planted(network: ReaderNetwork, tasks: list[Task]) -> float:
    """The mean correlation with the truth, of concepts."""
    rows = []
    for task in tasks:
        for number in range(len(task["sentences"])):
            of = [n for n, (sentence, _) in enumerate(task["pairs"]) if sentence == number]
            predicted = network(torch.cat([task["told"][n] for n in of]).float()).clamp(0, 1).numpy()
            rows.append(correlation(predicted, np.concatenate([task["targets"][n] for n in of])))
    return round(float(np.mean(rows)), 3)


@torch.no_grad()
def measure(network: ReaderNetwork, tasks: list[Task]) -> list[float]:
    """Means over neurons, of all their texts together."""
    rows = []
    for task in tasks:
        predicted = [network(rows.float()).clamp(0, 1).numpy() for rows in task["told"]]
        mine, strong = joint(task, predicted), joint(task, task["targets"])
        actual = np.concatenate(task["joint"])
        rows.append([correlation(mine, actual), correlation(mine, strong), correlation(strong, actual)])
    return [round(float(mean), 3) for mean in np.mean(rows, axis=0)]


def joint(task: Task, shares: list[np.ndarray]) -> np.ndarray:
    by_text: dict[int, list[np.ndarray]] = defaultdict(list)
    for (mode, text), values in zip(task["pairs"], shares, strict=True):
        by_text[text].append(np.asarray(values) * task["strengths"][mode])
    return np.concatenate([np.max(by_text[text], axis=0) for text in sorted(by_text)])


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(first, second)[0, 1]) if first.std() and second.std() else 0.0


if __name__ == "__main__":
    main()
