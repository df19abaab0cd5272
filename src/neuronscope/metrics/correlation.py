"""How well predictions agree with the ground truth: plain functions of arrays.

Pearson's r is ours and not SciPy's, to which the tests hold it: for a constant row `pearsonr` gives NaN, and for one
that is constant but for rounding it correlates the rounding.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuronscope.metrics.bootstrap import (
    CONSTANT,
    NO_SEQUENCES,
    NO_VARIATION,
    Estimate,
    Resampling,
    Sizes,
    Statistic,
    draw_weights,
    estimate,
    not_measured,
    ratio,
)
from neuronscope.results import PredictionError
from neuronscope.types import Exemplar, Stratum, normalise

Floats = NDArray[np.floating[Any]]
PerSequence = Sequence[Floats]
"""Per sequence, shape `(tokens,)`."""

CONSTANT_SPREAD = 1e-12
"""Values whose range is a smaller part of their size differ by rounding alone."""

_CONTEXT_WORDS = 8
_CONTEXT_CHARACTERS = 120


class Correlation(NamedTuple):
    """Pearson's r, and whether there was anything to correlate."""

    value: float | None
    """Between -1 and 1, and 0 for a constant prediction; None if the ground truth is constant: then nothing is
    measured."""
    constant: bool
    """True if the prediction is constant."""


def pearson(predicted: Floats, actual: Floats) -> Correlation:
    """Pearson correlation of two arrays of shape `(tokens,)`: the paper's Score (appendix C, equation 4).

    Raises:
        ValueError: the shapes differ.
    """
    return pearson_rows(np.asarray(predicted)[None], actual)[0]


def pearson_rows(predicted: Floats, actual: Floats) -> list[Correlation]:
    """Pearson correlation of every row of `predicted` with the ground truth.

    A row or ground truth that holds fewer than two values, or any that is not finite, counts as constant. A constant
    row says nothing and scores 0; with constant ground truth no row has a score.

    Args:
        predicted: shape `(explanations, tokens)`, any scale.
        actual: shape `(tokens,)`, any scale.

    Raises:
        ValueError: the numbers of tokens differ.
    """
    if np.ndim(predicted) != 2 or np.shape(predicted)[1:] != np.shape(actual):
        raise ValueError(
            f"Cannot correlate predictions of shape {np.shape(predicted)} with activations of shape {np.shape(actual)}."
        )
    rows, constant = _unit_length(np.asarray(predicted, dtype=np.float64))
    truth, truth_constant = _unit_length(np.asarray(actual, dtype=np.float64)[None])
    values = np.clip(rows @ truth[0], -1.0, 1.0)
    measured = not truth_constant[0]
    return [
        Correlation(float(value) if measured else None, bool(flag))
        for value, flag in zip(values, constant, strict=True)
    ]


def varies(values: Floats) -> bool:
    """Whether something can be correlated with these values: there are two at least, finite and not all the same."""
    return not _unit_length(np.asarray(values, dtype=np.float64)[None])[1][0]


