"""Two methods on the same neurons: the difference per neuron, how sure its mean is, and how often it has which sign.

Intervals are SciPy's bootstrap over neurons, and the sign test is its binomial test. What was not measured for one of
the two methods is left out of both; `n` says how many neurons remain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronscope.metrics.bootstrap import CONFIDENCE, Estimate, Resampling, not_measured

Scores = Sequence[float | None]
"""One for each neuron, in one order for all methods; None where it was not measured."""
Floats = NDArray[np.float64]

FEWEST = 3
"""Neurons below which a bootstrap has nothing to resample."""
NO_NEURON = "no neuron was measured for both methods"
FEW_NEURONS = "there are too few neurons for an interval"
NO_GAIN = "validation gained nothing that could survive"


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """By how much one method scores more than another on the same neurons."""

    mean: float | None
    """Mean difference; None where no neuron was measured for both."""
    low: float | None
    """Lower end of the 95 % interval of the mean, a bootstrap over neurons; None for fewer than three."""
    high: float | None
    """Its upper end."""
    n: int
    """How many neurons were measured for both."""
    wins: int
    """On how many the first scores more."""
    losses: int
    """On how many it scores less; on the others both score the same."""
    p_value: float | None
    """Of the two-sided sign test, in which equal scores do not count; None where all are equal."""


def paired_difference(scores: Scores, baseline: Scores, resampling: Resampling | None = None) -> PairedDifference:
    """Compare a method with a baseline, neuron by neuron.

    Args:
        scores: the method's.
        baseline: the baseline's, of the same neurons in the same order.
        resampling: how many draws, and their seed.

    Raises:
        ValueError: the numbers of neurons differ.
    """
    from scipy.stats import binomtest

    measured = _measured(scores, baseline)
    if not len(measured):
        return PairedDifference(mean=None, low=None, high=None, n=0, wins=0, losses=0, p_value=None)
    differences = measured[:, 0] - measured[:, 1]
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    low, high = _interval((differences,), _mean, resampling or Resampling(), "BCa")
    return PairedDifference(
        mean=float(differences.mean()),
        low=low,
        high=high,
        n=len(differences),
        wins=wins,
        losses=losses,
        p_value=float(binomtest(wins, wins + losses).pvalue) if wins + losses else None,
    )


def mean_score(scores: Scores, resampling: Resampling | None = None) -> Estimate:
    """The mean over the neurons that were measured, with its 95 % bootstrap interval over neurons."""
    measured = _measured(scores)
    if not len(measured):
        return not_measured(NO_NEURON)
    values = measured[:, 0]
    low, high = _interval((values,), _mean, resampling or Resampling(), "BCa")
    return Estimate(float(values.mean()), low, high, FEW_NEURONS if low is None else "")


def surviving_gain(
    val_before: Scores, val_after: Scores, test_before: Scores, test_after: Scores, resampling: Resampling | None = None
) -> Estimate:
    """How much of the gain in validation score survives on test: the ratio of the mean gains.

    1 says that what was selected on validation text holds on other text, 0 that it was chance. The interval is a
    percentile bootstrap over neurons; a draw without a gain on validation text counts as 0.

    Args:
        val_before: validation scores before refinement, or of whatever the gain is over.
        val_after: validation scores after it.
        test_before: test scores, likewise.
        test_after: test scores, likewise.
        resampling: how many draws, and their seed.

    Raises:
        ValueError: the numbers of neurons differ.
    """
    measured = _measured(val_before, val_after, test_before, test_after)
    if not len(measured):
        return not_measured(NO_NEURON)
    on_validation, on_test = measured[:, 1] - measured[:, 0], measured[:, 3] - measured[:, 2]
    if on_validation.mean() <= 0:
        return not_measured(NO_GAIN)
    value = float(on_test.mean() / on_validation.mean())
    low, high = _interval((on_test, on_validation), _ratio_of_means, resampling or Resampling(), "percentile")
    return Estimate(value, low, high, FEW_NEURONS if low is None else "")


def _measured(*columns: Scores) -> Floats:
    """The neurons that have every score: shape `(neurons, columns)`."""
    if len({len(column) for column in columns}) > 1:
        raise ValueError(f"Scores of the same neurons should be as many: got {[len(column) for column in columns]}.")
    rows = [row for row in zip(*columns, strict=True) if None not in row]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(columns))


def _mean(values: Floats, axis: int) -> Any:
    return values.mean(axis=axis)


def _ratio_of_means(on_test: Floats, on_validation: Floats, axis: int) -> Any:
    below = on_validation.mean(axis=axis)
    return np.where(below > 0, on_test.mean(axis=axis) / np.where(below > 0, below, 1.0), 0.0)


def _interval(
    samples: tuple[Floats, ...], statistic: Any, resampling: Resampling, method: Any
) -> tuple[float | None, float | None]:
    """Both ends; the value itself where all neurons have the same, for which BCa is undefined."""
    from scipy.stats import bootstrap

    if len(samples[0]) < FEWEST:
        return None, None
    if all(np.ptp(sample) == 0 for sample in samples):
        value = float(statistic(*samples, axis=0))
        return value, value
    found = bootstrap(
        samples,
        statistic,
        paired=len(samples) > 1,
        vectorized=True,
        n_resamples=resampling.n,
        confidence_level=CONFIDENCE,
        method=method,
        rng=np.random.default_rng(resampling.seed),
    ).confidence_interval
    return float(found.low), float(found.high)
