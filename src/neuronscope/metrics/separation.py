"""How well modes tell apart what a neuron is active on, and how much of it they cover.

1. Each token on which the neuron is active belongs to the mode that predicts most of it; where no mode predicts
   anything, to none.
2. How probably two tokens activate the neuron for the same reason is estimated from the text alone: from how near
   their words are in meaning, and from the rarest property that they share (`likeness`).
3. A token's overlap is that of the tokens of its own mode with the tokens that are like it, 2 |A ∩ B| / (|A| + |B|)
   (Dice; the F measure of B-cubed, Bagga and Baldwin 1998, for likeness in place of labels). It is 0 without a mode.
4. The score is the mean overlap, weighted by activation, times the share of inactive tokens that no mode predicts.

Merged meanings lose since tokens of one mode are unlike each other, a meaning that was split since tokens of two modes
are alike, and one that is left out since its tokens have no mode.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronscope.config import ACTIVATION_THRESHOLD
from neuronscope.metrics.bootstrap import Estimate, Resampling, estimate, not_measured, ratio
from neuronscope.metrics.joint import LEAST_SEEN
from neuronscope.offline.tokens import TokenFeatures, token_features
from neuronscope.types import Exemplar

Floats = NDArray[np.float64]

POINTS = 100
"""Tokens that are compared with each other, at most."""
NEARNESS, SHARED, INTERCEPT = 1.32, 0.71, -2.05
"""Of `likeness`. The first two: `python benchmarks/separation.py --fit`; its intercept is -1.80, and this one lets
merged and split meanings lose equally often on the neurons that it was fitted on."""
LEAST_NEARNESS = -3.0
"""Standard deviations below the mean that count as no less."""
SHARPNESS = 2
"""A token belongs to several modes in the ratio of this power of what they predict."""
TOO_FEW = "the neuron is active in fewer than two of these sequences"

_AFFIXES = (2, 3, 4)
_OPENING = 3
_LONG, _SHORT = 10, 2


@dataclass(frozen=True, slots=True)
class Contexts:
    """The tokens that are compared: those on which the neuron is active, then inactive ones of the same text."""

    points: list[tuple[int, int]]
    """The sequence's index and the position in it."""
    n_active: int
    """How many of them are active, from the first."""
    words: list[str]
    """The word that each token is, or is a part of; the token itself where that is none."""
    properties: list[frozenset[str]]
    """What can be said of each token and the one before it."""


def contexts_of(exemplars: Sequence[Exemplar], maximum: float, seed: int) -> Contexts:
    """Find the tokens to compare: of every sequence the most active one first, then the next, up to `POINTS`.

    Of every sequence there is an inactive one, at random, for what any two tokens have in common.
    """
    generator = np.random.default_rng(seed)
    features = [token_features(exemplar.tokens) for exemplar in exemplars]
    ranked: list[tuple[int, float, int, int]] = []
    inactive: list[tuple[int, int]] = []
    for index, exemplar in enumerate(exemplars):
        values = np.asarray(exemplar.activations)
        active = np.flatnonzero(values > ACTIVATION_THRESHOLD * maximum)
        order = active[np.argsort(-values[active], kind="stable")].tolist()
        ranked += [(rank, -float(values[position]), index, position) for rank, position in enumerate(order)]
        quiet = [n for n, token in enumerate(exemplar.tokens) if values[n] <= 0 and token.strip()]
        if quiet:
            inactive.append((index, quiet[int(generator.integers(len(quiet)))]))
    active_points = [(index, position) for _, _, index, position in sorted(ranked)[:POINTS]]
    points = [*active_points, *inactive]
    return Contexts(
        points,
        len(active_points),
        [_word(features[index], position) for index, position in points],
        [_properties(features[index], position) for index, position in points],
    )


def _word(text: TokenFeatures, position: int) -> str:
    word = int(text.word_of[position])
    return text.words[word] if word >= 0 else text.contents[position]


def _properties(text: TokenFeatures, position: int) -> frozenset[str]:
    content, word = text.contents[position], _word(text, position)
    before = _word(text, position - 1) if position else ""
    found = {f"is {word}", f"after {before}"}
    if text.word_of[position] >= 0:
        found |= {f"ends in {word[-n:]}" for n in _AFFIXES if len(word) > n + 1}
        found |= {f"begins with {word[:n]}" for n in _AFFIXES if len(word) > n + 1}
        found |= {"capitalised"} if text.capitalised[position] else set()
        found |= {"part of a word"} if text.continues[position] else set()
        found |= {"long"} if len(word) >= _LONG else {"short"} if len(word) <= _SHORT else set()
    else:
        found.add("no word")
    found |= {"digit"} if content.isdigit() else set()
    found |= {"begins the text"} if position < _OPENING else set()
    if not before.isalnum():
        found.add(f"after punctuation {before[:1]}")
        found |= {"begins a sentence"} if before[-1:] in (".", "?", "!", "\n") else set()
    elif before.isdigit():
        found.add("after a number")
        found |= {"inside a number"} if content.isdigit() else set()
    elif text.capitalised[position]:
        found.add("capitalised inside a sentence")
    return frozenset(found)


