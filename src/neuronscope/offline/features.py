"""Which conditions explain a neuron's activations: features of its exemplars' tokens, and a matching pursuit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from neuronscope.offline.conditions import STRENGTH_LEVELS, Condition, Form, predict
from neuronscope.offline.english import quotable
from neuronscope.offline.tokens import TokenFeatures, token_features
from neuronscope.types import Exemplar, normalise

SHRINKAGE = 1.0
"""Inactive occurrences added to every condition: what was seen once is believed half."""
MINIMUM_COUNT = {"token": 1, "pair": 2, "after": 6}
"""How often a kind of condition must occur before it may be selected."""
MINIMUM_STRENGTH = 0.6
"""Weaker conditions are not worth a word."""
_RANK = {"after": 0, "token": 1, "pair": 2}
"""More specific conditions override less specific ones, here as in the simulator."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Selected:
    """A condition that matching pursuit selected, and how much of the neuron's activity it explains."""

    condition: Condition
    """The strength is the shrunken mean activation, on the scale 0-10."""
    gain: float
    """The squared error that it removes from the prediction."""


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """The features that matching pursuit selects from, one row per token: which conditions each token fulfils."""

    sequences: list[TokenFeatures]
    """The exemplars' tokens."""
    activations: Floats
    """Shape `(tokens,)`, on the scale 0-10."""
    exemplar_index: NDArray[np.int64]
    """Shape `(tokens,)`: which of the exemplars the token is in."""
    candidates: dict[str, list[Condition]]
    """By kind ("token", "pair", "after"): the conditions that some token fulfils."""
    codes: dict[str, NDArray[np.int64]]
    """By kind, shape `(tokens,)`: the index of the candidate that each token fulfils; -1 for none."""

    @classmethod
    def of(cls, exemplars: Sequence[Exemplar], maximum: float) -> Features:
        """Those of some exemplars, with `maximum` as 10 on the scale."""
        sequences = [token_features(exemplar.tokens) for exemplar in exemplars]
        pooled = _pooled([exemplar.activations for exemplar in exemplars])
        lengths = [len(exemplar.activations) for exemplar in exemplars]
        indices: dict[str, dict[Condition, int]] = {kind: {} for kind in _RANK}
        codes: dict[str, list[int]] = {kind: [] for kind in _RANK}
        for tokens in sequences:
            for position in range(len(tokens.contents)):
                fulfilled = conditions_at(tokens, position)
                for kind, known in indices.items():
                    condition = fulfilled.get(kind)
                    codes[kind].append(-1 if condition is None else known.setdefault(condition, len(known)))
        return cls(
            sequences=sequences,
            activations=normalise(pooled, maximum),
            exemplar_index=np.repeat(np.arange(len(exemplars)), lengths),
            candidates={kind: list(known) for kind, known in indices.items()},
            codes={kind: np.asarray(row, dtype=np.int64) for kind, row in codes.items()},
        )

    def predict(self, sets: Sequence[Sequence[Condition]]) -> tuple[Floats, NDArray[np.int64]]:
        """What sets of conditions predict on each token: the largest of their strengths, and its rank, -1 for none."""
        values = np.zeros(len(self.activations))
        ranks = np.full(len(self.activations), -1)
        for conditions in sets:
            predicted = _pooled([predict(conditions, tokens) for tokens in self.sequences])
            values = np.fmax(values, predicted)
            ranks = np.where(np.isnan(predicted), ranks, _RANK["token"])
        return values, ranks

    def explained(self, sets: Sequence[Sequence[Condition]]) -> float:
        """The squared error that sets of conditions remove from a prediction of 0."""
        predicted, _ = self.predict(sets)
        return float((self.activations**2 - (self.activations - predicted) ** 2).sum())

    def matching_pursuit(
        self, n: int, weights: Floats | None = None, given: Sequence[Sequence[Condition]] = ()
    ) -> list[Selected]:
        """Greedily select up to `n` conditions, each the one that removes most of the remaining squared error.

        Args:
            n: at most this many.
            weights: shape `(tokens,)`; how much each token counts (default: all alike).
            given: sets of conditions whose predictions are taken as given; only what they leave is looked for.
        """
        weights = np.ones(len(self.activations)) if weights is None else weights
        predicted, ranks = self.predict(given)
        selected: list[Selected] = []
        for _ in range(n):
            best = max((self._best_of(kind, weights, predicted, ranks) for kind in _RANK), key=lambda each: each[0])
            gain, kind, index = best
            if gain <= 1e-6:
                break
            covered = (self.codes[kind] == index) & (ranks < _RANK[kind])
            value = float(_quantised(self._means(kind, covered, weights))[index])
            predicted[covered], ranks[covered] = value, _RANK[kind]
            selected.append(Selected(replace(self.candidates[kind][index], strength=value), gain))
        return selected

    def estimate(self, condition: Condition) -> float:
        """The shrunken mean activation where a condition holds, 0-10."""
        fulfilled, _ = self.predict([[replace(condition, strength=STRENGTH_LEVELS[0])]])
        observed = self.activations[fulfilled > 0]
        return float(observed.sum() / (len(observed) + SHRINKAGE))

    def _best_of(
        self, kind: str, weights: Floats, predicted: Floats, ranks: NDArray[np.int64]
    ) -> tuple[float, str, int]:
        """The gain, kind and index of the best condition of a kind."""
        free = (self.codes[kind] >= 0) & (ranks < _RANK[kind]) & (weights > 0)
        size = len(self.candidates[kind])
        if not size or not free.any():
            return 0.0, kind, -1
        codes, mass = self.codes[kind][free], weights[free]
        actual, before = self.activations[free], predicted[free]
        value = _quantised(self._means(kind, free, weights))
        error_before = np.bincount(codes, weights=mass * (before**2 - 2 * before * actual), minlength=size)
        total = np.bincount(codes, weights=mass * actual, minlength=size)
        error_after = value**2 * (np.bincount(codes, weights=mass, minlength=size) + SHRINKAGE) - 2 * value * total
        allowed = (np.bincount(codes, minlength=size) >= MINIMUM_COUNT[kind]) & (value > 0)
        gain = np.where(allowed, error_before - error_after, 0.0)
        index = int(gain.argmax())
        return float(gain[index]), kind, index

    def _means(self, kind: str, where: NDArray[np.bool_], weights: Floats) -> Floats:
        """The shrunken mean activation of every condition of a kind, over some tokens."""
        codes, mass, size = self.codes[kind][where], weights[where], len(self.candidates[kind])
        total = np.bincount(codes, weights=mass * self.activations[where], minlength=size)
        return total / (np.bincount(codes, weights=mass, minlength=size) + SHRINKAGE)


