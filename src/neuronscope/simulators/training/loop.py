"""The training loop: it goes on where a killed one left off, and ends with the same weights.

```
<out>/training/
  settings.json            what is trained on what; a folder belongs to one training
  log.jsonl                a line per step: step, loss, learning_rate, tokens (levels learnt so far), seconds
  checkpoint/              trained weights, Adam's moments, random state; replaced every few minutes, gone at the end
  report.json              how well held-out neurons are simulated
```
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from neuronscope.exemplars.checkpoints import Checkpoints
from neuronscope.io import write_atomically
from neuronscope.simulators.training.batches import IGNORED, Lesson, Row, collate, plan
from neuronscope.simulators.training.progress import StepProgress
from neuronscope.simulators.training.settings import TrainingSettings
from neuronscope.simulators.training.trainee import Trainee

WARMUP = 0.05
"""The share of the steps in which the learning rate rises."""
FINAL_RATE = 0.1
"""The learning rate at the end, as a share of its peak."""
LARGEST_GRADIENT = 1.0
"""A longer gradient is shortened to this length."""


class Done(NamedTuple):
    """How far a training is."""

    steps: int = 0
    tokens: int = 0
    """Levels learnt."""
    seconds: float = 0.0
    """Of computing, interruptions not counted."""


class Loop:
    """Trains on lessons, step by step.

    Args:
        trainee: the model.
        lessons: what it learns.
        settings: how.
        folder: where log and checkpoint are kept.
        key: what identifies this training; a checkpoint of another is not taken up.
    """

    def __init__(
        self,
        trainee: Trainee,
        lessons: Sequence[Lesson],
        settings: TrainingSettings,
        folder: Path,
        key: dict[str, Any],
    ) -> None:
        self._trainee = trainee
        self._lessons = lessons
        self._settings = settings
        self._log = folder / "log.jsonl"
        self._checkpoints = Checkpoints(folder / "checkpoint", key)
        self._weights = trainee.trained()
        self._optimizer = torch.optim.AdamW(self._weights.values(), lr=settings.learning_rate, weight_decay=0.0)
        steps = len(self._epoch(0)) * settings.epochs
        self.n_steps = min(steps, settings.max_steps or steps)
        """How many steps there are in all."""

    def run(self, progress: StepProgress) -> Done:
        """Take all steps that are left."""
        done = self._restore()
        progress.start(self.n_steps, done.steps)
        self._trainee.model.train()
        before, start = done.seconds, time.monotonic()
        for rows in self._batches(done.steps):
            rate = self._rate(done.steps)
            loss, n_tokens = self._step(rows, rate)
            done = Done(done.steps + 1, done.tokens + n_tokens, before + time.monotonic() - start)
            self._write(done, loss, rate)
            progress.step(loss, n_tokens)
            if self._checkpoints.due() or done.steps == self.n_steps:
                self._checkpoints.save(self._state(), done._asdict())
        self._trainee.model.eval()
        return done

    def clear(self) -> None:
        """Remove the checkpoint: what was trained is saved."""
        self._checkpoints.clear()

    def _epoch(self, number: int) -> list[list[Row]]:
        settings = self._settings
        return plan(self._lessons, settings.exemplars_per_row, settings.batch_tokens, [settings.seed, number])

    def _batches(self, skipped: int) -> Iterator[list[Row]]:
        left = self.n_steps
        for number in range(self._settings.epochs):
            batches = self._epoch(number)[:left]
            left -= len(batches)
            yield from batches[skipped:]
            skipped = max(0, skipped - len(batches))

    def _rate(self, step: int) -> float:
        rise = max(1, round(WARMUP * self.n_steps))
        fallen = (step - rise) / max(1, self.n_steps - rise)
        share = (step + 1) / rise if step < rise else 1 - (1 - FINAL_RATE) * fallen
        return self._settings.learning_rate * share

    def _step(self, rows: Sequence[Row], rate: float) -> tuple[float, int]:
        """One step: the mean cross-entropy of its levels, and how many they are."""
        batch = collate(rows, self._trainee.padding_id)
        logits = self._trainee.logits(batch)
        targets = batch.targets.to(logits.device)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
        loss.backward()  # type: ignore[no-untyped-call]  # of torch
        torch.nn.utils.clip_grad_norm_(self._weights.values(), LARGEST_GRADIENT)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return float(loss.detach()), int((batch.targets != IGNORED).sum())

    def _write(self, done: Done, loss: float, rate: float) -> None:
        line = {"step": done.steps, "loss": round(loss, 5), "learning_rate": rate, "tokens": done.tokens}
        with self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line | {"seconds": round(done.seconds, 1)}) + "\n")

    def _state(self) -> dict[str, torch.Tensor]:
        arrays = {f"weights/{name}": each.detach() for name, each in self._weights.items()}
        for name, weight in self._weights.items():
            arrays |= {f"adam/{kind}/{name}": each for kind, each in self._optimizer.state[weight].items()}
        arrays["random/cpu"] = torch.get_rng_state()
        if self._trainee.device.type == "cuda":
            arrays["random/cuda"] = torch.cuda.get_rng_state(self._trainee.device)
        return arrays

    def _restore(self) -> Done:
        """Take up the last checkpoint, and forget what was logged after it."""
        found = self._checkpoints.load()
        if found is None:
            write_atomically(self._log, "")
            return Done()
        arrays, counts = found
        done = Done(**counts)
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(arrays[f"weights/{name}"])
                self._optimizer.state[weight] = {
                    kind: arrays[f"adam/{kind}/{name}"].to(weight.device if kind != "step" else "cpu")
                    for kind in ("step", "exp_avg", "exp_avg_sq")
                }
        torch.set_rng_state(arrays["random/cpu"])
        if "random/cuda" in arrays and self._trainee.device.type == "cuda":
            torch.cuda.set_rng_state(arrays["random/cuda"], self._trainee.device)
        lines = self._log.read_text("utf-8").splitlines()[: done.steps] if self._log.exists() else []
        write_atomically(self._log, "".join(f"{line}\n" for line in lines))
        return done
