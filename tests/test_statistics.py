"""What the built-in roles find in exemplars: matching pursuit, held against brute force."""

import ast
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import neuronscope as ns
from agent_helpers import exemplar
from neuronscope import offline
from neuronscope.offline.conditions import Condition, predict
from neuronscope.offline.english import STRENGTHS, quotable, read, write
from neuronscope.offline.features import MINIMUM_COUNT, MINIMUM_STRENGTH, MINIMUM_WORDS, SHRINKAGE, Features
from neuronscope.offline.tokens import token_features

LEVELS = [strength for _, strength in STRENGTHS]

texts = st.lists(st.tuples(st.sampled_from([" a", " b", " c", "d"]), st.sampled_from([0, 0, 1, 4, 10])), min_size=2)
many_texts = st.lists(texts, min_size=1, max_size=3)


def features_of(many, maximum=10.0):
    exemplars = []
    for number, pairs in enumerate(many):
        tokens = [token for token, _ in pairs]
        activations = np.array([activation for _, activation in pairs], np.float32)
        exemplars.append(ns.Exemplar(tokens, list(range(len(tokens))), activations, number, "by hand"))
    return Features.of(exemplars, maximum)


def by_hand(*marked):
    return Features.of([exemplar(text, number) for number, text in enumerate(marked)], 10.0)


def fulfilled(features):
    """Every condition that some token fulfils: its kind, its number, and itself; those that cannot be chosen, too."""
    return [
        (kind, number, features.vocabulary.of[kind].listed[number])
        for kind, codes in features.codes.items()
        for number in dict.fromkeys(codes[codes >= 0].tolist())
    ]


def gain(features, kind, number, weights):
    """How much squared error the first choice removes, said plainly; and its strength."""
    where = (features.codes[kind] == number).any(axis=1)
    mass, actual = weights[where], features.activations[where]
    shrunken = (mass * actual).sum() / (mass.sum() + SHRINKAGE)
    if shrunken < MINIMUM_STRENGTH or (weights[where] > 0).sum() < MINIMUM_COUNT[kind]:
        return 0.0, 0.0
    if kind == "named" and not is_shared(features, number):
        return 0.0, 0.0
    value = min(LEVELS, key=lambda level: max(level / shrunken, shrunken / level))
    silent_occurrences = SHRINKAGE * value**2
    return (mass * actual**2).sum() - (mass * (actual - value) ** 2).sum() - silent_occurrences, value


def is_shared(features, number):
    """Whether enough different words are active that are of a kind."""
    of_kind = (features.codes["named"] == number).any(axis=1)
    return len(set(features.words[of_kind & (features.activations >= MINIMUM_STRENGTH)])) >= MINIMUM_WORDS


def best_gain(features, weights):
    gains = [gain(features, kind, number, weights)[0] for kind, number, _ in fulfilled(features)]
    return max(gains, default=0.0)


@given(many_texts)
def test_the_first_condition_is_the_one_that_removes_most_squared_error(many):
    features = features_of(many)
    best = best_gain(features, np.ones(len(features.activations)))
    found = features.matching_pursuit(1)
    assert [selected.gain for selected in found] == pytest.approx([best] if best > 1e-6 else [])


@given(many_texts, st.data())
def test_tokens_count_by_their_weights(many, data):
    features = features_of(many)
    n = len(features.activations)
    weights = np.array(data.draw(st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=n, max_size=n)))
    best = best_gain(features, weights)
    assert [selected.gain for selected in features.matching_pursuit(1, weights)] == pytest.approx(
        [best] if best > 1e-6 else []
    )


@given(many_texts)
def test_the_strength_is_the_shrunken_mean_in_words(many):
    features = features_of(many)
    for selected in features.matching_pursuit(1):
        condition = selected.condition
        kind = "token" if not condition.after else "pair" if condition.text else "after"
        kind = "named" if condition.form in ("kind", "ending", "beginning") else kind
        number = features.vocabulary.of[kind].number(condition.pattern)
        assert condition.strength == gain(features, kind, number, np.ones(len(features.activations)))[1]