def _unit_length(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Centre every row and scale it to length 1; a constant row becomes zeros and is flagged.

    Dividing by the largest magnitude first keeps sums of squares away from overflow and underflow.
    """
    if rows.shape[1] < 2:
        return np.zeros_like(rows), np.ones(len(rows), dtype=bool)
    rows = np.where(np.isfinite(rows).all(axis=1, keepdims=True), rows, 0.0)
    rows = rows / _positive(np.abs(rows).max(axis=1))
    spread: NDArray[np.float64] = rows.max(axis=1) - rows.min(axis=1)
    constant = np.less_equal(spread, CONSTANT_SPREAD)
    rows = np.where(constant[:, None], 0.0, rows - rows.mean(axis=1, keepdims=True))
    rows = rows / _positive(np.abs(rows).max(axis=1))
    return rows / _positive(np.linalg.norm(rows, axis=1)), constant


def _positive(sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(sizes > 0, sizes, 1.0)[:, None]


def correlation(
    predicted: PerSequence,
    actual: PerSequence,
    strata: NDArray[Any],
    resampling: Resampling,
    sizes: Sizes | None = None,
) -> Estimate:
    """Pearson's r over the pooled tokens of the sequences: the paper's Score (appendix C), with its interval.

    With the sizes of the strata that the sequences were drawn from, an estimate of r over all sequences of all strata:
    each counts as often as the sequences that it stands for. Where all were drawn, it is that r, and the interval has
    no width.

    Args:
        predicted: per sequence, shape `(tokens,)`.
        actual: the same shapes.
        strata: each sequence's stratum for the resampling.
        resampling: how many draws, and their seed.
        sizes: how many sequences each stratum has, if not the sequences at hand are meant but all of them.
    """
    if not len(actual):
        return not_measured(NO_SEQUENCES)
    left, right = np.concatenate(predicted), np.concatenate(actual)
    whole = pearson(left, right)
    if whole.value is None:
        return not_measured(NO_VARIATION)
    if whole.constant:
        return Estimate(0.0, 0.0, 0.0, CONSTANT)
    if sizes is not None and all(np.sum(strata == part) == size for part, size in sizes.items()):
        return Estimate(whole.value, whole.value, whole.value)
    sampled = estimate(pearson_statistic(predicted, actual), strata, 0.0, resampling, NO_VARIATION, sizes)
    if sizes is not None:
        return sampled
    ends = [whole.value, *(end for end in (sampled.low, sampled.high) if end is not None)]
    return Estimate(whole.value, min(ends), max(ends))


def corpus_correlation(
    predicted: PerSequence, actual: PerSequence, strata: Sequence[Stratum], resampling: Resampling
) -> Estimate:
    """Pearson's r over a whole split, estimated from what was drawn of each of its parts, with its interval.

    Args:
        predicted: per sequence, shape `(tokens,)`: those of the first part, then those of the next.
        actual: the same shapes.
        strata: the parts.
        resampling: how many draws, and their seed.
    """
    part_of = np.repeat(np.arange(len(strata)), [len(part.ids) for part in strata])
    return correlation(predicted, actual, part_of, resampling, {n: part.size for n, part in enumerate(strata)})


def pearson_statistic(predicted: PerSequence, actual: PerSequence) -> Statistic:
    """Pearson's r over the pooled tokens, as a function of how often each sequence counts."""
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


def assign_exemplars(predicted: Sequence[Floats], actual: Sequence[Floats]) -> NDArray[np.bool_]:
    """Find out which explanation fits each exemplar best: the parts D_k of the paper's equation (1).

    The fit is the squared error on the exemplar's tokens, after each explanation's predictions have been multiplied
    by the factor, not negative, that suits all the exemplars together best (least squares). So an explanation that
    merely speaks louder gains nothing, but one that is surer here than elsewhere does; a correlation within one
    exemplar would be blind to that, and undefined for constant predictions. An exemplar that several explanations fit
    equally well, as when none of them predicts anything in it, belongs to each of them.

    Args:
        predicted: per exemplar, shape `(explanations, tokens)`, not negative.
        actual: per exemplar, shape `(tokens,)`, any scale.

    Returns:
        Shape `(explanations, exemplars)`: whether the exemplar belongs to the explanation.
    """
    pooled = np.concatenate([np.asarray(part, dtype=np.float64) for part in predicted], axis=1)
    truth = np.concatenate([np.asarray(part, dtype=np.float64) for part in actual])
    power = (pooled**2).sum(axis=1)
    factor = np.maximum(pooled @ truth, 0.0) / np.where(power > 0, power, 1.0)
    squared = (factor[:, None] * pooled - truth) ** 2
    starts = np.cumsum([0, *(len(part) for part in actual[:-1])])
    errors: NDArray[np.float64] = np.add.reduceat(squared, starts, axis=1)
    belongs: NDArray[np.bool_] = errors <= errors.min(axis=0) * (1 + 1e-9)
    return belongs


def largest_errors(
    predicted: Sequence[Floats], exemplars: Sequence[Exemplar], maximum: float, n: int = 5, at_least: float = 1.0
) -> tuple[PredictionError, ...]:
    """The worst mistakes of one explanation: first tokens predicted too low, then too high.

    Args:
        predicted: per exemplar, shape `(tokens,)`, on the scale 0-10.
        exemplars: with the true activations.
        maximum: the neuron's largest activation, which is 10.
        n: at most this many each way, largest first; one text of a token appears once each way.
        at_least: smaller differences are no mistakes.
    """
    if not exemplars:
        return ()
    actual = [normalise(exemplar.activations, maximum) for exemplar in exemplars]
    differences = np.concatenate(predicted) - np.concatenate(actual)
    starts = np.cumsum([0, *(len(row) for row in actual)])
    errors: list[PredictionError] = []
    for sign in (-1, 1):
        size = sign * differences
        worst = np.argsort(-size, kind="stable")
        seen: set[str] = set()
        for place in worst[size[worst] >= at_least]:
            index = int(np.searchsorted(starts, place, side="right")) - 1
            position = int(place - starts[index])
            tokens = exemplars[index].tokens
            if len(seen) == n:
                break
            if tokens[position] in seen:
                continue
            seen.add(tokens[position])
            errors.append(
                PredictionError(
                    context=_last_words("".join(tokens[:position])),
                    token=tokens[position],
                    predicted=round(float(predicted[index][position]), 2),
                    actual=round(float(actual[index][position]), 2),
                )
            )
    return tuple(errors)


def _last_words(text: str) -> str:
    """The end of a left context: at most eight words."""
    words: list[str] = re.findall(r"\S+\s*", text)
    return "".join(words[-_CONTEXT_WORDS:])[-_CONTEXT_CHARACTERS:]


def deviation_of_gain(
    before: Floats, after: Floats, truth: Floats, lengths: Sequence[int], resampling: Resampling
) -> float:
    """How much the difference between two predictions' correlations varies between samples of sequences.

    Args:
        before: shape `(tokens,)`, of all sequences one after the other.
        after: the other prediction.
        truth: the activations.
        lengths: of the sequences.
        resampling: how sequences are drawn.

    Returns:
        The standard deviation over the draws for which both correlations are defined; 0 if there are none.
    """
    weights = draw_weights(np.zeros(len(lengths)), resampling)
    first, second, actual = (np.split(values, np.cumsum(lengths)[:-1]) for values in (before, after, truth))
    gains = pearson_statistic(second, actual)(weights) - pearson_statistic(first, actual)(weights)
    defined = gains[np.isfinite(gains)]
    return float(defined.std()) if len(defined) else 0.0
