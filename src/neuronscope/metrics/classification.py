"""Yes or no: does a sequence fire, are the marks right? Thresholds, balanced accuracy, F1, accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronscope.metrics.bootstrap import Estimate, Resampling, estimate

Booleans = NDArray[np.bool_]
Floats = NDArray[np.float64]

ONE_CLASS = "all of these sequences have the same true answer"


def confusion(truth: Booleans, answers: Booleans) -> Floats:
    """One row per answer: true positive, false negative, false positive, true negative; a 1 in one of them.

    Args:
        truth: shape `(n,)`.
        answers: shape `(n,)`.
    """
    return np.stack([truth & answers, truth & ~answers, ~truth & answers, ~truth & ~answers], axis=1).astype(float)


def balanced_accuracy(counts: Floats) -> Floats:
    """The mean of the shares of positives and of negatives that are recognised; NaN where either is missing.

    Args:
        counts: true positives, false negatives, false positives, true negatives along the last axis.
    """
    hit, missed, alarm, rest = np.moveaxis(counts, -1, 0)
    return (_share(hit, hit + missed) + _share(rest, rest + alarm)) / 2


def f1(counts: Floats) -> Floats:
    """The harmonic mean of precision and recall; NaN where there are no positives, or no negatives.

    Without negatives it is 1 for whoever always says yes, so it says nothing.
    """
    hit, missed, alarm, rest = np.moveaxis(counts, -1, 0)
    value = _share(2 * hit, 2 * hit + missed + alarm)
    return np.where((hit + missed > 0) & (rest + alarm > 0), value, np.nan)


def always_yes(counts: Floats) -> float:
    """The F1 of whoever says yes to everything: what F1 has to be held against."""
    positives, n = counts[:, :2].sum(), counts.sum()
    return float(2 * positives / (positives + n)) if n else 0.0


def classify(
    counts: Floats, strata: NDArray[Any], resampling: Resampling
) -> tuple[tuple[Estimate, float], tuple[Estimate, float]]:
    """Balanced accuracy and F1 with their intervals, each beside its chance value.

    Args:
        counts: one row per sequence, as of `confusion`; a sequence with several answers has their sum.
        strata: each sequence's stratum for the resampling.
        resampling: how many draws, and their seed.
    """
    trivial = always_yes(counts)
    balanced = estimate(lambda weights: balanced_accuracy(weights @ counts), strata, 0.5, resampling, ONE_CLASS)
    harmonic = estimate(lambda weights: f1(weights @ counts), strata, trivial, resampling, ONE_CLASS)
    return (balanced, 0.5), (harmonic, trivial)


def accuracy(right: Booleans, chance: float, resampling: Resampling, why: str) -> Estimate:
    """The share of right answers, with its interval.

    Args:
        right: whether each answer is right, shape `(n,)`.
        chance: the value of a guess.
        resampling: how many draws, and their seed.
        why: the note where there is no answer.
    """
    values = right.astype(float)
    even = np.zeros(len(right))
    return estimate(lambda weights: _share(weights @ values, weights.sum(axis=1)), even, chance, resampling, why)


def fit_threshold(scores: Sequence[float] | Floats, truth: Booleans) -> float | None:
    """The threshold whose "score > threshold" has the best balanced accuracy; of equals the widest gap's middle.

    It lies between two of the scores: saying the same of everything is no answer, even where no answer is better.

    Args:
        scores: shape `(n,)`.
        truth: shape `(n,)`.

    Returns:
        None if the truth has one class only, or all scores are the same: then nothing can be fitted.
    """
    values = np.asarray(scores, dtype=np.float64)
    levels = np.unique(values)
    if len(levels) < 2 or truth.all() or not truth.any():
        return None
    middles, gaps = (levels[1:] + levels[:-1]) / 2, np.diff(levels)
    above = values[None, :] > middles[:, None]
    quality = (above[:, truth].mean(axis=1) + (~above[:, ~truth]).mean(axis=1)) / 2
    best = np.flatnonzero(quality >= quality.max() - 1e-12)
    return float(middles[best[np.argmax(gaps[best])]])


def _share(part: Floats, whole: Floats) -> Floats:
    defined = whole > 0
    return np.where(defined, part / np.where(defined, whole, 1.0), np.nan)
