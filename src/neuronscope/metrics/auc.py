"""Two groups of numbers, and how far they lie apart: the area under the ROC curve.

Ours and not scikit-learn's `roc_auc_score`, to which the tests hold it: a thousand draws take that two
seconds, and this one a few thousandths, since a draw is a few sums with other weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronscope.metrics.bootstrap import Estimate, Resampling, Statistic, estimate

Numbers = NDArray[np.floating[Any]]

NO_POSITIVES = "the neuron is active on none of these sequences"
NO_NEGATIVES = "there is no sequence on which the neuron is inactive"


def auc(positive: Numbers, negative: Numbers, resampling: Resampling, why: str = "") -> Estimate:
    """The probability that a positive has a larger number than a negative (ties count half), with its interval.

    Args:
        positive: shape `(positives,)`.
        negative: shape `(negatives,)`.
        resampling: how many draws, and their seed; positives and negatives are drawn apart.
        why: the note where either is missing; "" says which.
    """
    left, right = np.asarray(positive)[:, None], np.asarray(negative)[None, :]
    missing = NO_POSITIVES if not len(positive) else NO_NEGATIVES
    return auc_of_pairs((left > right) + 0.5 * (left == right), resampling, why or missing)


def auc_of_pairs(wins: Numbers, resampling: Resampling, why: str) -> Estimate:
    """`auc` where each pair of a positive and a negative has been compared by itself.

    Args:
        wins: shape `(positives, negatives)`: 1 where the positive is larger, 0.5 for a tie, else 0.
        resampling: how many draws, and their seed; positives and negatives are drawn apart.
        why: the note where there is no pair.
    """
    strata = np.repeat([0, 1], wins.shape)
    return estimate(_mean_win(np.asarray(wins, dtype=np.float64)), strata, 0.5, resampling, why)


def _mean_win(wins: NDArray[np.float64]) -> Statistic:
    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        if not wins.size:
            return np.full(len(weights), np.nan)
        ours, theirs = weights[:, : len(wins)], weights[:, len(wins) :]
        shares: NDArray[np.float64] = ((ours @ wins) * theirs).sum(axis=1) / (ours.sum(axis=1) * theirs.sum(axis=1))
        return shares

    return statistic
