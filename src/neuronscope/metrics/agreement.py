"""Agreement of predicted with measured activations, token by token: correlation, and variance explained.

Each sequence is reduced to sums over its tokens; a resampled value then needs no more than weighted sums of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuronscope.metrics.bootstrap import Estimate, Resampling, Statistic, estimate, not_measured
from neuronscope.metrics.correlation import pearson, varies

Rows = Sequence[NDArray[np.floating[Any]]]
"""Per sequence, shape `(tokens,)`."""

SILENT = "the neuron does the same on all of these tokens"
CONSTANT = "the prediction is the same everywhere"
NO_SEQUENCES = "there are no such sequences"


class Line(NamedTuple):
    """A calibration: measured = slope * predicted + intercept."""

    slope: float
    intercept: float


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


def fit_line(predicted: Rows, actual: Rows) -> Line:
    """The straight line from predictions to activations with the smallest squared error.

    A constant prediction is mapped to the mean activation; without a sequence everything is mapped to 0.
    """
    if not len(actual):
        return Line(0.0, 0.0)
    left, right = np.concatenate(predicted).astype(float), np.concatenate(actual).astype(float)
    if not left.size:
        return Line(0.0, 0.0)
    found = pearson(left, right)
    if found.constant or found.value is None:
        return Line(0.0, float(right.mean()))
    centred = left - left.mean()
    slope = float(centred @ (right - right.mean()) / (centred @ centred))
    return Line(slope, float(right.mean() - slope * left.mean()))


def variance_explained(
    predicted: Rows, actual: Rows, line: Line, strata: NDArray[Any], resampling: Resampling
) -> Estimate:
    """Centred R² of calibrated predictions: 1 - squared error / squared deviation from the sequences' own mean.

    It is 1 for a perfect prediction, 0 for the mean, and negative for what is worse than the mean.

    Args:
        predicted: per sequence, shape `(tokens,)`.
        actual: the same shapes.
        line: the calibration, fitted on other sequences.
        strata: each sequence's stratum for the resampling.
        resampling: how many draws, and their seed.
    """
    if not len(actual):
        return not_measured(NO_SEQUENCES)
    truth = np.concatenate(actual).astype(np.float64)
    if not varies(truth):
        return not_measured(SILENT)
    calibrated = [line.slope * np.asarray(row, dtype=np.float64) + line.intercept for row in predicted]
    mean, spread = truth.mean(), truth.std()
    sums = np.array([_deviations(*rows, mean, spread) for rows in zip(calibrated, actual, strict=True)])

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        count, error, total, squares = (weights @ sums).T
        return 1 - _ratio(error, squares - total**2 / np.maximum(count, 1))

    return estimate(statistic, strata, 0.0, resampling, SILENT)


def _deviations(calibrated: NDArray[np.float64], actual: NDArray[Any], mean: float, spread: float) -> list[float]:
    """Of one sequence: tokens, squared error, and the sum and sum of squares of the standardised activations."""
    error = (calibrated - actual) / spread
    truth = (np.asarray(actual, dtype=np.float64) - mean) / spread
    return [len(truth), float(error @ error), float(truth.sum()), float(truth @ truth)]


def _pearson_statistic(predicted: Rows, actual: Rows) -> Statistic:
    left, right = _standard(predicted), _standard(actual)
    sums = np.array([[len(x), x.sum(), y.sum(), x @ x, y @ y, x @ y] for x, y in zip(left, right, strict=True)])

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        count, x, y, xx, yy, xy = (weights @ sums).T
        count = np.maximum(count, 1)
        spread = np.maximum(xx - x * x / count, 0.0) * np.maximum(yy - y * y / count, 0.0)
        return np.clip(_ratio(xy - x * y / count, np.sqrt(spread)), -1.0, 1.0)

    return statistic


def _standard(rows: Rows) -> list[NDArray[np.float64]]:
    """The rows less their common mean, divided by their common spread: sums of squares then lose no digits."""
    pooled = np.concatenate(rows).astype(np.float64)
    mean, spread = pooled.mean(), pooled.std() or 1.0
    return [(np.asarray(row, dtype=np.float64) - mean) / spread for row in rows]


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """The quotient; NaN where there is nothing to divide by: a millionth of a standard deviation is rounding."""
    defined = below > 1e-12
    return np.where(defined, above / np.where(defined, below, 1.0), np.nan)
