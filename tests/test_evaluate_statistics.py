"""The arithmetic behind the table of metrics, against scikit-learn, SciPy and hand-computed values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import bootstrap
from sklearn.metrics import balanced_accuracy_score, f1_score, r2_score, roc_auc_score

from neuronscope.metrics.auc import auc
from neuronscope.metrics.bootstrap import Estimate, Resampling, draw_weights, estimate
from neuronscope.metrics.classification import always_yes, classify, confusion, fit_threshold
from neuronscope.metrics.correlation import pearson
from neuronscope.metrics.named.concept import mean_difference
from neuronscope.metrics.named.correlation import assign_quantiles, correlation
from neuronscope.metrics.named.intruder import accuracy, odd_one_out
from neuronscope.metrics.named.r2 import Line, fit_line, variance_explained

FEW = Resampling(n=40, seed=0)
MANY = Resampling(n=4000, seed=0)

numbers = st.floats(-100, 100, width=32)
columns = st.lists(numbers, min_size=1, max_size=12).map(np.array)
shares = st.lists(st.integers(0, 1000).map(lambda value: value / 1000), min_size=1, max_size=12).map(np.array)
answers = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=20).map(np.array)


@st.composite
def sequences(draw: Any) -> tuple[list[Any], list[Any]]:
    """Predictions and activations of a few sequences of different lengths."""
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=6))
    values = st.integers(0, 20).map(float)
    predicted = [draw(arrays(np.float64, length, elements=values)) for length in lengths]
    actual = [draw(arrays(np.float64, length, elements=values)) for length in lengths]
    return predicted, actual


def strata(rows: Any) -> Any:
    return np.zeros(len(rows))


def holds(found: Estimate) -> bool:
    """A number that is one, within its own interval; or none, with the reason."""
    if found.value is None or found.low is None or found.high is None:
        return found[:3] == (None, None, None) and bool(found.note)
    return bool(np.isfinite(found[:3]).all() and found.low <= found.value <= found.high)


# Intervals


def test_draws_leave_the_size_of_every_stratum_as_it_is() -> None:
    groups = np.array([0, 0, 0, 1, 1, 2])
    weights = draw_weights(groups, FEW)
    assert weights.shape == (40, 6)
    assert [set(weights[:, groups == group].sum(axis=1)) for group in range(3)] == [{3.0}, {2.0}, {1.0}]


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    values = np.random.default_rng(1).normal(size=30)
    first, again, other = (auc(values + 0.3, values, Resampling(50, seed)) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_the_interval_of_a_mean_is_scipys_percentile_interval() -> None:
    right = np.random.default_rng(2).random(60) < 0.3
    ours = accuracy(right, 0.2, MANY, "")
    theirs = bootstrap(
        (right.astype(float),), np.mean, n_resamples=4000, method="percentile", rng=0
    ).confidence_interval
    assert ours.value == right.mean()
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_whole_sequences_are_drawn_not_tokens() -> None:
    """Tokens that repeat each other within a sequence make the number no surer."""
    generator = np.random.default_rng(3)
    predicted, actual = [list(generator.random((12, 1))) for _ in range(2)]
    short = correlation(predicted, actual, strata(actual), MANY)
    repeated = correlation(
        [row.repeat(50) for row in predicted], [row.repeat(50) for row in actual], strata(actual), MANY
    )
    assert [*repeated[:3]] == pytest.approx([*short[:3]], abs=1e-9)


def test_a_draw_that_leaves_a_statistic_undefined_counts_as_the_baseline() -> None:
    """As where one sequence of three carries the whole correlation: without it, nothing is left."""
    found = estimate(lambda weights: np.where(weights[:, 0] > 0, 1.0, np.nan), np.zeros(3), 0.2, FEW, "")
    assert found == (1.0, 0.2, 1.0, "")


def test_without_sequences_nothing_is_measured_and_it_says_why() -> None:
    assert estimate(lambda weights: weights.sum(axis=1), np.zeros(0), 0.5, FEW, "none") == (None, None, None, "none")


# Correlation and variance explained


@given(sequences())
def test_a_correlation_is_pearsons_of_the_pooled_tokens_within_its_interval(rows: Any) -> None:
    predicted, actual = rows
    found = correlation(predicted, actual, strata(actual), FEW)
    expected = pearson(np.concatenate(predicted), np.concatenate(actual))
    assert found.value == (None if expected.value is None else pytest.approx(expected.value))
    assert bool(found.note) is (expected.constant or expected.value is None)
    assert holds(found)


@pytest.mark.parametrize(
    ("predicted", "actual", "value", "reason"),
    [
        ([], [], None, "no such sequences"),
        ([np.ones(3)], [np.arange(3.0)], 0.0, "prediction is the same"),
        ([np.arange(3.0)], [np.zeros(3)], None, "neuron does the same"),
    ],
)
def test_a_constant_prediction_correlates_at_0_and_with_a_constant_truth_nothing_does(
    predicted: Any, actual: Any, value: float | None, reason: str
) -> None:
    found = correlation(predicted, actual, strata(actual), FEW)
    assert found[:3] == (value, value, value)
    assert reason in found.note


def test_a_line_is_fitted_by_least_squares() -> None:
    generator = np.random.default_rng(4)
    predicted = [generator.random(7) for _ in range(5)]
    actual = [3 * row - 1 + 0.1 * generator.normal(size=7) for row in predicted]
    expected = np.polyfit(np.concatenate(predicted), np.concatenate(actual), 1)
    assert [*fit_line(predicted, actual)] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("predicted", "actual", "line"),
    [([], [], (0, 0)), ([np.ones(4)], [np.arange(4.0)], (0, 1.5)), ([np.arange(4.0)], [np.ones(4)], (0, 1))],
)
def test_what_cannot_be_calibrated_is_mapped_to_the_mean(predicted: Any, actual: Any, line: Any) -> None:
    assert fit_line(predicted, actual) == line


@given(sequences(), numbers.filter(lambda slope: abs(slope) > 0.1), numbers)
def test_r2_is_scikit_learns_at_most_1_and_blind_to_the_predictions_scale(
    rows: Any, slope: float, shift: float
) -> None:
    predicted, actual = rows
    line = fit_line(predicted, actual)
    found = variance_explained(predicted, actual, line, strata(actual), FEW)
    assert holds(found)
    truth = np.concatenate(actual)
    assert found.high is None or found.high <= 1 + 1e-9
    if np.ptp(truth) == 0:
        assert found.note
        return
    calibrated = line.slope * np.concatenate(predicted) + line.intercept
    assert found.value == pytest.approx(r2_score(truth, calibrated), abs=1e-9)
    moved = [slope * row + shift for row in predicted]
    again = variance_explained(moved, actual, fit_line(moved, actual), strata(actual), FEW)
    assert again.value == pytest.approx(found.value, abs=1e-6)


def test_what_is_worse_than_the_mean_explains_less_than_nothing() -> None:
    found = variance_explained([np.array([0.0, 1.0])], [np.array([1.0, 0.0])], Line(1, 0), np.zeros(1), FEW)
    assert found.value == -3


def test_quantiles_group_active_sequences_by_activation_and_leave_inactive_ones_out() -> None:
    assert assign_quantiles(np.array([5.0, 0.0, 1.0, 3.0, 2.0]), 2).tolist() == [2, 0, 1, 2, 1]


@given(st.lists(st.floats(0, 100), max_size=30).map(np.array), st.integers(1, 6))
def test_quantiles_are_of_nearly_equal_size_and_in_order(peaks: Any, n: int) -> None:
    groups = assign_quantiles(peaks, n)
    sizes = [int((groups == number).sum()) for number in range(1, n + 1)]
    assert max(sizes) - min(sizes) <= 1
    assert ((groups > 0) == (peaks > 0)).all()
    for number in range(1, n):
        weaker, stronger = peaks[groups == number], peaks[groups == number + 1]
        assert not weaker.size or not stronger.size or weaker.max() <= stronger.min()


# Yes or no


@given(answers)
def test_balanced_accuracy_and_f1_are_scikit_learns(pairs: Any) -> None:
    truth, says = pairs.T
    (balanced, half), (harmonic, _) = classify(confusion(truth, says), truth, FEW)
    assert holds(balanced)
    assert holds(harmonic)
    assert half == 0.5
    if truth.all() or not truth.any():
        assert balanced.note
        assert (balanced.value, harmonic.value) == (None, None)
    else:
        assert balanced.value == pytest.approx(balanced_accuracy_score(truth, says))
        assert harmonic.value == pytest.approx(f1_score(truth, says))


@given(answers)
def test_the_f1_of_always_yes_is_scikit_learns(pairs: Any) -> None:
    truth, says = pairs.T
    trivial = f1_score(truth, np.ones(len(truth), dtype=bool), zero_division=0)
    assert always_yes(confusion(truth, says)) == pytest.approx(trivial)


def test_a_threshold_stands_in_the_middle_of_the_widest_gap_that_is_best() -> None:
    assert fit_threshold([0, 1, 2, 8, 9], np.array([0, 0, 0, 1, 1], dtype=bool)) == 5


@pytest.mark.parametrize(("scores", "truth"), [([1, 2], [1, 1]), ([1, 2], [0, 0]), ([3, 3], [0, 1]), ([], [])])
def test_without_two_classes_or_two_scores_there_is_no_threshold(scores: Any, truth: Any) -> None:
    assert fit_threshold(scores, np.array(truth, dtype=bool)) is None


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=15))
def test_no_other_threshold_between_two_scores_does_better_on_what_it_was_fitted_on(pairs: Any) -> None:
    scores, truth = np.array([score for score, _ in pairs]), np.array([fires for _, fires in pairs])
    threshold = fit_threshold(scores, truth)
    if threshold is not None:
        others = [
            balanced_accuracy_score(truth, scores > other) for other in np.arange(scores.min() + 0.5, scores.max())
        ]
        assert balanced_accuracy_score(truth, scores > threshold) >= max(others) - 1e-9


# Two groups


@given(shares, shares)
def test_an_auc_is_scikit_learns_within_its_interval_and_blind_to_monotone_maps(positive: Any, negative: Any) -> None:
    found = auc(positive, negative, FEW)
    labels = np.repeat([1, 0], [len(positive), len(negative)])
    assert found.value == pytest.approx(roc_auc_score(labels, np.concatenate([positive, negative])))
    assert holds(found)
    assert auc(np.exp(3 * positive) - 7, np.exp(3 * negative) - 7, FEW) == found
    assert auc(negative, positive, FEW).value == pytest.approx(1 - found.value)


@pytest.mark.parametrize(("positive", "negative", "reason"), [([], [1.0], "none of these"), ([1.0], [], "is inactive")])
def test_an_auc_of_one_group_is_not_measured_and_says_why(positive: Any, negative: Any, reason: str) -> None:
    found = auc(np.array(positive), np.array(negative), FEW)
    assert found[:3] == (None, None, None)
    assert reason in found.note


@given(columns, st.lists(numbers, min_size=2, max_size=12).map(np.array), st.floats(0.5, 20), st.floats(-50, 50))
def test_the_mean_difference_is_in_deviations_of_the_control_group(
    concept: Any, control: Any, factor: float, shift: float
) -> None:
    found = mean_difference(concept, control, FEW, "flat")
    assert holds(found)
    deviation = control.std(ddof=1)
    if deviation > 1e-3:
        assert found.value == pytest.approx((concept.mean() - control.mean()) / deviation, rel=1e-6, abs=1e-9)
        moved = mean_difference(factor * concept + shift, factor * control + shift, FEW, "flat")
        assert moved.value == pytest.approx(found.value, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("control", [[], [1.0], [2.0, 2.0, 2.0]])
def test_a_control_group_that_does_not_vary_has_no_mean_difference(control: Any) -> None:
    assert mean_difference(np.array([3.0]), np.array(control), FEW, "flat") == (None, None, None, "flat")


@given(st.permutations(range(5)))
def test_the_odd_one_out_points_elsewhere_wherever_it_stands(order: list[int]) -> None:
    vectors = np.array([[1, 0.1], [1, 0], [1, -0.1], [2, 0.1], [-0.1, 1]])
    assert odd_one_out(vectors[order]) == order.index(4)
