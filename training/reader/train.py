"""Step 5: train the heads.

    python training/reader/train.py WORK [--validate]

Learns the readings of `readings.jsonl` as shares of each mode's strength, by squared error, and writes
WORK/reader.safetensors, the probes with it. A head that is finished is kept, and a call goes on with the next one.
With `--validate` every fifth neuron is left out and measured instead. Some five minutes on one core.
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

from neuronscope.simulators.reader.model import HEADS, ReaderNetwork

STEPS, BATCH, RATE, DECAY = 1000, 2048, 2e-3, 0.05

Task = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--validate", action="store_true")
    arguments = parser.parse_args()
    tasks = [t for t in torch.load(arguments.work / "tasks.pt", weights_only=False)["tasks"] if t["kind"] == "readings"]
    training = [task for task in tasks if not (arguments.validate and task["validation"])]
    network = ReaderNetwork()
    network.probes.load_state_dict(torch.load(arguments.work / "probes.pt"))
    network.kinship.load_state_dict(torch.load(arguments.work / "kinship.pt"))
    for seed in range(HEADS):
        path = arguments.work / f"head-{seed}{'-validate' if arguments.validate else ''}.pt"
        if not path.exists():
            torch.manual_seed(seed)
            torch.save(trained(ReaderNetwork().heads[0], training), path)
        network.heads[seed].load_state_dict(torch.load(path))
        print("head", seed, flush=True)
    network.eval()
    if arguments.validate:
        print("correlation with the activations, agreement, of the strong reader:")
        print(measure(network, [task for task in tasks if task["validation"]]))
    else:
        half = {name: values.half().contiguous() for name, values in network.state_dict().items()}
        save_file(half, arguments.work / "weights.safetensors")


def trained(head: torch.nn.Module, tasks: list[Task]) -> dict[str, torch.Tensor]:
    """The state of a head after `STEPS` batches of tokens."""
    told = torch.cat([rows for task in tasks for rows in task["told"]]).float()
    targets = torch.cat([torch.tensor(np.asarray(row)) for task in tasks for row in task["targets"]])
    targets = targets.float().clamp(0, 1.5)
    optimiser = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=DECAY)
    for step in range(STEPS):
        at = torch.randint(len(told), (BATCH,))
        loss = torch.nn.functional.mse_loss(head(told[at]).squeeze(-1), targets[at])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        optimiser.param_groups[0]["lr"] = RATE * (0.5 + 0.5 * math.cos(math.pi * step / STEPS))
    return head.state_dict()


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
