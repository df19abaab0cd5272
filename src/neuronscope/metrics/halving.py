"""Score candidates on the most telling sequences first and drop the hopeless: successive halving."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuronscope.metrics.correlation import Correlation, pearson_rows

Floats = NDArray[np.floating[Any]]

Predict = Callable[[Sequence[str], Sequence[int]], Awaitable[Sequence[Floats]]]
"""Predicts explanations on numbered sequences: per sequence, shape `(explanations, tokens)`."""


class Rung(NamedTuple):
    """How far candidates run before the worst of them are dropped."""

    sequences: float
    """Share of the sequences that a candidate has been scored on by then."""
    survivors: float
    """Share of all candidates that go on."""


RUNGS = (Rung(0.2, 0.5), Rung(0.4, 0.25))
"""After the last rung, who is left runs on the whole set. Chosen in `docs/results/racing.md`."""
FEWEST_SEQUENCES = 4
"""Nobody is dropped on fewer."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How far one candidate came."""

    score: Correlation | None
    """Pearson's r on the whole set, if there is one; None for a candidate that was dropped on the way."""
    sequences: int
    """How many sequences it was scored on."""


async def race(
    predict: Predict, candidates: Sequence[str], truth: Sequence[Floats], reference: Sequence[Floats]
) -> list[Standing]:
    """Find the best candidate without scoring all of them on everything.

    All run on the most telling sequences; the better half goes on to more, and the better half of those to the whole
    set. Candidates are compared on the same sequences, by Pearson's r over the tokens seen so far. At least one is
    scored on the whole set. Nothing is drawn at random; of equal candidates the earlier one goes on.

    Args:
        predict: asked for sequences by their place in `truth`; asks again for pairs that it has given before, so it
            should keep them, as a `Scorer` does.
        candidates: all different.
        truth: per sequence, the neuron's activations, shape `(tokens,)`.
        reference: per sequence, what the best explanation so far predicts, shape `(tokens,)`.

    Returns:
        One standing per candidate.
    """
    order = most_telling(truth, reference)
    standings = [Standing(None, 0)] * len(candidates)
    running = list(range(len(candidates)))
    for rung in RUNGS:
        reached = max(FEWEST_SEQUENCES, ceil(rung.sequences * len(order)))
        survivors = ceil(rung.survivors * len(candidates))
        if reached >= len(order) or survivors >= len(running):
            continue
        scores = await _scores(predict, [candidates[place] for place in running], order[:reached], truth)
        ranked = sorted(zip(running, scores, strict=True), key=lambda entry: -(entry[1].value or 0.0))
        for place, _ in ranked[survivors:]:
            standings[place] = Standing(None, reached)
        running = sorted(place for place, _ in ranked[:survivors])
    final = await _scores(predict, [candidates[place] for place in running], range(len(order)), truth)
    for place, score in zip(running, final, strict=True):
        standings[place] = Standing(score, len(order))
    return standings


async def _scores(
    predict: Predict, candidates: Sequence[str], places: Sequence[int], truth: Sequence[Floats]
) -> list[Correlation]:
    """Pearson's r of the candidates over the pooled tokens of some sequences."""
    if not places:
        return [Correlation(None, constant=True)] * len(candidates)
    predictions = await predict(candidates, places)
    return pearson_rows(np.concatenate(predictions, axis=1), np.concatenate([truth[place] for place in places]))


def most_telling(truth: Sequence[Floats], reference: Sequence[Floats]) -> list[int]:
    """Order sequences by how much they can tell candidates apart, the most telling first.

    A correlation is made where the truth, or the prediction, is far from its mean. What candidates will predict is not
    known, but they resemble the best explanation so far. So a sequence counts by its share of the truth's variance
    plus its share of the reference's: what fires, and false alarms.
    """
    weights = _shares_of_variance(truth) + _shares_of_variance(reference)
    return [int(place) for place in np.argsort(-weights, kind="stable")]


def _shares_of_variance(rows: Sequence[Floats]) -> NDArray[np.float64]:
    if not rows:
        return np.zeros(0)
    mean = np.concatenate(rows).mean(dtype=np.float64)
    power = np.array([((row - mean) ** 2).sum(dtype=np.float64) for row in rows])
    total = power.sum()
    return power / total if total > 0 else power
