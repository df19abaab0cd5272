"""What a score is: Pearson's r, never NaN; and which exemplar belongs to which explanation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import pearsonr

from neuronscope.metrics import Correlation, assign_exemplars, largest_errors, pearson, pearson_rows
from neuronscope.metrics.bootstrap import Resampling, draw_weights
from neuronscope.metrics.correlation import deviation_of_gain, varies
from neuronscope.metrics.joint import fit_strengths, joint_prediction
from neuronscope.types import Exemplar

values = arrays(np.float64, 20, elements=st.floats(-1e3, 1e3, allow_subnormal=False))
anything = arrays(np.float64, 20, elements=st.floats(width=64))


@given(values, values)
def test_it_is_the_pearson_correlation(predicted, actual):
    if min(np.ptp(predicted), np.ptp(actual)) > 1e-3:
        assert pearson(predicted, actual).value == pytest.approx(pearsonr(predicted, actual).statistic, abs=1e-7)


@given(anything, anything)
def test_it_is_a_number_between_minus_one_and_one_whatever_comes(predicted, actual):
    value, constant = pearson(predicted, actual)
    assert value is None or -1 <= value <= 1
    assert value in (0, None) or not constant


@given(values, st.floats(1e-6, 1e6), st.floats(-100, 100))
def test_scale_and_offset_of_a_prediction_do_not_matter(actual, scale, offset):
    predicted = np.linspace(0, 10, len(actual))
    assert pearson(predicted * scale + offset, actual).value == pytest.approx(
        pearson(predicted, actual).value, abs=1e-6
    )


def test_it_is_signed():
    assert pearson(np.array([0.0, 1, 2]), np.array([4.0, 2, 0])).value == pytest.approx(-1)


@pytest.mark.parametrize("predicted", [np.full(5, 3.0), np.full(5, 0.1, np.float32), np.zeros(5), np.full(5, 1e308)])
def test_a_constant_prediction_scores_zero_and_is_flagged(predicted):
    assert pearson(predicted, np.arange(5.0)) == Correlation(0.0, constant=True)


@pytest.mark.parametrize("actual", [np.full(5, 3.0), np.zeros(5), np.array([0, 1, 0, np.nan, 0])])
def test_nothing_can_be_measured_against_a_constant_truth(actual):
    assert pearson(np.arange(5.0), actual) == Correlation(None, constant=False)
    assert pearson(np.ones(5), actual) == Correlation(None, constant=True)
    assert not varies(actual)
    assert varies(np.arange(5.0))


def test_rounding_noise_on_a_constant_is_no_signal():
    noisy = 0.3 + np.array([0, 1, 0, -1, 0]) * 1e-16
    assert pearson(noisy, np.arange(5.0)).constant


@pytest.mark.parametrize("size", [1e-300, 1e-30, 1e300])
def test_very_small_and_very_large_values_correlate_like_others(size):
    assert pearson(np.array([0, 1, 2, 0]) * size, np.array([0, 1.0, 2, 0])).value == pytest.approx(1)


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_tokens_have_no_correlation(n):
    assert pearson(np.ones(n), np.ones(n)) == Correlation(None, constant=True)


def test_different_lengths_are_an_error_not_a_broadcast():
    with pytest.raises(ValueError, match="shape"):
        pearson(np.ones(3), np.ones(1))


@given(arrays(np.float64, (4, 20), elements=st.floats(-10, 10)), values)
def test_many_explanations_at_once_score_as_one_by_one(predicted, actual):
    for together, alone in zip(
        pearson_rows(predicted, actual), (pearson(row, actual) for row in predicted), strict=True
    ):
        assert together.constant == alone.constant
        assert together.value == pytest.approx(alone.value, abs=1e-9)


def test_an_exemplar_belongs_to_the_explanation_that_fits_it_best():
    actual = [np.array([0, 8.0, 0]), np.array([0, 0, 6.0]), np.array([7.0, 0, 0])]
    first = [np.array([0, 9.0, 0]), np.array([0, 0, 0.0]), np.array([5.0, 0, 0])]
    second = [np.array([0, 0.0, 0]), np.array([0, 0, 5.0]), np.array([0.0, 0, 0])]
    belongs = assign_exemplars([np.stack(pair) for pair in zip(first, second, strict=True)], actual)
    assert belongs.tolist() == [[True, False, True], [False, True, False]]


def test_speaking_louder_wins_no_exemplars():
    rng = np.random.default_rng(0)
    actual = [rng.random(8) for _ in range(10)]
    predicted = [rng.random((3, 8)) for _ in range(10)]
    louder = [array * np.array([[0.1], [1], [7]]) for array in predicted]
    assert assign_exemplars(louder, actual).tolist() == assign_exemplars(predicted, actual).tolist()


def test_of_two_that_point_at_the_right_token_the_surer_one_fits_better():
    actual = [np.array([0, 8.0, 0]), np.array([0, 0, 8.0])]
    predicted = [np.array([[0, 0.1, 0], [0, 9, 0.5]]), np.array([[0, 0, 9.0], [0, 0, 0]])]
    assert assign_exemplars(predicted, actual).tolist() == [[False, True], [True, False]]


def test_a_constant_explanation_can_be_compared_and_loses_to_one_that_fits():
    actual = [np.array([0, 8.0, 0, 0]), np.array([0, 0, 6.0, 0])]
    predicted = [np.stack([np.full(4, 3.0), row]) for row in actual]
    assert assign_exemplars(predicted, actual).tolist() == [[False, False], [True, True]]


def test_an_exemplar_in_which_nothing_is_predicted_belongs_to_all():
    actual = [np.array([0, 1.0]), np.array([1.0, 0])]
    assert assign_exemplars([np.zeros((2, 2))] * 2, actual).all()


def exemplar(text, activations):
    tokens = text.replace(" ", "| ").split("|")
    return Exemplar(tokens, range(len(tokens)), np.array(activations, np.float32), 0, "test")


def test_the_largest_errors_go_both_ways_with_their_left_context():
    shown = exemplar("one two three four five six seven eight nine ten", [0] * 9 + [4])
    predicted = np.array([0, 7.0, 0, 0, 0, 0, 0, 0, 0, 2])
    low, high = largest_errors([predicted], [shown], maximum=4.0)
    assert (low.token, low.predicted, low.actual) == (" ten", 2.0, 10.0)
    assert low.context == "two three four five six seven eight nine"
    assert (high.token, high.predicted, high.actual, high.context) == (" two", 7.0, 0.0, "one")


def test_a_token_appears_once_among_the_errors_and_small_differences_do_not():
    shown = exemplar("a b b b c", [0, 8, 9, 10, 0.5])
    errors = largest_errors([np.zeros(5)], [shown], maximum=10.0)
    assert [(error.token, error.actual) for error in errors] == [(" b", 10.0)]


rows_of_modes = arrays(np.float64, (3, 12), elements=st.sampled_from([0.0, 0.0, 2.0, 10.0]))
truths = arrays(np.float64, 12, elements=st.sampled_from([0.0, 0.0, 1.0, 5.0, 10.0]))


def weighted_error(predicted, strengths, actual):
    weights = np.where(actual >= 1, 1.0, 0.25)
    return float((weights * (joint_prediction(predicted, strengths) - actual) ** 2).sum())


@given(rows_of_modes, truths)
def test_strengths_predict_no_worse_together_than_least_squares_of_the_sum(predicted, actual):
    from scipy.optimize import nnls

    root = np.sqrt(np.where(actual >= 1, 1.0, 0.25))
    of_sum = 10 * nnls((predicted * root).T, actual * root)[0]
    fitted = fit_strengths(predicted, actual)
    assert all(0 <= strength <= 10 for strength in fitted)
    if of_sum.max() <= 10:
        assert weighted_error(predicted, fitted, actual) <= weighted_error(predicted, list(of_sum), actual) + 1e-6


def test_two_modes_that_speak_of_the_same_tokens_both_have_a_strength():
    here = np.array([10.0, 10.0, 0.0, 0.0])
    assert fit_strengths(np.stack([here, here]), here * 0.6) == pytest.approx([6.0, 6.0])


def test_a_strength_is_the_activation_where_a_mode_applies_more_than_how_often_it_is_wrong():
    predicted, actual = np.full((1, 4), 10.0), np.array([8.0, 8.0, 0.0, 0.0])
    assert fit_strengths(predicted, actual) == pytest.approx([8 / 1.25])


@given(st.integers(0, 5))
def test_the_deviation_of_a_gain_is_that_of_correlations_over_repeated_sequences(seed):
    generator = np.random.default_rng(seed)
    lengths, resampling = [3, 5, 4, 6], Resampling(20, seed)
    truth, before, after = generator.normal(size=(3, sum(lengths)))
    starts = np.cumsum([0, *lengths])
    gains = []
    for counts in draw_weights(np.zeros(4), resampling):
        places = [
            np.tile(np.arange(starts[index], starts[index + 1]), int(counts[index])) for index in range(len(lengths))
        ]
        drawn = np.concatenate(places)
        gains.append(pearsonr(after[drawn], truth[drawn]).statistic - pearsonr(before[drawn], truth[drawn]).statistic)
    assert deviation_of_gain(before, after, truth, lengths, resampling) == pytest.approx(np.std(gains))


def test_the_deviation_of_no_gain_is_nothing():
    truth = np.arange(6.0)
    assert deviation_of_gain(truth, truth, truth, [3, 3], Resampling(20, 0)) == 0
    assert deviation_of_gain(np.zeros(6), np.zeros(6), truth, [3, 3], Resampling(20, 0)) == 0