def best_gains(features, weights, patterns):
    """What the best choice removes before each of some choices, and after them, said plainly: every gain anew."""
    ranks_of = {"after": 0, "named": 1, "token": 2, "pair": 3}
    predicted, ranks = np.zeros(len(features.activations)), np.full(len(features.activations), -1)
    best, everything = [], fulfilled(features)
    for chosen in [*patterns, None]:
        best.append(0.0)
        applied = None
        for kind in ranks_of:
            for number, candidate in [each[1:] for each in everything if each[0] == kind]:
                where = (features.codes[kind] == number).any(axis=1) & (ranks < ranks_of[kind])
                mass, actual, before = weights[where], features.activations[where], predicted[where]
                shrunken = (mass * actual).sum() / (mass.sum() + SHRINKAGE)
                if shrunken < MINIMUM_STRENGTH or (mass > 0).sum() < MINIMUM_COUNT[kind]:
                    continue
                if kind == "named" and not is_shared(features, number):
                    continue
                value = min(LEVELS, key=lambda level: max(level / shrunken, shrunken / level))
                removed = (mass * ((actual - before) ** 2 - (actual - value) ** 2)).sum() - SHRINKAGE * value**2
                best[-1] = max(best[-1], removed)
                if candidate == chosen:
                    applied = where, value, ranks_of[kind]
        if applied is not None:
            where, value, rank = applied
            predicted[where], ranks[where] = value, rank
    return best


@given(many_texts, st.data())
def test_every_choice_is_the_best_that_is_left(many, data):
    """Of choices that are equally good but for rounding either is right."""
    features = features_of(many)
    size = len(features.activations)
    weights = np.array(data.draw(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=size, max_size=size)))
    found = features.matching_pursuit(6, weights)
    *before, after = best_gains(features, weights, [each.condition.pattern for each in found])
    assert [each.gain for each in found] == pytest.approx(before)
    assert len(found) == 6 or after <= 1e-6


@given(many_texts)
def test_every_condition_is_found_once_and_removes_something(many):
    found = features_of(many).matching_pursuit(20)
    said = [(selected.condition.text, selected.condition.after, selected.condition.form) for selected in found]
    assert len(set(said)) == len(said)
    assert all(selected.gain > 0 and selected.condition.strength in LEVELS for selected in found)


@given(many_texts, st.integers(0, 5))
def test_fewer_conditions_are_the_first_of_more(many, n):
    features = features_of(many)
    assert features.matching_pursuit(n) == features.matching_pursuit(20)[:n]


@given(many_texts)
def test_the_whole_pursuit_predicts_better_than_silence(many):
    features = features_of(many)
    found = features.matching_pursuit(20)
    assume(found)
    said, _ = features.predict([[selected.condition for selected in found]])
    error = ((said - features.activations) ** 2).sum()
    assert error < (features.activations**2).sum()


@given(st.lists(st.sampled_from([" the", " un", "happi", "ness", " a", "b", ".", "\n", ' "', "-", " don", "'t", " é"])))
def test_the_simulator_finds_every_condition_where_the_statistics_found_it(tokens):
    assume(tokens)
    features = features_of([[(token, 0) for token in tokens]])
    seen = token_features(tokens)
    for kind, number, condition in fulfilled(features):
        if kind == "named":  # told from its place, or where the word is complete
            continue
        sentence = write([Condition(condition.text, condition.after, 6.0, condition.form)])
        found = predict(read(sentence).conditions, seen) > 0
        assert found[(features.codes[kind] == number).any(axis=1)].all()


def test_a_pair_says_more_than_its_token_and_overrides_it():
    features = by_hand(f"x{' in which of course' * 6}{' of{ which:9}' * 6}")
    first = features.matching_pursuit(1)[0].condition
    assert (first.text, first.after) == ("which", ("of",))


