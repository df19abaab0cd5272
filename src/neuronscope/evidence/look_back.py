"""How far a neuron looks back: what its peaks are with less and less of the text before them.

This tells a word from a context, and the context that has to be written from all that happens to stand there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neuronscope.evidence.record import LookBack
from neuronscope.evidence.texts import occurrence
from neuronscope.evidence.vocabulary import leading
from neuronscope.interfaces import Subject
from neuronscope.subject.sites import activations_at
from neuronscope.types import SCALE, Exemplar, Neuron

LENGTHS = (0, 1, 2, 4, 8, 16, 32)
"""Tokens of the text before a peak that are left standing."""
NEARLY = 0.8
"""A context is enough with this share of the effect that the longest one has."""
DECISIVE = 0.7
"""A token matters if without it no more than this share is left."""
LEFT_OUT = 16
"""Tokens before the peak that are left out in turn, at most."""
SHOWN_CHARACTERS = 160
"""How much of a context is kept, at most: about as much as the longest has."""
_BATCH = 32


def look_back(
    subject: Subject, neuron: Neuron, peaks: Sequence[tuple[Exemplar, int]], maximum: float
) -> tuple[LookBack, ...]:
    """Run the model on cut contexts, and then on the needed one without each of its tokens: two batches for all peaks.

    Args:
        subject: the model.
        neuron: the neuron.
        peaks: texts, and the position in each that is looked at.
        maximum: the neuron's largest activation.

    Raises:
        SubjectError: the subject cannot run them.
    """
    reader = _Reader(subject, neuron, maximum)
    contexts = [[int(token) for token in exemplar.token_ids[max(0, at - LENGTHS[-1]) : at]] for exemplar, at in peaks]
    tokens = [int(exemplar.token_ids[at]) for exemplar, at in peaks]
    lengths = [[n for n in LENGTHS if n < len(context)] + [len(context)] for context in contexts]
    cut = reader.read(
        [
            [[*_last(context, n), token] for n in own]
            for context, token, own in zip(contexts, tokens, lengths, strict=True)
        ]
    )
    needed = [
        next(n for n, value in zip(own, values, strict=True) if value >= NEARLY * values[-1])
        for own, values in zip(lengths, cut, strict=True)
    ]
    tried = [range(min(n, LEFT_OUT)) for n in needed]
    without = reader.read(
        [
            [[*_without(_last(context, n), back), token] for back in own]
            for context, token, n, own in zip(contexts, tokens, needed, tried, strict=True)
        ]
    )
    return tuple(
        _found(peak, maximum, list(zip(own, values, strict=True)), n, left)
        for peak, own, values, n, left in zip(peaks, lengths, cut, needed, without, strict=True)
    )


class _Reader:
    """The neuron's activation at the last token of sequences, on the scale 0-10."""

    def __init__(self, subject: Subject, neuron: Neuron, maximum: float) -> None:
        self._subject = subject
        self._neuron = neuron
        self._factor = neuron.sign * SCALE / maximum
        self._lead = leading(subject)

    def read(self, groups: Sequence[Sequence[Sequence[int]]]) -> list[list[float]]:
        """All groups' sequences together, in batches of similar length."""
        sequences = [[*self._lead, *sequence] for group in groups for sequence in group]
        order = sorted(range(len(sequences)), key=lambda number: len(sequences[number]))
        values = np.zeros(len(sequences))
        layer, site = self._neuron.layer, self._neuron.site
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            rows = activations_at(self._subject, [sequences[number] for number in batch], [layer], site)[layer]
            values[batch] = [max(0.0, float(row[-1, self._neuron.index]) * self._factor) for row in rows]
        found = iter(values.tolist())
        return [[next(found) for _ in group] for group in groups]


def _last(context: Sequence[int], n: int) -> Sequence[int]:
    return context[len(context) - n :]


def _without(context: Sequence[int], back: int) -> list[int]:
    """The context without the token that stands so far before its last one."""
    position = len(context) - 1 - back
    return [*context[:position], *context[position + 1 :]]


def _found(
    peak: tuple[Exemplar, int], maximum: float, cut: list[tuple[int, float]], needed: int, without: Sequence[float]
) -> LookBack:
    exemplar, at = peak
    level = float(exemplar.activations[at]) * SCALE / maximum
    enough = dict(cut)[needed]
    back = int(np.argmin(without)) if len(without) else 0
    matters = len(without) > 0 and without[back] <= DECISIVE * enough
    return LookBack(
        peak=occurrence(exemplar, at, level, SHOWN_CHARACTERS),
        by_length=tuple((n, round(value, 1)) for n, value in cut),
        needed=needed,
        decisive=exemplar.tokens[at - 1 - back] if matters else "",
        without=round(without[back], 1) if matters else None,
    )
