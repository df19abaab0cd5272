"""What the built-in roles find in exemplars: matching pursuit, held against brute force."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import neuronscope as ns
from agent_helpers import exemplar
from neuronscope.offline.english import STRENGTHS, Condition, read, write
from neuronscope.offline.features import view
from neuronscope.offline.pursuit import MINIMUM_COUNT, MINIMUM_STRENGTH, SHRINKAGE, Evidence
from neuronscope.simulators.hybrid import quoted_strengths

LEVELS = [strength for _, strength in STRENGTHS]

texts = st.lists(st.tuples(st.sampled_from([" a", " b", " c", "d"]), st.sampled_from([0, 0, 1, 4, 10])), min_size=2)
many_texts = st.lists(texts, min_size=1, max_size=3)


def evidence_of(many, maximum=10.0):
    exemplars = []
    for number, pairs in enumerate(many):
        tokens = [token for token, _ in pairs]
        activations = np.array([activation for _, activation in pairs], np.float32)
        exemplars.append(ns.Exemplar(tokens, list(range(len(tokens))), activations, number, "by hand"))
    return Evidence.of(exemplars, maximum)


def by_hand(*marked):
    return Evidence.of([exemplar(text, number) for number, text in enumerate(marked)], 10.0)


def gain(evidence, kind, number, weights):
    """How much squared error the first choice removes, said plainly; and its strength."""
    where = evidence.codes[kind] == number
    mass, actual = weights[where], evidence.activations[where]
    shrunken = (mass * actual).sum() / (mass.sum() + SHRINKAGE)
    if shrunken < MINIMUM_STRENGTH or (weights[where] > 0).sum() < MINIMUM_COUNT[kind]:
        return 0.0, 0.0
    value = min(LEVELS, key=lambda level: max(level / shrunken, shrunken / level))
    silent_occurrences = SHRINKAGE * value**2
    return (mass * actual**2).sum() - (mass * (actual - value) ** 2).sum() - silent_occurrences, value


def best_gain(evidence, weights):
    gains = [
        gain(evidence, kind, number, weights)[0]
        for kind, candidates in evidence.candidates.items()
        for number in range(len(candidates))
    ]
    return max(gains, default=0.0)


@given(many_texts)
def test_the_first_condition_is_the_one_that_removes_most_squared_error(many):
    evidence = evidence_of(many)
    best = best_gain(evidence, np.ones(len(evidence.activations)))
    found = evidence.pursue(1)
    assert [weighted.gain for weighted in found] == pytest.approx([best] if best > 1e-6 else [])


@given(many_texts, st.data())
def test_tokens_count_by_their_weights(many, data):
    evidence = evidence_of(many)
    n = len(evidence.activations)
    weights = np.array(data.draw(st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=n, max_size=n)))
    best = best_gain(evidence, weights)
    assert [weighted.gain for weighted in evidence.pursue(1, weights)] == pytest.approx([best] if best > 1e-6 else [])


@given(many_texts)
def test_the_strength_is_the_shrunken_mean_in_words(many):
    evidence = evidence_of(many)
    for weighted in evidence.pursue(1):
        condition = weighted.condition
        kind = "token" if not condition.after else "pair" if condition.text else "after"
        number = evidence.candidates[kind].index(Condition(condition.text, condition.after, 0.0, condition.form))
        assert condition.strength == gain(evidence, kind, number, np.ones(len(evidence.activations)))[1]


@given(many_texts)
def test_every_condition_is_found_once_and_removes_something(many):
    found = evidence_of(many).pursue(20)
    said = [(weighted.condition.text, weighted.condition.after, weighted.condition.form) for weighted in found]
    assert len(set(said)) == len(said)
    assert all(weighted.gain > 0 and weighted.condition.strength in LEVELS for weighted in found)


@given(many_texts, st.integers(0, 5))
def test_fewer_conditions_are_the_first_of_more(many, n):
    evidence = evidence_of(many)
    assert evidence.pursue(n) == evidence.pursue(20)[:n]


@given(many_texts)
def test_the_whole_pursuit_predicts_better_than_silence(many):
    evidence = evidence_of(many)
    found = evidence.pursue(20)
    assume(found)
    reading = read(write([weighted.condition for weighted in found]))
    said = np.concatenate([quoted_strengths(reading, seen) for seen in evidence.views])
    error = ((np.nan_to_num(said) - evidence.activations) ** 2).sum()
    assert error < (evidence.activations**2).sum()


@given(st.lists(st.sampled_from([" the", " un", "happi", "ness", " a", "b", ".", "\n", ' "', "-", " don", "'t", " é"])))
def test_the_simulator_finds_every_condition_where_the_statistics_found_it(tokens):
    assume(tokens)
    evidence = evidence_of([[(token, 0) for token in tokens]])
    seen = view(tokens)
    for kind, candidates in evidence.candidates.items():
        for number, condition in enumerate(candidates):
            sentence = write([Condition(condition.text, condition.after, 6.0, condition.form)])
            fulfilled = quoted_strengths(read(sentence), seen) > 0
            assert fulfilled[evidence.codes[kind] == number].all()


def test_a_pair_says_more_than_its_token_and_overrides_it():
    evidence = by_hand(f"x{' in which of course' * 6}{' of{ which:9}' * 6}")
    first = evidence.pursue(1)[0].condition
    assert (first.text, first.after) == ("which", ("of",))


def test_what_follows_a_token_is_one_condition_when_it_is_always_something_else():
    found = by_hand(" ".join(f"the{{ {word}:9}} {word}" for word in ["cat", "sea", "hat", "box", "sun", "map", "jam"]))
    assert found.pursue(1)[0].condition == Condition("", ("the",), 10.0)


def test_one_sighting_of_a_pair_is_no_evidence_for_it():
    conditions = [weighted.condition for weighted in by_hand("so of{ which:9} and").pursue(20)]
    assert [(condition.text, condition.after) for condition in conditions] == [("which", ())]


def test_what_was_seen_once_is_believed_half():
    assert by_hand("so{ which:9} and").pursue(1)[0].condition.strength == 3.6  # 4.5 in words


def test_what_is_stated_already_is_not_found_again():
    evidence = by_hand("a{ red:9} and{ blue:9} sky", "some{ red:9} and{ blue:9} sky")
    assert {weighted.condition.text for weighted in evidence.pursue(2)} == {"red", "blue"}
    found = evidence.pursue(20, None, ['It fires very strongly on "red".'])
    assert "red" not in {weighted.condition.text for weighted in found if not weighted.condition.after}
    assert found[0].condition.text == "blue"


def test_an_estimate_is_the_shrunken_mean_where_a_condition_holds():
    evidence = by_hand("a{ red:9} and{ red:6} sky")
    assert evidence.estimate(Condition("red")) == pytest.approx(15 / 3)
    assert evidence.estimate(Condition("red", ("a",))) == pytest.approx(9 / 2)
    assert evidence.estimate(Condition("never")) == 0.0


def test_activations_are_on_the_scale_of_the_neurons_maximum():
    assert by_hand("a{ red:9}").activations.tolist() == [0, 9]
    assert Evidence.of([exemplar("a{ red:2}{ blue:5}")], 4.0).activations.tolist() == [0, 5, 10]
    assert Evidence.of([exemplar("a{ red:2}")], 0.0).pursue(5) == []


def test_tokens_that_cannot_be_quoted_are_no_conditions():
    evidence = evidence_of([[(" a", 0), ("\ufffd", 10), ("`", 10), ("  ", 10), ("\x00", 10), ("x" * 90, 10)]])
    assert all(set(codes[1:]) == {-1} for kind, codes in evidence.codes.items() if kind == "token")
    assert evidence.pursue(20) == []


def test_without_exemplars_there_is_nothing_to_find():
    assert Evidence.of([], 10.0).pursue(5) == []
