"""Which conditions explain a neuron's activations: features of its exemplars' tokens, and a matching pursuit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from neuronscope.offline.conditions import STRENGTH_LEVELS, Condition, Form, matches
from neuronscope.offline.english import quotable
from neuronscope.offline.kinds import AFTER_PHRASES, COLUMN, PHRASES
from neuronscope.offline.text import text_of
from neuronscope.offline.tokens import TokenFeatures, token_features
from neuronscope.types import Exemplar, normalise

if TYPE_CHECKING:
    from scipy.sparse import csr_array

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
Integers = NDArray[np.integer[Any]]
Each = TypeVar("Each")


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
    codes: dict[str, NDArray[np.int32]]
    """By kind ("token", "pair", "after", "named"), shape `(tokens, n)`: the numbers of the up to n conditions that each
    token fulfils; -1 for none."""
    words: NDArray[np.int32]
    """Shape `(tokens,)`: the number of the token's content."""
    vocabulary: _Vocabulary
    """What the numbers stand for."""
    candidates: _Candidates
    """The conditions that may be selected."""
    begun: frozenset[str]
    """Texts of tokens that mostly begin a longer word: what such a piece means, its letters do not tell."""
    matches: dict[Condition, tuple[NDArray[np.int64], NDArray[np.float32]]] = field(default_factory=dict)
    """By pattern, where conditions that were asked for hold, and the share of their strength that counts there."""
    pursued: dict[object, list[Selected]] = field(default_factory=dict)
    """What was selected before."""

    @classmethod
    def of(cls, exemplars: Sequence[Exemplar], maximum: float) -> Features:
        """Those of some exemplars, with `maximum` as 10 on the scale."""
        known = _vocabulary()
        read = [_read(tuple(exemplar.tokens), known) for exemplar in exemplars]
        lengths = [len(exemplar.activations) for exemplar in exemplars]
        activations = normalise(_pooled([exemplar.activations for exemplar in exemplars]), maximum)
        codes = {kind: _stacked([each.codes[kind] for each in read]) for kind in _RANK}
        words = _stacked([each.words for each in read]).ravel()
        return cls(
            sequences=[each.tokens for each in read],
            activations=activations,
            exemplar_index=np.repeat(np.arange(len(exemplars)), lengths),
            codes=codes,
            words=words,
            vocabulary=known,
            candidates=_Candidates.of(codes, words, activations),
            begun=_begun(codes["token"].ravel(), _stacked([each.goes_on for each in read]).ravel(), known),
        )

    def predict(self, sets: Sequence[Sequence[Condition]]) -> tuple[Floats, NDArray[np.int64]]:
        """What sets of conditions predict on each token: the largest of their strengths, and its rank, -1 for none."""
        values = np.zeros(len(self.activations))
        ranks = np.full(len(self.activations), -1)
        for conditions in sets:
            predicted = self._predict([condition for condition in conditions if condition.form not in NAMED])
            for condition in conditions:
                if condition.form in NAMED:
                    at, _ = self._where(condition)
                    here = at[predicted[at] != 0]
                    predicted[here] = np.fmax(predicted[here], condition.strength)
            values = np.fmax(values, predicted)
            ranks = np.where(np.isnan(predicted), ranks, _RANK["token"])
        return values, ranks

    def _predict(self, conditions: Sequence[Condition]) -> Floats:
        """What one set predicts, as `conditions.predict` does of one text; NaN where nothing applies."""
        values = np.full(len(self.activations), np.nan)
        ranks = np.full(len(self.activations), -1)
        for condition in conditions:
            at, shares = self._where(condition)
            found = condition.strength * shares
            specific = condition.specificity
            decides = (specific > ranks[at]) | ((specific == ranks[at]) & (found > values[at]))
            values[at[decides]], ranks[at[decides]] = found[decides], specific
        return values

    def _where(self, condition: Condition) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The tokens where a condition holds, and the share of its strength that counts there."""
        pattern = condition.pattern
        if pattern not in self.matches:
            self.matches[pattern] = self._named(pattern) if pattern.form in NAMED else self._matching(pattern)
        return self.matches[pattern]

    def _named(self, condition: Condition) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The tokens of a kind, or with an ending or beginning."""
        number = self.vocabulary.of["named"].number(condition)
        at = np.flatnonzero((self.codes["named"] == number).any(axis=1)) if number >= 0 else np.zeros(0, dtype=np.int64)
        return at, np.ones(len(at), dtype=np.float32)

    def _matching(self, condition: Condition) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The tokens where a simulator finds a condition."""
        found: dict[int, float] = {}
        start = 0
        for tokens in self.sequences:
            for position, share in matches(condition, tokens):
                found[start + position] = max(share, found.get(start + position, 0.0))
            start += len(tokens.contents)
        return np.array(list(found), dtype=np.int64), np.array(list(found.values()), dtype=np.float32)

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
        key = n, tuple(map(tuple, given)), None if weights is None else weights.tobytes()
        if key not in self.pursued:
            self.pursued[key] = self._pursue(n, np.ones(len(self.activations)) if weights is None else weights, given)
        return list(self.pursued[key])

    def _pursue(self, n: int, weights: Floats, given: Sequence[Sequence[Condition]]) -> list[Selected]:
        predicted, ranks = self.predict(given)
        gains = _Gains(self.candidates, self.activations, weights, predicted, ranks)
        selected: list[Selected] = []
        for _ in range(n):
            gain, index = gains.best
            if gain <= 1e-6:
                break
            value = gains.select(index)
            kind, number = self.candidates.of_kind[index]
            condition = self.vocabulary.of[kind].listed[number]
            selected.append(Selected(replace(condition, strength=value), gain))
        return selected

    def estimate(self, condition: Condition) -> float:
        """The shrunken mean activation where a condition holds, 0-10."""
        at, _ = self._where(condition)
        return float(self.activations[at].sum() / (len(at) + SHRINKAGE))


def _begun(numbers: NDArray[np.int32], goes_on: NDArray[np.int32], known: _Vocabulary) -> frozenset[str]:
    """The tokens that a longer word goes on from in most of their occurrences."""
    counted = numbers >= 0
    counts = np.bincount(numbers[counted], weights=goes_on[counted])
    found = np.flatnonzero(counts > BEGUN_SHARE * np.bincount(numbers[counted]))
    return frozenset(known.of["token"].listed[number].text for number in found)


@dataclass(frozen=True, slots=True, eq=False)
class _Candidates:
    """The conditions that may be selected, those of the least specific kind first, and the tokens that fulfil them.

    A condition that the neuron is active enough on nowhere is none, since neither is its mean; nor is one that occurs
    too seldom.
    """

    of_kind: list[tuple[str, int]]
    """The kind of each, and its number."""
    tokens: csr_array
    """Shape `(candidates, tokens)`: the tokens that fulfil each."""
    of_token: csr_array
    """The same, turned."""
    ranks: NDArray[np.int64]
    """Shape `(candidates,)`."""
    least: NDArray[np.int64]
    """Shape `(candidates,)`: how many tokens each must have that nothing more specific decides."""

    @classmethod
    def of(cls, codes: Mapping[str, NDArray[np.int32]], words: NDArray[np.int32], activations: Floats) -> _Candidates:
        """Those of all kinds."""
        from scipy.sparse import coo_array, csr_array

        active = activations >= MINIMUM_STRENGTH
        of_kind: list[tuple[str, int]] = []
        owners, tokens = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        for kind in _RANK:
            numbers, own, its = _fulfilled(codes[kind], active)
            chosen = np.bincount(own, minlength=len(numbers)) >= MINIMUM_COUNT[kind]
            if kind == "named":
                chosen &= _n_words(own[active[its]], words[its[active[its]]], len(numbers)) >= MINIMUM_WORDS
            place, is_chosen = np.cumsum(chosen) - 1 + len(of_kind), chosen[own]
            owners.append(place[own[is_chosen]])
            tokens.append(its[is_chosen])
            of_kind += [(kind, number) for number in numbers[chosen].tolist()]
        owner, token = np.concatenate(owners), np.concatenate(tokens)
        shape = len(of_kind), len(activations)
        table = csr_array(coo_array((np.ones(len(owner), dtype=np.int8), (owner, token)), shape=shape))
        return cls(
            of_kind=of_kind,
            tokens=table,
            of_token=csr_array(table.T),
            ranks=np.array([_RANK[kind] for kind, _ in of_kind], dtype=np.int64),
            least=np.array([MINIMUM_COUNT[kind] for kind, _ in of_kind], dtype=np.int64),
        )


class _Gains:
    """What each candidate would remove of the squared error that is left, after every selection.

    A selection changes what its own tokens add to the sums of their candidates.

    Args:
        candidates: the candidates.
        activations: shape `(tokens,)`.
        weights: shape `(tokens,)`; how much each token counts.
        predicted: shape `(tokens,)`; what is predicted so far; `select` writes into it, and into the ranks.
        ranks: shape `(tokens,)`; the rank of what predicts it.
    """

    def __init__(
        self,
        candidates: _Candidates,
        activations: Floats,
        weights: Floats,
        predicted: Floats,
        ranks: NDArray[np.int64],
    ) -> None:
        self._candidates, self._activations = candidates, activations
        self._weights, self._predicted, self._ranks = weights, predicted, ranks
        size = len(candidates.of_kind)
        everywhere = self._contributed_by(np.arange(len(activations)))
        self._sums = np.ascontiguousarray((candidates.tokens @ everywhere.T).T)
        """Of each candidate, over the tokens that nothing more specific decides: how many, their weight, their
        activity, and the squared error so far, less that of a prediction of 0."""
        owner, token = self._fulfilled_by(np.flatnonzero(ranks >= 0))
        decided = ~self._is_free(owner, token)
        self._add(owner[decided], token[decided], -1)
        self._value, self._gain = np.zeros(size), np.zeros(size)
        self._judge(np.arange(size))

    @property
    def best(self) -> tuple[float, int]:
        """The largest gain, and whose it is, the first of equals; 0 where there is no candidate."""
        if not len(self._gain):
            return 0.0, -1
        index = int(self._gain.argmax())
        return float(self._gain[index]), index

    def select(self, index: int) -> float:
        """Take a candidate's prediction; returned is its strength, 0-10."""
        of, value = self._candidates, float(self._value[index])
        tokens = of.tokens.indices[of.tokens.indptr[index] : of.tokens.indptr[index + 1]]
        covered = tokens[self._ranks[tokens] < of.ranks[index]]
        candidates, token = self._fulfilled_by(covered)
        free = self._is_free(candidates, token)
        self._add(candidates[free], token[free], -1)
        self._predicted[covered], self._ranks[covered] = value, of.ranks[index]
        free = self._is_free(candidates, token)
        self._add(candidates[free], token[free], 1)
        self._judge(np.flatnonzero(np.bincount(candidates, minlength=len(self._gain))))
        return value

    def _fulfilled_by(self, tokens: Integers) -> tuple[Integers, Integers]:
        """The candidates that some tokens fulfil, one after the other, and of each the token."""
        of = self._candidates.of_token
        lengths = of.indptr[tokens + 1] - of.indptr[tokens]
        token = np.repeat(tokens, lengths)
        first = np.repeat(of.indptr[tokens] - np.cumsum(lengths) + lengths, lengths)
        return of.indices[np.arange(len(token)) + first], token

    def _is_free(self, candidates: Integers, token: Integers) -> NDArray[np.bool_]:
        """Whether nothing at least as specific as the candidates decides on the tokens so far."""
        free: NDArray[np.bool_] = self._ranks[token] < self._candidates.ranks[candidates]
        return free

    def _contributed_by(self, tokens: Integers) -> Floats:
        """What tokens contribute to `_sums` now, shape `(4, tokens)`; what has no weight contributes nothing."""
        mass, actual, before = self._weights[tokens], self._activations[tokens], self._predicted[tokens]
        return np.stack([(mass > 0).astype(np.float64), mass, mass * actual, mass * before * (before - 2 * actual)])

    def _add(self, candidates: Integers, token: Integers, sign: int) -> None:
        """Add what tokens contribute to candidates now, or take it away."""
        for sums, values in zip(self._sums, self._contributed_by(token), strict=True):
            sums += sign * np.bincount(candidates, weights=values, minlength=len(sums))

    def _judge(self, candidates: NDArray[np.int64]) -> None:
        """Decide anew on the strengths and gains of some candidates."""
        of, (count, mass, activity, error_before) = self._candidates, self._sums[:, candidates]
        weight = mass + SHRINKAGE
        value = _quantised(activity / weight)
        gain = error_before - (value**2 * weight - 2 * value * activity)
        self._value[candidates] = value
        self._gain[candidates] = np.where((count >= of.least[candidates]) & (value > 0), np.round(gain, 9), 0.0)


