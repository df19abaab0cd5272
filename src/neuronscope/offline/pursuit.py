"""What tokens a neuron fires on, as conditions of the explanation grammar, by matching pursuit over exemplars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from neuronscope.offline.english import STRENGTHS, Condition, Form, quotable, read, write
from neuronscope.offline.features import View, view
from neuronscope.simulators.hybrid import quoted_strengths
from neuronscope.types import Exemplar

SHRINKAGE = 1.0
"""Silent occurrences added to every condition: what was seen once is believed half."""
MINIMUM_COUNT = {"token": 1, "pair": 2, "after": 6}
"""How often a kind of condition must occur before it may be stated."""
MINIMUM_STRENGTH = 0.6
"""Weaker conditions are not worth a word."""
_RANK = {"after": 0, "token": 1, "pair": 2}
"""More specific conditions override less specific ones, here as in the simulator."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Weighted:
    """A condition, and how much of the neuron's activity it explains."""

    condition: Condition
    """The strength is the shrunken mean activation, on the scale 0-10."""
    gain: float
    """The squared error that it removes from the prediction."""


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Exemplars as columns: one row per token."""

    views: list[View]
    """The exemplars' texts."""
    activations: Floats
    """Shape `(tokens,)`, on the scale 0-10."""
    owner: NDArray[np.int64]
    """Shape `(tokens,)`: the number of the exemplar."""
    candidates: dict[str, list[Condition]]
    """By kind ("token", "pair", "after"): the conditions that some token fulfils."""
    codes: dict[str, NDArray[np.int64]]
    """By kind, shape `(tokens,)`: which candidate each token fulfils; -1 for none."""

    @classmethod
    def of(cls, exemplars: Sequence[Exemplar], maximum: float) -> Evidence:
        """Arrange exemplars, with `maximum` as 10 on the scale."""
        views = [view(exemplar.tokens) for exemplar in exemplars]
        pooled = _pooled([exemplar.activations for exemplar in exemplars])
        owner = np.repeat(np.arange(len(exemplars)), [len(exemplar.activations) for exemplar in exemplars])
        numbers: dict[str, dict[Condition, int]] = {kind: {} for kind in _RANK}
        codes: dict[str, list[int]] = {kind: [] for kind in _RANK}
        for seen in views:
            for position in range(len(seen.contents)):
                fulfilled = _fulfilled(seen, position)
                for kind, known in numbers.items():
                    condition = fulfilled.get(kind)
                    codes[kind].append(-1 if condition is None else known.setdefault(condition, len(known)))
        return cls(
            views=views,
            activations=np.clip(pooled * (10.0 / maximum), 0.0, 10.0) if maximum > 0 else np.zeros_like(pooled),
            owner=owner,
            candidates={kind: list(known) for kind, known in numbers.items()},
            codes={kind: np.asarray(row, dtype=np.int64) for kind, row in codes.items()},
        )

    def stated(self, explanations: Sequence[str]) -> tuple[Floats, NDArray[np.int64]]:
        """What explanations say of each token by their quotes: the largest strength, and the rank that said it."""
        values = np.zeros(len(self.activations))
        ranks = np.full(len(self.activations), -1)
        for explanation in explanations:
            reading = read(explanation)
            said = _pooled([quoted_strengths(reading, seen) for seen in self.views])
            values = np.fmax(values, said)
            ranks = np.where(np.isnan(said), ranks, _RANK["token"])
        return values, ranks

    def pursue(self, n: int, weights: Floats | None = None, stated: Sequence[str] = ()) -> list[Weighted]:
        """Greedily choose up to `n` conditions, each the one that removes most of the remaining squared error.

        Args:
            n: at most this many.
            weights: shape `(tokens,)`; how much each token counts (default: all alike).
            stated: explanations whose predictions are taken as given; only what they leave unsaid is looked for.
        """
        weights = np.ones(len(self.activations)) if weights is None else weights
        predicted, ranks = self.stated(stated)
        chosen: list[Weighted] = []
        for _ in range(n):
            best = max((self._best_of(kind, weights, predicted, ranks) for kind in _RANK), key=lambda found: found[0])
            gain, kind, number = best
            if gain <= 1e-6:
                break
            covered = (self.codes[kind] == number) & (ranks < _RANK[kind])
            value = float(_sayable(self._means(kind, covered, weights))[number])
            predicted[covered], ranks[covered] = value, _RANK[kind]
            condition = self.candidates[kind][number]
            chosen.append(Weighted(Condition(condition.text, condition.after, value, condition.form), gain))
        return chosen

    def estimate(self, condition: Condition) -> float:
        """The shrunken mean activation where a condition holds, 0-10."""
        fulfilled, _ = self.stated([write([replace(condition, strength=STRENGTHS[0][1])])])
        observed = self.activations[fulfilled > 0]
        return float(observed.sum() / (len(observed) + SHRINKAGE))

    def _best_of(
        self, kind: str, weights: Floats, predicted: Floats, ranks: NDArray[np.int64]
    ) -> tuple[float, str, int]:
        """The gain, kind and number of the best condition of a kind."""
        free = (self.codes[kind] >= 0) & (ranks < _RANK[kind]) & (weights > 0)
        size = len(self.candidates[kind])
        if not size or not free.any():
            return 0.0, kind, -1
        codes, mass = self.codes[kind][free], weights[free]
        actual, said = self.activations[free], predicted[free]
        value = _sayable(self._means(kind, free, weights))
        before = np.bincount(codes, weights=mass * (said**2 - 2 * said * actual), minlength=size)
        total = np.bincount(codes, weights=mass * actual, minlength=size)
        after = value**2 * (np.bincount(codes, weights=mass, minlength=size) + SHRINKAGE) - 2 * value * total
        allowed = (np.bincount(codes, minlength=size) >= MINIMUM_COUNT[kind]) & (value > 0)
        gain = np.where(allowed, before - after, 0.0)
        number = int(gain.argmax())
        return float(gain[number]), kind, number

    def _means(self, kind: str, where: NDArray[np.bool_], weights: Floats) -> Floats:
        """The shrunken mean activation of every condition of a kind, over some tokens."""
        codes, mass, size = self.codes[kind][where], weights[where], len(self.candidates[kind])
        total = np.bincount(codes, weights=mass * self.activations[where], minlength=size)
        return total / (np.bincount(codes, weights=mass, minlength=size) + SHRINKAGE)


