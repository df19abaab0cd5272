"""Correlation: how well predicted and measured activations rise and fall together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronscope.metrics.bootstrap import Estimate, Resampling, Statistic, estimate, not_measured, ratio
from neuronscope.metrics.context import MetricContext
from neuronscope.metrics.correlation import pearson
from neuronscope.metrics.data import NO_SEQUENCES, NO_VARIATION, EvaluationData, PerSequence
from neuronscope.metrics.registry import metric
from neuronscope.metrics.stimuli import max_activations
from neuronscope.metrics.table import Measurement, measurement

QUANTILES = 4
"""Groups of sequences, by the neuron's largest activation on them, that have a correlation each."""

CONSTANT = "the prediction is the same everywhere"

RESULTS = (
    "correlation",
    "correlation_top",
    "correlation_random",
    *(f"correlation_quantile_{number}" for number in range(1, QUANTILES + 1)),
)


@metric(
    "correlation",
    results=RESULTS,
    question="how well predicted and measured activations rise and fall together",
    baseline="0",
    order=10,
)
async def score_correlation(data: EvaluationData, context: MetricContext) -> list[Measurement]:
    """Pearson's r on all test sequences, on top and random ones apart, and on quantiles of the activation."""
    test = data.test
    quantile = assign_quantiles(max_activations(test.exemplars), QUANTILES)
    parts = [np.ones(len(test.exemplars), dtype=bool), test.top, ~test.top]
    parts += [quantile == number for number in range(1, QUANTILES + 1)]
    measured = []
    for name, chosen in zip(RESULTS, parts, strict=True):
        part = test.subset(chosen)
        for number, explanation in enumerate(data.explanations):
            found = correlation(part.predictions(number), part.actual, part.top, data.resampling)
            n = len(part.exemplars)
            measured.append(measurement(name, explanation, found, n=n, baseline=0.0, judge=data.simulator))
    return measured


def correlation(predicted: PerSequence, actual: PerSequence, strata: NDArray[Any], resampling: Resampling) -> Estimate:
    """Pearson's r over the pooled tokens of the sequences: the paper's Score (appendix C), with its interval.

    Args:
        predicted: per sequence, shape `(tokens,)`.
        actual: the same shapes.
        strata: each sequence's stratum for the resampling.
        resampling: how many draws, and their seed.
    """
    if not len(actual):
        return not_measured(NO_SEQUENCES)
    left, right = np.concatenate(predicted), np.concatenate(actual)
    whole = pearson(left, right)
    if whole.value is None:
        return not_measured(NO_VARIATION)
    if whole.constant:
        return Estimate(0.0, 0.0, 0.0, CONSTANT)
    sampled = estimate(_pearson_statistic(predicted, actual), strata, 0.0, resampling, "")
    ends = [whole.value, *(end for end in (sampled.low, sampled.high) if end is not None)]
    return Estimate(whole.value, min(ends), max(ends))


def assign_quantiles(maxima: NDArray[np.floating[Any]], n: int) -> NDArray[np.int_]:
    """Assign sequences to quantiles of their largest activation: 1 is the weakest, `n` the strongest.

    Sequences without any activation are in none: 0. Groups differ in size by one at most.

    Args:
        maxima: each sequence's largest activation, shape `(sequences,)`.
        n: how many quantiles.
    """
    active = np.flatnonzero(maxima > 0)
    order = active[np.argsort(maxima[active], kind="stable")]
    groups = np.zeros(len(maxima), dtype=int)
    for number, members in enumerate(np.array_split(order, n), start=1):
        groups[members] = number
    return groups


def _pearson_statistic(predicted: PerSequence, actual: PerSequence) -> Statistic:
    left, right = _standardise(predicted), _standardise(actual)
    sums = np.array([[len(x), x.sum(), y.sum(), x @ x, y @ y, x @ y] for x, y in zip(left, right, strict=True)])

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        count, x, y, xx, yy, xy = (weights @ sums).T
        count = np.maximum(count, 1)
        spread = np.maximum(xx - x * x / count, 0.0) * np.maximum(yy - y * y / count, 0.0)
        return np.clip(ratio(xy - x * y / count, np.sqrt(spread)), -1.0, 1.0)

    return statistic


def _standardise(values: PerSequence) -> list[NDArray[np.float64]]:
    """The values less their common mean, divided by their common spread: sums of squares then lose no digits."""
    pooled = np.concatenate(values).astype(np.float64)
    mean, spread = pooled.mean(), pooled.std() or 1.0
    return [(np.asarray(each, dtype=np.float64) - mean) / spread for each in values]
