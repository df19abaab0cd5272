"""Which conditions explain a neuron's activations: features of its exemplars' tokens, and a matching pursuit."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from threading import Lock
from typing import Generic, TypeVar

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
NAMED = ("kind", "ending", "beginning")
"""Forms of conditions that are told from a token's place."""
MINIMUM_WORDS = 4
"""On so many different words the neuron must be active before something that they share may be selected."""
AFFIXES = (2, 3, 4)
"""Letters of endings and beginnings of words."""
KEPT = 4096
"""Sequences whose conditions are kept in memory."""
MOST_NUMBERED = 1_000_000
"""Conditions that are numbered: some hundred megabytes."""
AFFIX_WORD = 3
"""Letters that a word has beside its ending or beginning, at least."""
BEGUN_SHARE = 0.5
"""A token that a longer word goes on from in more than this share of its occurrences is a piece."""
MINIMUM_STRENGTH = 0.6
"""Weaker conditions are not worth a word."""
_RANK = {"after": 0, "named": 1, "token": 2, "pair": 3}
"""More specific conditions override less specific ones, here as in the simulator."""

Floats = NDArray[np.float64]
Each = TypeVar("Each")


@dataclass(frozen=True, slots=True)
class Selected:
    """A condition that matching pursuit selected, and how much of the neuron's activity it explains."""

    condition: Condition
    """The strength is the shrunken mean activation, on the scale 0-10."""
    gain: float
    """The squared error that it removes from the prediction."""