def _pooled(rows: Sequence[NDArray[np.float32]]) -> Floats:
    """All tokens of all exemplars in one row; there may be none."""
    return np.concatenate([np.zeros(0), *rows])


def _sayable(values: Floats) -> Floats:
    """The strengths that the grammar has words for, nearest to these; 0 for what is too weak to mention."""
    levels = np.array([strength for _, strength in STRENGTHS])
    nearest = np.abs(np.log(np.maximum(values, 1e-9))[:, None] - np.log(levels)).argmin(axis=1)
    return np.where(values >= MINIMUM_STRENGTH, levels[nearest], 0.0)


def _fulfilled(seen: View, position: int) -> dict[str, Condition]:
    """The conditions that one token fulfils, by kind."""
    content = seen.contents[position]
    if not quotable(content):
        return {}
    form: Form = "part" if seen.continues[position] and content[0].isalpha() else "word"
    token = Condition(content, (), 0.0, form)
    if position == 0:
        return {"token": token}
    previous = seen.contents[position - 1]
    if not quotable(previous):
        return {"token": token}
    inside = seen.continues[position - 1] and previous[0].isalpha()
    before = f"-{previous}" if inside else previous
    return {
        "token": token,
        "pair": Condition(content, (before,), 0.0, form),
        "after": Condition("", (before,), 0.0),
    }
