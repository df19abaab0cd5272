"""Successive halving: score all candidates on the most informative sequences, and only the better on more."""

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
"""Predicts explanations on sequences, given by index: per sequence, shape `(explanations, tokens)`."""


class Rung(NamedTuple):
    """How many sequences candidates are scored on before the worst of them are pruned."""

    sequences: float
    """Share of the sequences that a candidate has been scored on by then."""
    survivors: float
    """Share of all candidates that go on."""


RUNGS = (Rung(0.2, 0.5), Rung(0.4, 0.25))
"""After the last rung, the remaining candidates are scored on the whole set. Chosen in `docs/results/halving.md`."""
FEWEST_SEQUENCES = 4
"""No candidate is pruned on fewer."""


@dataclass(frozen=True, slots=True)
class RungResult:
    """The last rung that one candidate has reached."""

    score: Correlation | None
    """Pearson's r on the whole set, if there is one; None for a candidate that was pruned."""
    sequences: int
    """How many sequences it was scored on."""


async def successive_halving(
    predict: Predict, candidates: Sequence[str], truth: Sequence[Floats], reference: Sequence[Floats]
) -> list[RungResult]:
    """Find the best candidate without scoring all of them on everything.

    All are scored on the most informative sequences, the better half of them on more, and the better half of those on
    the whole set. Candidates are compared on the same sequences, by Pearson's r over the tokens seen so far. At least
    one is scored on the whole set. Nothing is drawn at random; of equal candidates the earlier one goes on.

    Args:
        predict: called with the sequences' indices in `truth`; it is called again for pairs that it has predicted
            before, so it should cache them, as a `Scorer` does.
        candidates: all different.
        truth: per sequence, the neuron's activations, shape `(tokens,)`.
        reference: per sequence, what the best explanation so far predicts, shape `(tokens,)`.

    Returns:
        One result per candidate.
    """
    order = most_informative(truth, reference)
    results = [RungResult(None, 0)] * len(candidates)
    remaining = list(range(len(candidates)))
    for rung in RUNGS:
        reached = max(FEWEST_SEQUENCES, ceil(rung.sequences * len(order)))
        survivors = ceil(rung.survivors * len(candidates))
        if reached >= len(order) or survivors >= len(remaining):
            continue
        scores = await _scores(predict, [candidates[index] for index in remaining], order[:reached], truth)
        ranked = sorted(zip(remaining, scores, strict=True), key=lambda pair: -(pair[1].value or 0.0))
        for index, _ in ranked[survivors:]:
            results[index] = RungResult(None, reached)
        remaining = sorted(index for index, _ in ranked[:survivors])
    final = await _scores(predict, [candidates[index] for index in remaining], range(len(order)), truth)
    for index, score in zip(remaining, final, strict=True):
        results[index] = RungResult(score, len(order))
    return results


async def _scores(
    predict: Predict, candidates: Sequence[str], indices: Sequence[int], truth: Sequence[Floats]
) -> list[Correlation]:
    """Pearson's r of the candidates over the pooled tokens of some sequences."""
    if not indices:
        return [Correlation(None, constant=True)] * len(candidates)
    predictions = await predict(candidates, indices)
    return pearson_rows(np.concatenate(predictions, axis=1), np.concatenate([truth[index] for index in indices]))


def most_informative(truth: Sequence[Floats], reference: Sequence[Floats]) -> list[int]:
    """The indices of the sequences, those first that can tell candidates apart best.

    A correlation is made where the activation, or the prediction, is far from its mean. What candidates will predict is
    not known, but they resemble the best explanation so far. So a sequence counts by its share of the activations'
    variance plus its share of the reference's: true activity, and false positives.
    """
    weights = _shares_of_variance(truth) + _shares_of_variance(reference)
    return [int(index) for index in np.argsort(-weights, kind="stable")]


def _shares_of_variance(rows: Sequence[Floats]) -> NDArray[np.float64]:
    if not rows:
        return np.zeros(0)
    mean = np.concatenate(rows).mean(dtype=np.float64)
    power = np.array([((row - mean) ** 2).sum(dtype=np.float64) for row in rows])
    total = power.sum()
    return power / total if total > 0 else power
