"""R²: how much of the activations' variance is predicted."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuronscope.metrics.bootstrap import (
    NO_SEQUENCES,
    NO_VARIATION,
    Estimate,
    Resampling,
    estimate,
    not_measured,
    ratio,
)
from neuronscope.metrics.context import MetricContext
from neuronscope.metrics.correlation import pearson, varies
from neuronscope.metrics.data import EvaluationData, PerSequence
from neuronscope.metrics.registry import metric
from neuronscope.metrics.table import Measurement, measurement


@metric("r2", results=["r2"], question="how much of the activations' variance is predicted", baseline="0", order=20)
async def score_r2(data: EvaluationData, context: MetricContext) -> list[Measurement]:
    """Centred R² on the test sequences, after the linear calibration that fits validation best."""
    test, validation = data.test, data.validation
    results = []
    for number, explanation in enumerate(data.explanations):
        line = fit_line(validation.predictions(number), validation.actual)
        found = variance_explained(test.predictions(number), test.actual, line, test.top, data.resampling)
        n = len(test.exemplars)
        results.append(measurement("r2", explanation, found, n=n, baseline=0.0, judge=data.simulator))
    return results


class Line(NamedTuple):
    """A calibration: measured = slope * predicted + intercept."""

    slope: float
    intercept: float


def fit_line(predicted: PerSequence, actual: PerSequence) -> Line:
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
    from scipy.stats import linregress

    fitted = linregress(left, right)
    return Line(float(fitted.slope), float(fitted.intercept))


def variance_explained(
    predicted: PerSequence, actual: PerSequence, line: Line, strata: NDArray[Any], resampling: Resampling
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
        return not_measured(NO_VARIATION)
    calibrated = [line.slope * np.asarray(row, dtype=np.float64) + line.intercept for row in predicted]
    mean, spread = truth.mean(), truth.std()
    sums = np.array([_deviations(*rows, mean, spread) for rows in zip(calibrated, actual, strict=True)])

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        count, error, total, squares = (weights @ sums).T
        return 1 - ratio(error, squares - total**2 / np.maximum(count, 1))

    return estimate(statistic, strata, 0.0, resampling, NO_VARIATION)


def _deviations(calibrated: NDArray[np.float64], actual: NDArray[Any], mean: float, spread: float) -> list[float]:
    """Of one sequence: tokens, squared error, and the sum and sum of squares of the standardised activations."""
    error = (calibrated - actual) / spread
    truth = (np.asarray(actual, dtype=np.float64) - mean) / spread
    return [len(truth), float(error @ error), float(truth.sum()), float(truth @ truth)]
