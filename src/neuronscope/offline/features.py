"""Which conditions explain a neuron's activations: features of its exemplars' tokens, and a matching pursuit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from neuronscope.offline.conditions import STRENGTH_LEVELS, Condition, Form, predict
from neuronscope.offline.english import quotable
from neuronscope.offline.kinds import AFTER_PHRASES, COLUMN, PHRASES
from neuronscope.offline.text import text_of
from neuronscope.offline.tokens import TokenFeatures, token_features
from neuronscope.types import Exemplar, normalise

SHRINKAGE = 1.0
"""Inactive occurrences added to every condition: what was seen once is believed half."""
MINIMUM_COUNT = {"token": 1, "pair": 2, "after": 6, "named": 6}
"""How often a kind of condition must occur before it may be selected."""
MINIMUM_WORDS = 4
"""On so many different words the neuron must be active before something that they share may be selected."""
AFFIXES = (2, 3, 4)
"""Letters of endings and beginnings of words."""
KEPT = 4096
"""Sequences whose conditions are kept in memory."""
AFFIX_WORD = 3
"""Letters that a word has beside its ending or beginning, at least."""
MINIMUM_STRENGTH = 0.6
"""Weaker conditions are not worth a word."""
_RANK = {"after": 0, "named": 1, "token": 2, "pair": 3}
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
    """By kind ("token", "pair", "after", "named"): the conditions that some token fulfils."""
    codes: dict[str, NDArray[np.int64]]
    """By kind, shape `(tokens, n)`: the indices of the up to n candidates that each token fulfils; -1 for none."""
    words: NDArray[np.int64]
    """Shape `(tokens,)`: the number of the token's content among those that differ."""

    @classmethod
    def of(cls, exemplars: Sequence[Exemplar], maximum: float) -> Features:
        """Those of some exemplars, with `maximum` as 10 on the scale."""
        read = [_read(tuple(exemplar.tokens)) for exemplar in exemplars]
        sequences = [tokens for tokens, _ in read]
        pooled = _pooled([exemplar.activations for exemplar in exemplars])
        lengths = [len(exemplar.activations) for exemplar in exemplars]
        indices: dict[str, dict[Condition, int]] = {kind: {} for kind in _RANK}
        codes: dict[str, list[list[int]]] = {kind: [] for kind in _RANK}
        for _, rows in read:
            for fulfilled in rows:
                for kind, known in indices.items():
                    found = fulfilled.get(kind, ())
                    codes[kind].append([known.setdefault(condition, len(known)) for condition in found])
        contents: dict[str, int] = {}
        words = [contents.setdefault(each, len(contents)) for tokens in sequences for each in tokens.contents]
        return cls(
            sequences=sequences,
            activations=normalise(pooled, maximum),
            exemplar_index=np.repeat(np.arange(len(exemplars)), lengths),
            candidates={kind: list(known) for kind, known in indices.items()},
            codes={kind: _filled(rows) for kind, rows in codes.items()},
            words=np.asarray(words, dtype=np.int64),
        )

    def predict(self, sets: Sequence[Sequence[Condition]]) -> tuple[Floats, NDArray[np.int64]]:
        """What sets of conditions predict on each token: the largest of their strengths, and its rank, -1 for none."""
        values = np.zeros(len(self.activations))
        ranks = np.full(len(self.activations), -1)
        for conditions in sets:
            predicted = _pooled([predict(conditions, tokens) for tokens in self.sequences])
            for condition in conditions:
                if condition.form == "kind":
                    here = self._is_named(condition)
                    predicted[here] = np.fmax(predicted[here], condition.strength)
            values = np.fmax(values, predicted)
            ranks = np.where(np.isnan(predicted), ranks, _RANK["token"])
        return values, ranks

    def _is_named(self, kind: Condition) -> NDArray[np.bool_]:
        """Shape `(tokens,)`: which tokens are of a kind."""
        pattern = kind.pattern
        if pattern not in self.candidates["named"]:
            return np.zeros(len(self.activations), dtype=np.bool_)
        found: NDArray[np.bool_] = (self.codes["named"] == self.candidates["named"].index(pattern)).any(axis=1)
        return found

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
        gains = [_Gains(self, kind, weights, predicted, ranks) for kind in _RANK]
        selected: list[Selected] = []
        for _ in range(n):
            best = max(gains, key=lambda each: each.best[0])
            gain, index = best.best
            if gain <= 1e-6:
                break
            value, covered = float(best.value[index]), best.covered(index)
            predicted[covered], ranks[covered] = value, _RANK[best.kind]
            for each in gains:
                each.update(covered)
            selected.append(Selected(replace(self.candidates[best.kind][index], strength=value), gain))
        return selected

    def estimate(self, condition: Condition) -> float:
        """The shrunken mean activation where a condition holds, 0-10."""
        fulfilled, _ = self.predict([[replace(condition, strength=STRENGTH_LEVELS[0])]])
        observed = self.activations[fulfilled > 0]
        return float(observed.sum() / (len(observed) + SHRINKAGE))


