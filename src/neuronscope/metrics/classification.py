"""Yes or no: is the neuron active on a sequence, are the marks right? Thresholds, balanced accuracy, F1.

Balanced accuracy and F1 are ours and not scikit-learn's, to which the tests hold them: a thousand draws take those
one to two seconds a number, and these a few thousandths, since a draw is a few sums with other weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronscope.metrics.bootstrap import Estimate, Resampling, estimate, ratio
from neuronscope.metrics.data import EvaluationData
from neuronscope.metrics.stimuli import ACTIVATION_THRESHOLD
from neuronscope.metrics.table import Measurement, measurement
from neuronscope.types import SCALE

Booleans = NDArray[np.bool_]
Floats = NDArray[np.float64]
Answers = Sequence[bool | None] | Booleans
"""One to each question; None is an answer that could not be had."""

ONE_CLASS = "all of these sequences have the same true answer"

FALLBACK_THRESHOLD = ACTIVATION_THRESHOLD * SCALE
"""What a prediction must exceed where validation does not say."""
UNFITTED = f"validation cannot tell what prediction means activity; {FALLBACK_THRESHOLD:g} of {SCALE:g} was taken"


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
    true_positive, false_negative, false_positive, true_negative = np.moveaxis(counts, -1, 0)
    recall = ratio(true_positive, true_positive + false_negative)
    return (recall + ratio(true_negative, true_negative + false_positive)) / 2


def f1(counts: Floats) -> Floats:
    """The harmonic mean of precision and recall; NaN where there are no positives, or no negatives.

    Without negatives it is 1 for whoever always says yes, so it says nothing.
    """
    true_positive, false_negative, false_positive, true_negative = np.moveaxis(counts, -1, 0)
    value = ratio(2 * true_positive, 2 * true_positive + false_negative + false_positive)
    has_both = (true_positive + false_negative > 0) & (true_negative + false_positive > 0)
    return np.where(has_both, value, np.nan)


def always_yes(counts: Floats) -> float:
    """The F1 of whoever says yes to everything: what F1 has to be compared with."""
    positives, n = counts[:, :2].sum(), counts.sum()
    return float(2 * positives / (positives + n)) if n else 0.0


def classify(
    counts: Floats, strata: NDArray[Any], resampling: Resampling
) -> tuple[tuple[Estimate, float], tuple[Estimate, float]]:
    """Balanced accuracy and F1 with their intervals, each with its baseline.

    Args:
        counts: one row per sequence, as of `confusion`; a sequence with several answers has their sum.
        strata: each sequence's stratum for the resampling.
        resampling: how many draws, and their seed.
    """
    trivial = always_yes(counts)
    balanced = estimate(lambda weights: balanced_accuracy(weights @ counts), strata, 0.5, resampling, ONE_CLASS)
    harmonic = estimate(lambda weights: f1(weights @ counts), strata, trivial, resampling, ONE_CLASS)
    return (balanced, 0.5), (harmonic, trivial)


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
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(truth, values, drop_intermediate=False)  # a point per level: "at least as large"
    quality = (true - false)[-2:0:-1]  # but for the ends, where all answers are the same; from the lowest level up
    best = np.flatnonzero(quality >= quality.max() - 1e-12)
    middles, gaps = (levels[1:] + levels[:-1]) / 2, np.diff(levels)
    return float(middles[best[np.argmax(gaps[best])]])


def classification_results(
    data: EvaluationData,
    metric: str,
    explanation: str,
    counts: NDArray[np.float64],
    strata: NDArray[Any],
    judge: str,
    abstentions: int,
    note: str,
    negatives: str = "",
) -> list[Measurement]:
    """The results of balanced accuracy and F1; the counts and strata are those of `classify`."""
    balanced, harmonic = classify(counts, strata, data.resampling)
    return [
        measurement(
            f"{metric}_{name}",
            explanation,
            found if found.note else found._replace(note=note),
            n=len(counts),
            baseline=baseline if len(counts) else None,
            judge=judge,
            negatives=negatives,
            abstentions=abstentions,
        )
        for name, (found, baseline) in (("balanced_accuracy", balanced), ("f1", harmonic))
    ]


def threshold(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> tuple[float, str]:
    """The threshold that fits best, or the stated one and the note that says so."""
    fitted = fit_threshold(scores, truth)
    return (FALLBACK_THRESHOLD, UNFITTED) if fitted is None else (fitted, "")