def _fulfilled(
    codes: NDArray[np.int32], active: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The conditions of active tokens, and all tokens that fulfil them.

    Returns:
        The conditions' numbers, in the order of the text; and in this order for each token that fulfils one, this one's
        place among them, and the token.
    """
    flat = codes.ravel()
    chosen = np.zeros(int(flat.max(initial=-1)) + 2, dtype=np.bool_)
    chosen[codes[active].ravel()] = True
    chosen[-1] = False  # where none is
    numbers, places = np.flatnonzero(chosen), np.flatnonzero(chosen[flat])
    local = np.zeros(len(chosen), dtype=np.int64)
    local[numbers] = np.arange(len(numbers))
    own = local[flat[places]]
    first = np.zeros(len(numbers), dtype=np.int64)
    first[own[::-1]] = places[::-1]
    order = np.argsort(first)
    position = np.argsort(order)
    return numbers[order], position[own], places // max(codes.shape[1], 1)


def _n_words(owners: NDArray[np.int64], words: NDArray[np.int32], n: int) -> NDArray[np.int64]:
    """On how many different words each of n conditions is active."""
    width = int(words.max(initial=0)) + 1
    found: NDArray[np.int64] = np.bincount(np.unique(owners * width + words) // width, minlength=n)
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

    def number(self, one: Each) -> int:
        """The number of something; -1 if it has none."""
        return self._numbers.get(one, -1)

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
    goes_on: NDArray[np.int32]
    """Shape `(tokens, 1)`: 1 where the next token continues the token's word, else 0."""


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
    goes_on = np.append(features.continues[1:], False)[: len(tokens), None].astype(np.int32)
    return _Read(features, codes, known.contents.rows([(content,) for content in features.contents]), goes_on)


def _stacked(rows: Sequence[NDArray[np.int32]]) -> NDArray[np.int32]:
    """The numbers of all sequences, one row a token, as wide as the widest; -1 for none."""
    width = max((each.shape[1] for each in rows), default=0)
    wide = np.full((sum(map(len, rows)), width), -1, dtype=np.int32)
    start = 0
    for each in rows:
        wide[start : start + len(each), : each.shape[1]] = each
        start += len(each)
    return wide


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