def likeness(contexts: Contexts, vectors: NDArray[np.floating[Any]]) -> Floats:
    """How probably each two active tokens activate the neuron for the same reason: shape `(active, active)`.

    A logistic regression of the two `likeness_features`, whose constants were fitted on planted neurons.

    Args:
        contexts: the tokens.
        vectors: their words' embeddings, shape `(tokens, dimensions)`, of unit length.
    """
    nearness, shared = likeness_features(contexts, vectors)
    found: Floats = 1 / (1 + np.exp(-(NEARNESS * nearness + SHARED * shared + INTERCEPT)))
    return found


def likeness_features(contexts: Contexts, vectors: NDArray[np.floating[Any]]) -> Floats:
    """What speaks for one reason, of each two active tokens: shape `(2, active, active)`.

    The cosine of their words' embeddings, in standard deviations above that of any two inactive tokens; and the
    surprise of the rarest property that they share, -ln of its share among inactive tokens.
    """
    n = contexts.n_active
    rest = contexts.properties[n:]
    known = Counter(each for properties in rest for each in properties)
    baseline = (vectors[n:] @ vectors[n:].T)[np.triu_indices(len(rest), 1)]
    mean, deviation = (float(baseline.mean()), float(baseline.std())) if len(baseline) else (0.0, 1.0)
    nearness = np.maximum((vectors[:n] @ vectors[:n].T - mean) / (deviation or 1.0), LEAST_NEARNESS)
    have = {
        each: np.flatnonzero([each in properties for properties in contexts.properties[:n]])
        for each in {each for properties in contexts.properties[:n] for each in properties}
    }
    shared = np.zeros((n, n))
    for each in sorted(have, key=lambda name: -known[name]):  # the rarest are written last
        if len(have[each]) > 1:
            surprise = -np.log((known[each] + 0.5) / (len(rest) + 1))
            shared[np.ix_(have[each], have[each])] = max(float(surprise), 0.0)
    return np.stack([nearness, shared])


def separation(
    predicted: Sequence[NDArray[np.floating[Any]]],
    exemplars: Sequence[Exemplar],
    contexts: Contexts,
    alike: Floats,
    strata: NDArray[Any],
    resampling: Resampling,
) -> Estimate:
    """How well modes tell apart what the neuron is active on, 0 to 1, with its interval.

    Args:
        predicted: per sequence, shape `(modes, tokens)`, 0-10; one mode at least.
        exemplars: the sequences.
        contexts: the tokens of theirs that are compared.
        alike: their `likeness`.
        strata: each sequence's stratum for the resampling.
        resampling: how many draws, and their seed.
    """
    points = contexts.points[: contexts.n_active]
    of = np.array([index for index, _ in points], dtype=np.int64)
    if len(set(of.tolist())) < 2:
        return not_measured(TOO_FEW)
    activation = np.array([float(exemplars[index].activations[position]) for index, position in points])
    values = np.stack([predicted[index][:, position] for index, position in points], axis=1).astype(np.float64)
    covered = values.max(axis=0) >= LEAST_SEEN
    members = (values * covered) ** SHARPNESS
    members = members / np.where(covered, members.sum(axis=0), 1.0)
    others = of[:, None] != of[None]  # tokens of one sequence say little of each other
    together, alike = (members.T @ members) * others, alike * others
    quiet = [np.asarray(exemplar.activations) <= 0 for exemplar in exemplars]
    marked = [rows.max(axis=0)[each] >= LEAST_SEEN for rows, each in zip(predicted, quiet, strict=True)]
    n_marked, n_quiet = (np.array([each.sum() for each in part], dtype=np.float64) for part in (marked, quiet))

    def statistic(weights: Floats) -> Floats:
        mass = weights[:, of] * activation
        overlap = ratio(2 * mass @ (together * alike), mass @ (together + alike))
        mean = ratio((mass * np.where(covered, np.nan_to_num(overlap), 0.0)).sum(axis=1), mass.sum(axis=1))
        wrongly = np.nan_to_num(ratio(weights @ n_marked, weights @ n_quiet))
        return mean * (1 - wrongly)

    return estimate(statistic, strata, 0.0, resampling, TOO_FEW)
