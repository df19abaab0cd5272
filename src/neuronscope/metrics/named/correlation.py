"""Correlation: how well predicted and measured activations rise and fall together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronscope.metrics.context import MetricContext
from neuronscope.metrics.correlation import correlation
from neuronscope.metrics.data import EvaluationData
from neuronscope.metrics.registry import metric
from neuronscope.metrics.stimuli import max_activations
from neuronscope.metrics.table import Measurement, measurement

QUANTILES = 4
"""Groups of sequences, by the neuron's largest activation on them, that have a correlation each."""

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