def _pooled(rows: Sequence[NDArray[np.float32]]) -> Floats:
    """All tokens of all exemplars in one row; there may be none."""
    return np.concatenate([np.zeros(0), *rows])


def _quantised(values: Floats) -> Floats:
    """The nearest strengths that a sentence can express; 0 for what is too weak to mention."""
    levels = np.array(STRENGTH_LEVELS)
    nearest = np.abs(np.log(np.maximum(values, 1e-9))[:, None] - np.log(levels)).argmin(axis=1)
    return np.where(values >= MINIMUM_STRENGTH, levels[nearest], 0.0)


def conditions_at(tokens: TokenFeatures, position: int) -> dict[str, Condition]:
    """The conditions that one token fulfils, by kind ("token", "pair", "after"), as patterns; few cannot be quoted."""
    content = tokens.contents[position]
    if not quotable(content):
        return {}
    form: Form = "part" if tokens.continues[position] and content[0].isalpha() else "word"
    token = Condition(content, (), 0.0, form)
    if position == 0:
        return {"token": token}
    previous = tokens.contents[position - 1]
    if not quotable(previous):
        return {"token": token}
    inside = tokens.continues[position - 1] and previous[0].isalpha()
    before = f"-{previous}" if inside else previous
    return {
        "token": token,
        "pair": Condition(content, (before,), 0.0, form),
        "after": Condition("", (before,), 0.0),
    }