def test_what_follows_a_token_is_one_condition_when_it_is_always_something_else():
    found = by_hand(" ".join(f"the{{ {word}:9}} {word}" for word in ["cat", "sea", "hat", "box", "sun", "map", "jam"]))
    assert found.matching_pursuit(1)[0].condition == Condition("", ("the",), 10.0)


def test_one_sighting_of_a_pair_is_no_evidence_for_it():
    conditions = [selected.condition for selected in by_hand("so of{ which:9} and").matching_pursuit(20)]
    assert [(condition.text, condition.after) for condition in conditions] == [("which", ())]


def test_what_was_seen_once_is_believed_half():
    assert by_hand("so{ which:9} and").matching_pursuit(1)[0].condition.strength == 3.6  # 4.5 in words


def test_what_is_stated_already_is_not_found_again():
    features = by_hand("a{ red:9} and{ blue:9} sky", "some{ red:9} and{ blue:9} sky")
    assert {selected.condition.text for selected in features.matching_pursuit(2)} == {"red", "blue"}
    found = features.matching_pursuit(20, None, [read('It fires very strongly on "red".').conditions])
    assert "red" not in {selected.condition.text for selected in found if not selected.condition.after}
    assert found[0].condition.text == "blue"


def test_an_estimate_is_the_shrunken_mean_where_a_condition_holds():
    features = by_hand("a{ red:9} and{ red:6} sky")
    assert features.estimate(Condition("red")) == pytest.approx(15 / 3)
    assert features.estimate(Condition("red", ("a",))) == pytest.approx(9 / 2)
    assert features.estimate(Condition("never")) == 0.0


def test_an_estimate_needs_no_sentence_that_could_say_it():
    long = "x" * 90
    assert not quotable(long)
    assert features_of([[(" a", 0), (f" {long}", 9)]]).estimate(Condition(long)) == pytest.approx(9 / 2)


def test_activations_are_on_the_scale_of_the_neurons_maximum():
    assert by_hand("a{ red:9}").activations.tolist() == [0, 9]
    assert Features.of([exemplar("a{ red:2}{ blue:5}")], 4.0).activations.tolist() == [0, 5, 10]
    assert Features.of([exemplar("a{ red:2}")], 0.0).matching_pursuit(5) == []


def test_tokens_that_cannot_be_quoted_are_no_conditions():
    features = features_of([[(" a", 0), ("\ufffd", 10), ("`", 10), ("  ", 10), ("\x00", 10), ("x" * 90, 10)]])
    assert all((codes[1:] == -1).all() for kind, codes in features.codes.items() if kind == "token")
    assert features.matching_pursuit(20) == []


def test_the_offline_package_imports_nothing_from_above():
    folder = Path(offline.__file__).parent
    imported = {
        node.module
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module
    }
    assert "neuronscope.offline.conditions" in imported
    above = ("simulators", "metrics", "agents", "baselines", "graphs", "runs", "session", "cli", "experiments")
    assert [name for name in imported if name.startswith(tuple(f"neuronscope.{package}" for package in above))] == []


def test_without_exemplars_there_is_nothing_to_find():
    assert Features.of([], 10.0).matching_pursuit(5) == []


def test_a_token_that_longer_words_go_on_from_is_a_piece():
    many = [[(" al", 9), ("gae", 0), (" al", 9), ("ps", 0), (" al", 0), (" cat", 9)], [(" cat", 9), (" sea", 0)]]
    assert features_of(many).begun == {"al"}
    assert features_of([]).begun == frozenset()


def test_what_is_kept_of_texts_is_begun_anew_where_it_has_become_large(monkeypatch):
    before = by_hand("the{ cat:9} sat", "a{ cat:9} ran").matching_pursuit(5)
    monkeypatch.setattr("neuronscope.offline.features.MOST_NUMBERED", 1)
    assert [by_hand("the{ cat:9} sat", "a{ cat:9} ran").matching_pursuit(5) for _ in range(2)] == [before, before]
