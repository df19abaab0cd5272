"""Two groups of numbers, and how far they lie apart: the area under the ROC curve, and the difference of means."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronscope.llm.embeddings import unit_length
from neuronscope.metrics.bootstrap import Estimate, Resampling, Statistic, estimate

Numbers = NDArray[np.floating[Any]]

NO_POSITIVES = "none of these sequences fires"
NO_NEGATIVES = "there is no sequence that does not fire"


def auc(positive: Numbers, negative: Numbers, resampling: Resampling, why: str = "") -> Estimate:
    """The chance that a positive has a larger number than a negative (ties count half), with its interval.

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


def mean_difference(concept: Numbers, control: Numbers, resampling: Resampling, why: str) -> Estimate:
    """CoSy's MAD: the difference of the means, in standard deviations of the control group (n - 1 below the line).

    Where the control group does not vary (there it is 0) nothing is measured.

    Args:
        concept: shape `(concept texts,)`.
        control: shape `(control texts,)`.
        resampling: how many draws, and their seed; the groups are drawn apart.
        why: the note where a group is missing, or the control group does not vary.
    """
    n_concept = len(concept)
    left, right = np.asarray(concept, dtype=np.float64), np.asarray(control, dtype=np.float64)
    scale = float(np.abs(right).max(initial=0.0)) or 1.0

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        if not len(left) or len(right) < 2:
            return np.full(len(weights), np.nan)
        drawn = weights[:, n_concept:]
        mean = drawn @ right / len(right)
        squares = (drawn * (right[None, :] - mean[:, None]) ** 2).sum(axis=1)
        spread = np.sqrt(squares / (len(right) - 1))
        varies = spread > 1e-9 * scale
        distance = weights[:, :n_concept] @ left / len(left) - mean
        return np.where(varies, distance / np.where(varies, spread, 1.0), np.nan)

    return estimate(statistic, _groups(left, right), 0.0, resampling, why)


def odd_one_out(vectors: NDArray[np.floating[Any]]) -> int:
    """The vector least like the others: the one with the smallest mean cosine similarity to them.

    Args:
        vectors: shape `(n, dimensions)`, at least two.
    """
    unit = unit_length(vectors)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, 0.0)
    return int(np.argmin(similarity.sum(axis=1)))


def _mean_win(wins: NDArray[np.float64]) -> Statistic:
    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        if not wins.size:
            return np.full(len(weights), np.nan)
        ours, theirs = weights[:, : len(wins)], weights[:, len(wins) :]
        shares: NDArray[np.float64] = ((ours @ wins) * theirs).sum(axis=1) / (ours.sum(axis=1) * theirs.sum(axis=1))
        return shares

    return statistic


def _groups(first: Numbers, second: Numbers) -> NDArray[np.int_]:
    return np.repeat([0, 1], [len(first), len(second)])
