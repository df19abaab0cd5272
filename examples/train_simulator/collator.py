"""From explanations and exemplars to the tensors of a step.

A row is an explanation, read once, with several exemplars behind it. An exemplar's tokens see the explanation and their
own exemplar only, and their positions go on from the explanation's; so each exemplar is read as it would be alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from neuronscope.errors import SimulatorError
from neuronscope.simulators.alignment import Aligned, align
from neuronscope.simulators.finetuned import N_LEVELS, PROMPT
from neuronscope.subject.tokens import bos_id
from neuronscope.types import Exemplar
from train_simulator.data import ExplainedNeuron

IGNORED = -100
"""The label of tokens whose level is not trained; torch's cross-entropy and the Trainer leave it out."""


class Sample(NamedTuple):
    """An exemplar as the simulator reads it."""

    token_ids: list[int]
    levels: list[int]
    """0 to 10, one for each of the simulator's tokens."""


class Row(NamedTuple):
    """An explanation with the exemplars that share one reading of it."""

    explanation_ids: list[int]
    samples: list[Sample]

    @property
    def n_tokens(self) -> int:
        """How long it is."""
        return len(self.explanation_ids) + sum(len(sample.token_ids) for sample in self.samples)


class Encoder:
    """Writes explanations and exemplars as the simulator reads them.

    Neurons of one corpus share many sequences; each is read once.

    Args:
        tokenizer: the simulator's.
        context: how many tokens the simulator reads at most, if it says so.
    """

    def __init__(self, tokenizer: Any, context: int | None) -> None:
        self._tokenizer = tokenizer
        self._context = context
        self._aligned: dict[tuple[tuple[str, ...], tuple[int, ...]], Aligned] = {}

    def encode(self, neuron: ExplainedNeuron) -> Row:
        """A neuron's explanation, and all its exemplars to train on.

        Raises:
            SimulatorError: explanation and longest exemplar, unseen ones included, are more than the simulator reads.
        """
        bos = bos_id(self._tokenizer)
        written = self._tokenizer(PROMPT.format(explanation=neuron.explanation), add_special_tokens=False)["input_ids"]
        explanation_ids = [*([] if bos is None else [bos]), *written]
        lengths = [len(self._align(exemplar).token_ids) for exemplar in (*neuron.trained, *neuron.unseen)]
        longest = len(explanation_ids) + max(lengths, default=0)
        if self._context is not None and longest > self._context:
            raise SimulatorError(
                f"The base reads at most {self._context} tokens at once; the explanation of {neuron.name} and its "
                f"longest exemplar have {longest}. Shorten the explanation, or use a base that reads more."
            )
        samples = [self._sample(exemplar, neuron.maximum) for exemplar in neuron.trained]
        return Row(explanation_ids, [sample for sample in samples if sample.token_ids])

    def _sample(self, exemplar: Exemplar, maximum: float) -> Sample:
        aligned = self._align(exemplar)
        return Sample(aligned.token_ids, carry(aligned, levels_of(exemplar.activations, maximum)).tolist())

    def _align(self, exemplar: Exemplar) -> Aligned:
        key = tuple(exemplar.tokens), tuple(exemplar.token_ids)
        if key not in self._aligned:
            self._aligned[key] = align(exemplar.tokens, self._tokenizer, exemplar.token_ids or None)
        return self._aligned[key]


def levels_of(activations: NDArray[np.float32], maximum: float) -> NDArray[np.int64]:
    """Activations as levels: tenths of the neuron's maximum, rounded, 0 to 10."""
    top = N_LEVELS - 1
    scaled = activations.astype(np.float64) * (top / maximum) if maximum > 0 else np.zeros(len(activations))
    return np.clip(np.rint(scaled), 0, top).astype(np.int64)


def carry(aligned: Aligned, values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bring values, none negative, from the subject's tokens to the simulator's: the reverse of `Aligned.project`.

    A simulator token takes the largest value of the subject's tokens that take theirs from it, and 0 if there is none.
    """
    positions = np.arange(len(aligned.token_ids))
    carried = np.zeros(len(positions), dtype=np.int64)
    for first, last, value in zip(-aligned.project(-positions), aligned.project(positions), values, strict=True):
        carried[first : last + 1] = np.maximum(carried[first : last + 1], value)
    return carried


def divide(encoded: Sequence[Row], exemplars_per_row: int, seed: int) -> list[Row]:
    """Divide the exemplars of each neuron into rows, at random."""
    generator = np.random.default_rng(seed)
    rows: list[Row] = []
    for explanation_ids, samples in encoded:
        order = generator.permutation(len(samples))
        parts = (order[start : start + exemplars_per_row] for start in range(0, len(order), exemplars_per_row))
        rows += [Row(explanation_ids, [samples[i] for i in part]) for part in parts]
    return rows


class Collator:
    """Puts rows side by side, padded on the right.

    Args:
        padding_id: the tokenizer's.
        dtype: what the model computes in, which the mask has to be of.
    """

    def __init__(self, padding_id: int, dtype: torch.dtype = torch.float32) -> None:
        self._padding_id = padding_id
        self._dtype = dtype

    def __call__(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        """What the model is called with: all `(rows, tokens)`, but for the mask, `(rows, 1, tokens, tokens)`."""
        shape = len(rows), max(row.n_tokens for row in rows)
        ids = torch.full(shape, self._padding_id)
        positions = torch.zeros(shape, dtype=torch.long)
        labels = torch.full(shape, IGNORED)
        part = torch.full(shape, -1)
        for number, row in enumerate(rows):
            start = n_shared = len(row.explanation_ids)
            ids[number, :start] = torch.tensor(row.explanation_ids)
            positions[number, :start] = torch.arange(start)
            part[number, :start] = 0
            for rank, sample in enumerate(row.samples, start=1):
                here = slice(start, start + len(sample.token_ids))
                ids[number, here] = torch.tensor(sample.token_ids)
                positions[number, here] = torch.arange(n_shared, n_shared + len(sample.token_ids))
                labels[number, here] = torch.tensor(sample.levels)
                part[number, here] = rank
                start = here.stop
        mask = _mask(part).to(self._dtype)
        return {"input_ids": ids, "position_ids": positions, "attention_mask": mask, "labels": labels}


def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None) -> torch.Tensor:
    """Cross-entropy of the levels, each read at its own token: the labels are not shifted, as those of texts are."""
    logits = outputs.logits.float().flatten(0, 1)
    flat = labels.to(logits.device).flatten()
    total = torch.nn.functional.cross_entropy(logits, flat, ignore_index=IGNORED, reduction="sum")
    return total / (num_items_in_batch if num_items_in_batch is not None else (flat != IGNORED).sum())


def _mask(part: torch.Tensor) -> torch.Tensor:
    """Who sees whom, from each token's part: 0 is the explanation, -1 padding, which sees itself only."""
    n = part.shape[1]
    own, other = part[:, :, None], part[:, None, :]
    earlier = torch.ones(n, n, dtype=torch.bool).tril()
    visible = (earlier & ((own == other) | (other == 0)) & (own >= 0)) | torch.eye(n, dtype=torch.bool)
    hidden = torch.finfo(torch.float32).min / 2
    return torch.zeros(visible.shape).masked_fill(~visible, hidden)[:, None]
