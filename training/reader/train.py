"""Step 3: train the network.

    python training/reader/train.py WORK [--steps 4000] [--all] [--name reader]

One step is one task: its sentences are read once, its texts beside each. The loss of a reading, or of planted truth, is
the squared error in shares of the mode's strength, relative to predicting nothing; that of a neuron is one minus the
correlation of the largest prediction of its modes with what it did. Progress is saved every `SAVED` steps, and a call
with the same arguments goes on from there. `--all` trains on the validation neurons too, for the weights to ship.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from neuronscope.simulators.reader_model import LAYERS, ReaderNetwork, encode
from neuronscope.simulators.reader_tokens import Pieces
from neuronscope.subject.loading import load_model

SEED, SAVED, EVALUATED = 23, 200, 400
RATE, WARM, PRETRAINED = 1e-3, 100, 1500
LONGEST = 72
SHARES = {"readings": (0.25, 0.6), "more": (0.1, 0.1), "neuron": (0.3, 0.15), "planted": (0.35, 0.15)}
"""How often a kind of task is drawn, at the beginning and at the end."""


class Data:
    """Tasks as tensors; texts as the frozen layers leave them."""

    def __init__(self, work: Path, language_model: Any, pieces: Pieces) -> None:
        loaded = torch.load(work / "tasks.pt", weights_only=False)
        self.tasks: list[dict[str, Any]] = loaded["tasks"]
        self.ids, self.lasts = loaded["ids"], loaded["lasts"]
        self.pieces, self.language_model = pieces, language_model
        path = work / f"states-{LAYERS}.pt"
        if not path.exists():
            order = sorted(range(len(self.ids)), key=lambda n: len(self.ids[n]))
            states: list[Any] = [None] * len(order)
            for first in range(0, len(order), 32):
                batch = order[first : first + 32]
                for n, row in zip(
                    batch, encode(language_model, padded([self.ids[n][:LONGEST] for n in batch])[0]), strict=True
                ):
                    states[n] = row[: len(self.ids[n])].clone()
            torch.save(states, path)
        self.states: list[Tensor] = torch.load(path)
        self.explanations: dict[str, Tensor] = {}

    def explanation(self, sentence: str) -> Tensor:
        if sentence not in self.explanations:
            self.explanations[sentence] = encode(
                self.language_model, torch.tensor([explanation_ids(self.pieces, sentence)])
            )[0]
        return self.explanations[sentence]


def explanation_ids(pieces: Pieces, sentence: str) -> list[int]:
    return pieces.encode_text(f"\n{sentence}\n")[-120:]


def padded(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    length = max(map(len, rows))
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    real = torch.zeros(len(rows), length, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        real[i, : len(row)] = True
    return ids, real


def stacked(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    length = max(len(row) for row in rows)
    out = torch.zeros(len(rows), length, *rows[0].shape[1:], dtype=rows[0].dtype)
    real = torch.zeros(len(rows), length, dtype=torch.bool)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
        real[i, : len(row)] = True
    return out, real


def predict(network: ReaderNetwork, data: Data, task: dict[str, Any], chosen: set[int]) -> list[Tensor]:
    """For each pair of a sentence and a chosen text the shares of its subject tokens."""
    prefix_states, real = stacked([data.explanation(s) for s in task["sentences"]])
    read = network.read_explanations(prefix_states, real)
    kept = [i for i, (_, n) in enumerate(task["pairs"]) if n in chosen]
    which = torch.tensor([task["pairs"][i][0] for i in kept])
    numbers = [task["texts"][task["pairs"][i][1]] for i in kept]
    texts, _ = stacked([data.states[n] for n in numbers])
    told = torch.zeros(*texts.shape[:2], task["told"][0].shape[1])
    lasts = []
    for row, (i, n) in enumerate(zip(kept, numbers, strict=True)):
        last = [min(at, texts.shape[1] - 1) for at in data.lasts[n]]
        first = [0, *[at + 1 for at in last[:-1]]]
        of_piece = np.repeat(np.arange(len(last)), [max(b - a + 1, 0) for a, b in zip(first, last, strict=True)])[
            : texts.shape[1]
        ]
        told[row, : len(of_piece)] = task["told"][i].float()[of_piece]
        lasts.append(torch.tensor(last))
    out = network(read, real, which, texts, told)
    return [out[row][at] for row, at in enumerate(lasts)]


def correlation(first: Tensor, second: Tensor) -> Tensor:
    first, second = first - first.mean(), second - second.mean()
    return (first * second).sum() / ((first**2).sum() * (second**2).sum() + 1e-6).sqrt()


def joint_of(task: dict[str, Any], predictions: list[Tensor], chosen: list[int]) -> Tensor:
    by_text: dict[int, list[Tensor]] = defaultdict(list)
    kept = [pair for pair in task["pairs"] if pair[1] in set(chosen)]
    for (m, n), values in zip(kept, predictions, strict=True):
        by_text[n].append(values * task["strengths"][m])
    return torch.cat([torch.stack(by_text[n]).amax(dim=0) for n in chosen])


def loss_of(task: dict[str, Any], predictions: list[Tensor], chosen: list[int]) -> Tensor:
    losses = []
    if task["targets"] is not None:
        kept = [i for i, (_, n) in enumerate(task["pairs"]) if n in set(chosen)]
        by_mode: dict[int, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for i, values in zip(kept, predictions, strict=True):
            target = torch.tensor(np.asarray(task["targets"][i])).clamp(0, 1.5)
            by_mode[task["pairs"][i][0]].append((values, target))
        each = []
        for rows in by_mode.values():
            values, target = torch.cat([v for v, _ in rows]), torch.cat([t for _, t in rows])
            each.append(((values - target) ** 2).sum() / ((target**2).sum() + 1.0))
        losses.append(torch.stack(each).mean())
    if task["joint"] is not None:
        joint = joint_of(task, predictions, chosen)
        actual = torch.cat([torch.tensor(task["joint"][n]) for n in chosen])
        losses.append((0.4 if losses else 0.7) * (1 - correlation(joint, actual)))
        if task["targets"] is not None:
            strong = joint_of(
                task,
                [
                    torch.tensor(np.asarray(task["targets"][i]))
                    for i, (_, n) in enumerate(task["pairs"])
                    if n in set(chosen)
                ],
                chosen,
            )
            losses.append(0.4 * (1 - correlation(joint, strong)))
    return torch.stack(losses).sum()


def features_only(network: ReaderNetwork, data: Data) -> str:
    """What the features alone come to."""
    return "features only, " + evaluate(
        network, data, lambda task: [network.direct(t.float()).squeeze(-1) for t in task["told"]]
    )


def pretrain(network: ReaderNetwork, tasks: list[dict[str, Any]]) -> None:
    """Let the features alone learn first: it takes a minute, and the adapter begins from there."""
    told = torch.cat([rows for task in tasks for rows in task["told"]]).float()
    targets = (
        torch.cat([torch.tensor(np.asarray(row)) for task in tasks for row in task["targets"]]).float().clamp(0, 1.5)
    )
    generator = torch.Generator().manual_seed(SEED)
    optimiser = torch.optim.AdamW(network.direct.parameters(), lr=2e-3, weight_decay=0.05)
    for step in range(PRETRAINED):
        at = torch.randint(len(told), (2048,), generator=generator)
        loss = functional.mse_loss(network.direct(told[at]).squeeze(-1), targets[at])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * (0.5 + 0.5 * math.cos(math.pi * step / PRETRAINED))


@torch.no_grad()
def evaluate(network: ReaderNetwork, data: Data, by: Any = None) -> str:
    rows = []
    network.eval()
    for task in data.tasks:
        if not (task["validation"] and task["kind"] == "readings"):
            continue
        chosen = list(range(len(task["texts"])))
        predictions = [p.clamp(min=0) for p in (by(task) if by else predict(network, data, task, set(chosen)))]
        joint = joint_of(task, predictions, chosen)
        strong = joint_of(task, [torch.tensor(np.asarray(t)) for t in task["targets"]], chosen)
        actual = torch.cat([torch.tensor(row) for row in task["joint"]])
        rows.append(
            [float(correlation(joint, actual)), float(correlation(joint, strong)), float(correlation(strong, actual))]
        )
    network.train()
    means = np.mean(rows, axis=0)
    return f"validation neurons: r {means[0]:.3f} (strong reader {means[2]:.3f}), agreement {means[1]:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--name", default="reader")
    arguments = parser.parse_args()
    torch.manual_seed(SEED)
    model, tokenizer, _ = load_model("smollm2-135m", device="cpu", dtype="bfloat16")
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    network = ReaderNetwork(2 * model.config.hidden_size)
    data = Data(arguments.work, model.model, Pieces(tokenizer))
    slow = [p for n, p in network.named_parameters() if n.startswith("direct")]
    fast = [p for n, p in network.named_parameters() if not n.startswith("direct")]
    optimiser = torch.optim.AdamW([{"params": slow}, {"params": fast}], weight_decay=0.02, betas=(0.9, 0.98))
    by_kind: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for task in data.tasks:
        if arguments.all or not task["validation"]:
            by_kind[task["kind"]].append(task)
    print(
        {kind: len(tasks) for kind, tasks in by_kind.items()},
        sum(p.numel() for p in network.parameters()),
        "parameters",
        flush=True,
    )
    saved = arguments.work / f"{arguments.name}.checkpoint"
    begin = 0
    if saved.exists():
        state = torch.load(saved)
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        begin = state["step"]
    else:
        pretrain(network, by_kind["readings"])
        print(features_only(network, data), flush=True)
    average: dict[str, float] = {}
    started = time.time()
    for step in range(begin, arguments.steps):
        rng = np.random.default_rng([SEED, step])
        share = step / arguments.steps
        weights = np.array([a + (b - a) * share for a, b in SHARES.values()])
        kind = str(rng.choice(list(SHARES), p=weights / weights.sum()))
        task = by_kind[kind][rng.integers(len(by_kind[kind]))]
        n_texts = len(task["texts"])
        chosen = (
            sorted(int(n) for n in rng.choice(n_texts, min(n_texts, 5), replace=False))
            if "owner" not in task
            else list(range(n_texts))
        )
        if "owner" in task:
            chosen = sorted(int(n) for n in rng.choice(n_texts, min(n_texts, 18), replace=False))
        rate = RATE * min(1, (step + 1) / WARM) * (0.5 + 0.5 * math.cos(math.pi * share)) + 1e-6
        for group, scale in zip(optimiser.param_groups, (0.2, 1.0), strict=True):
            group["lr"] = rate * scale
        predictions = predict(network, data, task, set(chosen))
        loss = loss_of(task, predictions, chosen)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        average[kind] = 0.95 * average.get(kind, loss.item()) + 0.05 * loss.item()
        if (step + 1) % 50 == 0:
            print(
                step + 1,
                {k: round(v, 3) for k, v in sorted(average.items())},
                f"{time.time() - started:.0f} s",
                flush=True,
            )
        if (step + 1) % EVALUATED == 0 or step + 1 == arguments.steps:
            print(evaluate(network, data), flush=True)
        if (step + 1) % SAVED == 0 or step + 1 == arguments.steps:
            partial = saved.with_suffix(".partial")
            torch.save(
                {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1}, partial
            )
            partial.replace(saved)
            half = {name: value.half().contiguous() for name, value in network.state_dict().items()}
            save_file(half, arguments.work / f"{arguments.name}.safetensors", {"layers": str(LAYERS)})


if __name__ == "__main__":
    main()
