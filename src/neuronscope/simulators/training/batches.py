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
from neuronscope.simulators.packing import pack
from neuronscope.simulators.training.material import ExplainedNeuron
from neuronscope.subject.tokens import bos_id
from neuronscope.types import Exemplar

IGNORED = -100
"""The target of tokens whose level is not learnt; torch's cross-entropy leaves it out."""
_BUCKET = 32
"""Rows whose lengths differ by less than this many tokens are as good as equally long."""


class Passage(NamedTuple):
    """An exemplar as the simulator reads it."""

    token_ids: list[int]
    levels: list[int]
    """0 to 10, one for each of the simulator's tokens."""


class Lesson(NamedTuple):
    """An explanation with all exemplars to learn from."""

    explanation_ids: list[int]
    passages: list[Passage]


class Row(NamedTuple):
    """An explanation with the exemplars that share one reading of it."""

    explanation_ids: list[int]
    passages: list[Passage]

    @property
    def n_tokens(self) -> int:
        """How long it is."""
        return len(self.explanation_ids) + sum(len(passage.token_ids) for passage in self.passages)


class Batch(NamedTuple):
    """What the model reads at once; all of shape `(rows, tokens)`, but for the mask."""

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    mask: torch.Tensor
    """Shape `(rows, 1, tokens, tokens)`, added to attention: 0 where a token may look, else hugely negative."""
    targets: torch.Tensor
    """Levels, and `IGNORED` where there is none."""


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

    def encode(self, neuron: ExplainedNeuron) -> Lesson:
        """A neuron's explanation, and its exemplars to learn from.

        Raises:
            SimulatorError: explanation and longest exemplar, unseen ones included, are more than the simulator reads.
        """
        bos = bos_id(self._tokenizer)
        written = self._tokenizer(PROMPT.format(explanation=neuron.explanation), add_special_tokens=False)["input_ids"]
        explanation_ids = [*([] if bos is None else [bos]), *written]
        lengths = [len(self._align(exemplar).token_ids) for exemplar in (*neuron.learnt, *neuron.unseen)]
        longest = len(explanation_ids) + max(lengths, default=0)
        if self._context is not None and longest > self._context:
            raise SimulatorError(
                f"The base reads at most {self._context} tokens at once; the explanation of {neuron.name} and its "
                f"longest exemplar have {longest}. Shorten the explanation, or use a base that reads more."
            )
        passages = [self._passage(exemplar, neuron.maximum) for exemplar in neuron.learnt]
        return Lesson(explanation_ids, [passage for passage in passages if passage.token_ids])

    def _passage(self, exemplar: Exemplar, maximum: float) -> Passage:
        aligned = self._align(exemplar)
        return Passage(aligned.token_ids, carry(aligned, levels_of(exemplar.activations, maximum)).tolist())

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


def plan(lessons: Sequence[Lesson], exemplars_per_row: int, batch_tokens: int, seed: Sequence[int]) -> list[list[Row]]:
    """Divide all exemplars into batches of rows of similar length, in random order."""
    generator = np.random.default_rng(seed)
    rows: list[Row] = []
    for lesson in lessons:
        order = generator.permutation(len(lesson.passages))
        for start in range(0, len(order), exemplars_per_row):
            chosen = [lesson.passages[i] for i in order[start : start + exemplars_per_row]]
            rows.append(Row(lesson.explanation_ids, chosen))
    rows = [rows[i] for i in generator.permutation(len(rows))]
    lengths = [-(-row.n_tokens // _BUCKET) * _BUCKET for row in rows]
    batches = pack(lengths, range(len(rows)), batch_tokens)
    return [[rows[i] for i in batches[number]] for number in generator.permutation(len(batches))]


def collate(rows: Sequence[Row], padding_id: int) -> Batch:
    """Put rows side by side, padded on the right."""
    shape = len(rows), max(row.n_tokens for row in rows)
    ids = torch.full(shape, padding_id)
    positions = torch.zeros(shape, dtype=torch.long)
    targets = torch.full(shape, IGNORED)
    part = torch.full(shape, -1)
    for number, row in enumerate(rows):
        start = n_shared = len(row.explanation_ids)
        ids[number, :start] = torch.tensor(row.explanation_ids)
        positions[number, :start] = torch.arange(start)
        part[number, :start] = 0
        for rank, passage in enumerate(row.passages, start=1):
            here = slice(start, start + len(passage.token_ids))
            ids[number, here] = torch.tensor(passage.token_ids)
            positions[number, here] = torch.arange(n_shared, n_shared + len(passage.token_ids))
            targets[number, here] = torch.tensor(passage.levels)
            part[number, here] = rank
            start = here.stop
    return Batch(ids, positions, _mask(part), targets)


def _mask(part: torch.Tensor) -> torch.Tensor:
    """Who sees whom, from each token's part: 0 is the explanation, -1 padding, which sees itself only."""
    n = part.shape[1]
    own, other = part[:, :, None], part[:, None, :]
    earlier = torch.ones(n, n, dtype=torch.bool).tril()
    visible = (earlier & ((own == other) | (other == 0)) & (own >= 0)) | torch.eye(n, dtype=torch.bool)
    hidden = torch.finfo(torch.float32).min / 2
    return torch.zeros(visible.shape).masked_fill(~visible, hidden)[:, None]