@dataclass(slots=True, eq=False)
class _Tokens:
    """The tokens that fulfil each candidate of a kind."""

    tokens: NDArray[np.int64]
    """Those of the first candidate, in the order of the text, then those of the second, ..."""
    starts: NDArray[np.int64]
    """Shape `(candidates + 1,)`: where each candidate's begin."""
    is_shared: NDArray[np.bool_]
    """Shape `(candidates,)`: which may be selected."""

    @classmethod
    def of(cls, codes: NDArray[np.int64], size: int) -> _Tokens:
        flat = codes.ravel()
        places = np.argsort(flat, kind="stable")[int((flat < 0).sum()) :]
        starts = np.searchsorted(flat[places], np.arange(size + 1))
        return cls(places // max(codes.shape[1], 1), starts, np.ones(size, np.bool_))


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
    tokens: dict[str, _Tokens]
    """By kind: the tokens that fulfil each candidate."""

    @classmethod
    def of(cls, exemplars: Sequence[Exemplar], maximum: float) -> Features:
        """Those of some exemplars, with `maximum` as 10 on the scale."""
        known = _vocabulary()
        read = [_read(tuple(exemplar.tokens), known) for exemplar in exemplars]
        pooled = _pooled([exemplar.activations for exemplar in exemplars])
        lengths = [len(exemplar.activations) for exemplar in exemplars]
        numbered = {kind: _numbered([each.codes[kind] for each in read], known.of[kind].listed) for kind in _RANK}
        tokens = {kind: _Tokens.of(codes, len(found)) for kind, (found, codes) in numbered.items()}
        activations = normalise(pooled, maximum)
        _, words = _numbered([each.words for each in read], known.contents.listed)
        tokens["named"].is_shared &= _is_shared(tokens["named"], activations, words.ravel())
        return cls(
            sequences=[each.tokens for each in read],
            activations=activations,
            exemplar_index=np.repeat(np.arange(len(exemplars)), lengths),
            candidates={kind: found for kind, (found, _) in numbered.items()},
            codes={kind: codes for kind, (_, codes) in numbered.items()},
            words=words.ravel(),
            tokens=tokens,
        )

    def predict(self, sets: Sequence[Sequence[Condition]]) -> tuple[Floats, NDArray[np.int64]]:
        """What sets of conditions predict on each token: the largest of their strengths, and its rank, -1 for none."""
        values = np.zeros(len(self.activations))
        ranks = np.full(len(self.activations), -1)
        for conditions in sets:
            named = [condition for condition in conditions if condition.form in NAMED]
            others = [condition for condition in conditions if condition.form not in NAMED]
            predicted = _pooled([predict(others, tokens) for tokens in self.sequences])
            for condition in named:
                here = self._is_named(condition) & (predicted != 0)
                predicted[here] = np.fmax(predicted[here], condition.strength)
            values = np.fmax(values, predicted)
            ranks = np.where(np.isnan(predicted), ranks, _RANK["token"])
        return values, ranks

    def _is_named(self, condition: Condition) -> NDArray[np.bool_]:
        """Shape `(tokens,)`: which tokens are of a kind, or have an ending or beginning."""
        found = np.zeros(len(self.activations), dtype=np.bool_)
        with suppress(ValueError):  # none has
            tokens = self.tokens["named"]
            index = self.candidates["named"].index(condition.pattern)
            found[tokens.tokens[tokens.starts[index] : tokens.starts[index + 1]]] = True
        return found

    def begun(self) -> frozenset[str]:
        """Texts of tokens that mostly begin a longer word: what such a piece means, its letters do not tell."""
        followed = np.concatenate(
            [np.zeros(0, np.bool_), *(np.append(one.continues[1:], False) for one in self.sequences)]
        )
        tokens = self.tokens["token"]
        owners = np.repeat(np.arange(len(tokens.starts) - 1), np.diff(tokens.starts))
        counts = np.bincount(owners, weights=followed[tokens.tokens], minlength=len(tokens.starts) - 1)
        found = np.flatnonzero(counts > BEGUN_SHARE * np.diff(tokens.starts))
        return frozenset(self.candidates["token"][index].text for index in found)

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
        tokens = features.tokens[kind]
        self._tokens, self._starts, self._shared = tokens.tokens, tokens.starts, tokens.is_shared
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


def _is_shared(of: _Tokens, activations: Floats, words: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Of each candidate, whether the neuron is active on enough different words of it."""
    active = activations[of.tokens] >= MINIMUM_STRENGTH
    owners = np.repeat(np.arange(len(of.starts) - 1), np.diff(of.starts))[active]
    numbers = np.unique(owners * (int(words.max(initial=0)) + 1) + words[of.tokens[active]])
    different = np.bincount(numbers // (int(words.max(initial=0)) + 1), minlength=len(of.starts) - 1)
    found: NDArray[np.bool_] = different >= MINIMUM_WORDS
    return found


class _Numbers(Generic[Each]):
    """Numbers of what occurs in texts."""

    def __init__(self) -> None:
        self.listed: list[Each] = []
        self._numbers: dict[Each, int] = {}
        self._lock = Lock()

    def rows(self, found: Sequence[Sequence[Each]]) -> NDArray[np.int32]:
        """The numbers of what each token has, one row a token, filled up with -1."""
        out = np.full((len(found), max(map(len, found), default=0)), -1, dtype=np.int32)
        with self._lock:
            for row, each in zip(out, found, strict=True):
                row[: len(each)] = [self._number(one) for one in each]
        return out

    def _number(self, one: Each) -> int:
        number = self._numbers.setdefault(one, len(self.listed))
        if number == len(self.listed):
            self.listed.append(one)
        return number


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """A sequence, and what each of its tokens fulfils."""

    tokens: TokenFeatures
    codes: dict[str, NDArray[np.int32]]
    """By kind, shape `(tokens, n)`: the numbers of the conditions, -1 for none."""
    words: NDArray[np.int32]
    """Shape `(tokens, 1)`: the number of each token's content."""


class _Vocabulary:
    """The numbers of conditions, by kind, and of tokens' contents."""

    def __init__(self) -> None:
        self.of: dict[str, _Numbers[Condition]] = {kind: _Numbers() for kind in _RANK}
        self.contents: _Numbers[str] = _Numbers()


_current = [_Vocabulary()]


def _vocabulary() -> _Vocabulary:
    """That of the latest sequences; begun anew where it has become large, as what was read by it is then forgotten."""
    if sum(len(numbers.listed) for numbers in _current[0].of.values()) > MOST_NUMBERED:
        _current[0] = _Vocabulary()
        _read.cache_clear()
    return _current[0]


@lru_cache(maxsize=KEPT)
def _read(tokens: tuple[str, ...], known: _Vocabulary) -> _Read:
    """What a sequence's tokens fulfil, read once: neurons share their sequences."""
    features = token_features(tokens)
    single = [conditions_at(features, position) for position in range(len(tokens))]
    fulfilled: dict[str, list[Sequence[Condition]]] = {
        kind: [(each[kind],) if kind in each else () for each in single] for kind in _RANK if kind != "named"
    }
    fulfilled["named"] = list(_named(tokens))
    codes = {kind: known.of[kind].rows(found) for kind, found in fulfilled.items()}
    return _Read(features, codes, known.contents.rows([(content,) for content in features.contents]))


def _numbered(rows: Sequence[NDArray[np.int32]], known: Sequence[Each]) -> tuple[list[Each], NDArray[np.int64]]:
    """What some sequences have, each once in the order of the text, and its place there of each token; -1 for none."""
    width = max((each.shape[1] for each in rows), default=0)
    wide = np.full((sum(map(len, rows)), width), -1, dtype=np.int32)
    start = 0
    for each in rows:
        wide[start : start + len(each), : each.shape[1]] = each
        start += len(each)
    numbers, first, places = np.unique(wide, return_index=True, return_inverse=True)
    order = np.argsort(np.where(numbers < 0, -1, first), kind="stable")
    is_none = int((numbers < 0).any())
    position = np.empty(len(numbers), dtype=np.int64)
    position[order] = np.arange(len(numbers)) - is_none
    return [known[number] for number in numbers[order[is_none:]]], position[places].reshape(wide.shape)


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