class _Gains:
    """What each candidate of a kind would remove of the squared error that is left, after every selection.

    A selection changes the gain of those candidates alone that one of its tokens fulfils, too. Only their sums are
    made anew, over their tokens in the same order.

    Args:
        features: the features.
        kind: the kind.
        weights: shape `(tokens,)`; how much each token counts.
        predicted: shape `(tokens,)`; what is predicted so far; the caller writes into it, and into the ranks.
        ranks: shape `(tokens,)`; the rank of what predicts it.
    """

    def __init__(
        self, features: Features, kind: str, weights: Floats, predicted: Floats, ranks: NDArray[np.int64]
    ) -> None:
        self.kind = kind
        self._activations, self._codes = features.activations, features.codes[kind]
        self._weights, self._predicted, self._ranks = weights, predicted, ranks
        size = len(features.candidates[kind])
        flat = self._codes.ravel()
        places = np.argsort(flat, kind="stable")[int((flat < 0).sum()) :]
        self._tokens = places // max(self._codes.shape[1], 1)
        self._starts = np.searchsorted(flat[places], np.arange(size + 1))
        self._shared = _is_shared(features, self._tokens, self._starts) if kind == "named" else np.ones(size, np.bool_)
        self.value = np.zeros(size)
        """Of each candidate the strength, 0-10."""
        self._gain = np.zeros(size)
        self._recompute(np.arange(size))

    @property
    def best(self) -> tuple[float, int]:
        """The largest gain, and whose it is; 0 where there is no candidate."""
        if not len(self._gain):
            return 0.0, -1
        index = int(self._gain.argmax())
        return float(self._gain[index]), index

    def covered(self, index: int) -> NDArray[np.int64]:
        """The tokens that a candidate would decide."""
        tokens = self._tokens[self._starts[index] : self._starts[index + 1]]
        found: NDArray[np.int64] = tokens[self._ranks[tokens] < _RANK[self.kind]]
        return found

    def update(self, changed: NDArray[np.int64]) -> None:
        """Take in what is predicted of some tokens now."""
        codes = self._codes[changed]
        self._recompute(np.unique(codes[codes >= 0]))

    def _recompute(self, candidates: NDArray[np.int64]) -> None:
        lengths = self._starts[candidates + 1] - self._starts[candidates]
        own = np.repeat(np.arange(len(candidates)), lengths)
        offsets = self._starts[candidates] - np.cumsum(lengths) + lengths
        tokens = self._tokens[np.arange(len(own)) + offsets[own]]
        free = (self._ranks[tokens] < _RANK[self.kind]) & (self._weights[tokens] > 0)
        own, tokens = own[free], tokens[free]
        mass, actual, before = self._weights[tokens], self._activations[tokens], self._predicted[tokens]

        def total(values: Floats) -> Floats:
            found: Floats = np.bincount(own, weights=values, minlength=len(candidates)).astype(np.float64)
            return found

        weight, activity = total(mass) + SHRINKAGE, total(mass * actual)
        value = _quantised(activity / weight)
        error_before = total(mass * (before**2 - 2 * before * actual))
        error_after = value**2 * weight - 2 * value * activity
        often = np.bincount(own, minlength=len(candidates)) >= MINIMUM_COUNT[self.kind]
        allowed = often & (value > 0) & self._shared[candidates]
        self.value[candidates] = value
        self._gain[candidates] = np.where(allowed, error_before - error_after, 0.0)


def _is_shared(features: Features, tokens: NDArray[np.int64], starts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Of each candidate, whether the neuron is active on enough different words of it."""
    active = features.activations[tokens] >= MINIMUM_STRENGTH
    owners = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    pairs = np.unique(np.stack([owners[active], features.words[tokens[active]]]), axis=1)
    found: NDArray[np.bool_] = np.bincount(pairs[0], minlength=len(starts) - 1) >= MINIMUM_WORDS
    return found


def _filled(rows: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Rows of one length, filled up with -1."""
    out = np.full((len(rows), max(map(len, rows), default=0)), -1, dtype=np.int64)
    for row, codes in zip(out, rows, strict=True):
        row[: len(codes)] = codes
    return out


@lru_cache(maxsize=KEPT)
def _read(tokens: tuple[str, ...]) -> tuple[TokenFeatures, list[dict[str, tuple[Condition, ...]]]]:
    """A sequence, and the conditions that each of its tokens fulfils, by kind: neurons share their sequences."""
    features = token_features(tokens)
    rows = []
    for position, named in enumerate(_named(tokens)):
        fulfilled = {kind: (one,) for kind, one in conditions_at(features, position).items()}
        rows.append({**fulfilled, "named": tuple(named)})
    return features, rows


def _named(tokens: Sequence[str]) -> list[list[Condition]]:
    """What each token shares with others: its kinds, and the ending and beginning of the word that it completes."""
    text = text_of(tokens)
    found: list[list[Condition]] = []
    for position, word in enumerate(text.words):
        kinds = [condition for name, condition in _KINDS.items() if text.kinds[position, COLUMN[name]]]
        is_word = bool(word) and not text.continues[position]
        if position and (is_word or text.contents[position].isdigit()):
            before = text.kinds[position - 1]
            kinds += [condition for name, condition in _AFTER_KINDS.items() if before[COLUMN[name]]]
        is_last = position + 1 == len(tokens) or not text.continues[position + 1]
        if word.isalpha() and is_last:
            lengths = [n for n in AFFIXES if len(word) >= n + AFFIX_WORD]
            kinds += [Condition(word[-n:], (), 0.0, "ending") for n in lengths]
            kinds += [Condition(word[:n], (), 0.0, "beginning") for n in lengths]
        found.append(kinds)
    return found


_KINDS = {name: Condition(phrase, (), 0.0, "kind") for name, phrase in PHRASES.items()}
_AFTER_KINDS = {name: Condition(phrase, (), 0.0, "kind") for name, phrase in AFTER_PHRASES.items()}


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
