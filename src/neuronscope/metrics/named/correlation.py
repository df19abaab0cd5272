"""Correlation: how well predicted and measured activations rise and fall together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronscope.metrics.bootstrap import Estimate, Resampling, Statistic, estimate, not_measured, ratio
from neuronscope.metrics.correlation import pearson
from neuronscope.metrics.data import NO_SEQUENCES, SILENT, Material, Rows
from neuronscope.metrics.evaluator import Bench
from neuronscope.metrics.registry import metric
from neuronscope.metrics.stimuli import peaks
from neuronscope.metrics.table import Measurement, measurement

QUANTILES = 4
"""Groups of sequences, by how strongly the neuron fires on them, that have a correlation each."""

CONSTANT = "the prediction is the same everywhere"

ROWS = (
    "correlation",
    "correlation_top",
    "correlation_random",
    *(f"correlation_quantile_{number}" for number in range(1, QUANTILES + 1)),
)


@metric(
    "correlation",
    rows=ROWS,
    tells="how well predicted and measured activations rise and fall together",
    chance="0",
    place=10,
)
async def correlations(material: Material, bench: Bench) -> list[Measurement]:
    """Pearson's r on all test sequences, on top and random ones apart, and on quantiles of the firing strength."""
    test = material.test
    quantile = quantiles(peaks(test.exemplars), QUANTILES)
    parts = [np.ones(len(test.exemplars), dtype=bool), test.top, ~test.top]
    parts += [quantile == number for number in range(1, QUANTILES + 1)]
    measured = []
    for name, chosen in zip(ROWS, parts, strict=True):
        part = test.only(chosen)
        for number, explanation in enumerate(material.explanations):
            found = correlation(part.rows(number), part.actual, part.top, material.resampling)
            n = len(part.exemplars)
            measured.append(measurement(name, explanation, found, n=n, chance=0.0, judge=material.simulator))
    return measured


def correlation(predicted: Rows, actual: Rows, strata: NDArray[Any], resampling: Resampling) -> Estimate:
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
        return not_measured(SILENT)
    if whole.constant:
        return Estimate(0.0, 0.0, 0.0, CONSTANT)
    sampled = estimate(_pearson_statistic(predicted, actual), strata, 0.0, resampling, "")
    ends = [whole.value, *(end for end in (sampled.low, sampled.high) if end is not None)]
    return Estimate(whole.value, min(ends), max(ends))


def quantiles(peaks: NDArray[np.floating[Any]], n: int) -> NDArray[np.int_]:
    """Part sequences by how strongly they make the neuron fire: 1 is the weakest quantile, `n` the strongest.

    Sequences on which the neuron is silent are in none: 0. Groups differ in size by one at most.

    Args:
        peaks: each sequence's largest activation, shape `(sequences,)`.
        n: how many quantiles.
    """
    active = np.flatnonzero(peaks > 0)
    order = active[np.argsort(peaks[active], kind="stable")]
    groups = np.zeros(len(peaks), dtype=int)
    for number, members in enumerate(np.array_split(order, n), start=1):
        groups[members] = number
    return groups


def _pearson_statistic(predicted: Rows, actual: Rows) -> Statistic:
    left, right = _standard(predicted), _standard(actual)
    sums = np.array([[len(x), x.sum(), y.sum(), x @ x, y @ y, x @ y] for x, y in zip(left, right, strict=True)])

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        count, x, y, xx, yy, xy = (weights @ sums).T
        count = np.maximum(count, 1)
        spread = np.maximum(xx - x * x / count, 0.0) * np.maximum(yy - y * y / count, 0.0)
        return np.clip(ratio(xy - x * y / count, np.sqrt(spread)), -1.0, 1.0)

    return statistic


def _standard(rows: Rows) -> list[NDArray[np.float64]]:
    """The rows less their common mean, divided by their common spread: sums of squares then lose no digits."""
    pooled = np.concatenate(rows).astype(np.float64)
    mean, spread = pooled.mean(), pooled.std() or 1.0
    return [(np.asarray(row, dtype=np.float64) - mean) / spread for row in rows]
