"""What the hybrid simulator predicts: quoted tokens exactly, topics and neighbours by meaning."""

import re
import zlib
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.embeddings import Embeddings

import neuronscope as ns
from neuronscope.simulators import HybridSimulator


@cache
def direction(text):
    return np.random.default_rng(zlib.crc32(text.encode())).normal(size=384).tolist()


class Unrelated(Embeddings):
    """A random direction for every text, so that nothing resembles anything else; keeps what it was asked."""

    def __init__(self):
        self.asked = []

    def embed_documents(self, texts):
        self.asked += texts
        return [direction(text) for text in texts]

    def embed_query(self, text):
        return self.embed_documents([text])[0]


def tokens_of(*tokens, sequence_id=0):
    silent = np.zeros(len(tokens), np.float32)
    return ns.Exemplar(tokens, list(range(len(tokens))), silent, sequence_id, "by hand")


def words_of(text, sequence_id=0):
    """One token for each word, with the space in front of it, and for each mark."""
    return tokens_of(*re.findall(r"\s?\w+|\s?[^\w\s]|\s", text), sequence_id=sequence_id)


def predicted(explanation, *tokens):
    exemplar = words_of(tokens[0]) if len(tokens) == 1 else tokens_of(*tokens)
    return [round(float(value), 2) for value in HybridSimulator(Unrelated()).simulate([explanation], [exemplar])[0][0]]


# Quoted tokens


@pytest.mark.parametrize("token", [" red", "red", " Red", "RED"])
def test_a_quoted_word_fires_with_or_without_a_space_or_capitals(token):
    assert predicted('It fires strongly on "red".', "(", token, " hat") == [0, 6, 0]


def test_a_strength_word_says_how_much():
    said = 'It fires very strongly on "a", moderately on "b", barely on "c".'
    assert predicted(said, "a b c d") == [10.0, 3.6, 0.8, 0]


def test_a_quoted_part_fires_within_words_only():
    assert predicted('It fires on "-ness".', " kind", "ness", " ness") == [0, 6, 0]


def test_a_quoted_word_fires_half_within_other_words():
    assert predicted('It fires on "ness".', " kind", "ness", " ness") == [0, 3, 6]


def test_a_phrase_fires_at_its_last_token_and_half_on_the_way():
    assert predicted('It fires on "of course".', "well of course not of") == [0, 3, 6, 0, 0]


def test_a_word_of_several_tokens_fires_at_its_last_token_and_half_on_the_way():
    assert predicted('It fires on "oracle".', " the", " or", "ac", "le", ".", " coracle") == [0, 3, 3, 6, 0, 0]


def test_a_phrase_is_made_of_whole_words():
    assert predicted('It fires on "of course".', "proof courses of courses") == [0, 0, 0, 0]


def test_endings_fire_where_the_word_is_complete():
    assert predicted('It fires on words ending in "ness".', " kind", "ness", " nessie", " madness") == [0, 6, 0, 6]


def test_beginnings_fire_where_the_word_begins():
    assert predicted('It fires on words starting with "un".', " un", "kind", " fun", " unfit") == [6, 0, 0, 6]


def test_a_symbol_fires_where_it_stands_alone():
    assert predicted('It fires on "(" and "\\n".', "f", "(", "x", ")", "\n") == [0, 6, 0, 0, 6]


def test_what_comes_before_must_be_there():
    assert predicted('It fires on "it" after "of".', "it of it in it") == [0, 0, 6, 0, 0]


def test_any_token_after_a_word_fires():
    assert predicted('It fires on any token after "of".', "sort of cat of dogs too") == [0, 0, 6, 0, 6, 0]


def test_what_comes_before_is_a_whole_word_unless_it_has_a_hyphen():
    tokens = (" kind", "ness", " is", " ness", " is")
    assert predicted('It fires on "is" after "ness".', *tokens) == [0, 0, 0, 0, 6]
    assert predicted('It fires on "is" after "-ness".', *tokens) == [0, 0, 6, 0, 6]


def test_exceptions_are_silent():
    assert predicted('It fires on "a", "b" but not "b" after "c".', "a b c b") == [6, 6, 0, 0]
    assert predicted('It fires on any token after "the" but not "cat".', "the cat the dog") == [0, 0, 0, 6]
    assert predicted('It fires on "-s" but not words ending in "es".', " cat", "s", " box", "es") == [0, 6, 0, 0]


def test_the_most_specific_condition_wins():
    said = 'It fires weakly on any token after "of"; moderately on "it"; very strongly on "it" after "of".'
    assert predicted(said, "it of it of cats") == [3.6, 0, 10, 0, 2.2]
    said = 'It fires very strongly on "which"; barely on "which" after "of".'
    assert predicted(said, "which of which") == [10, 0, 0.8]


def test_of_equally_specific_conditions_the_stronger_wins():
    assert predicted('It fires weakly on "a". It fires very strongly on "a". It fires barely on "a".', "a") == [10]


def test_what_comes_after_a_token_is_not_seen():
    assert predicted('It fires on "of" before "x".', "of x") == predicted('It fires on "of" before "x".', "of y")


# Kinds of tokens


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("numbers", [0, 6, 0, 0, 0, 0]),
        ("punctuation", [0, 0, 0, 6, 0, 0]),
        ("capitalised words", [6, 0, 0, 0, 0, 6]),
        ("line breaks", [0, 0, 0, 0, 6, 0]),
    ],
)
def test_kinds_of_tokens_fire_where_they_stand(kind, expected):
    tokens = ("In", " 1984", " rain", ",", "\n", " Bonn")
    assert predicted(f"This neuron activates on {kind}.", *tokens) == expected


# Meaning, with real embeddings


@pytest.fixture(scope="module")
def minilm():
    return HybridSimulator()


@pytest.mark.parametrize(
    ("explanation", "text", "firing"),
    [
        (
            "words for colours",
            "The purple dog sat near a yellow house and a green tree.",
            {"purple", "yellow", "green"},
        ),
        ("This neuron activates on words for colours.", "The meeting was short and the lawyer left early.", set()),
        ("names of countries", "They flew from France to Brazil for two weeks.", {"France", "Brazil"}),
        ("This neuron fires on numbers.", "There were 27 dogs in the house and 3 cats.", {"27", "3"}),
    ],
)
def test_a_topic_fires_on_words_that_belong_to_it(minilm, explanation, text, firing):
    exemplar = words_of(text)
    values = minilm.simulate([explanation], [exemplar])[0][0]
    strong = {token.strip() for token, value in zip(exemplar.tokens, values, strict=True) if value > 4}
    weak = {token.strip() for token, value in zip(exemplar.tokens, values, strict=True) if 0 < value <= 4}
    assert strong == firing
    assert not weak


def test_a_strength_word_scales_a_topic(minilm):
    exemplar = words_of("a purple hat")
    strong, weak = minilm.simulate(["strongly on words for colours", "weakly on words for colours"], [exemplar])[0]
    assert weak == pytest.approx(strong * 2.2 / 6)
    assert strong[1] > 4


def test_neighbours_of_a_quoted_word_fire_a_little(minilm):
    values = minilm.simulate(['It fires on "red" and "green".'], [words_of("red yellow lawyer")])[0][0]
    assert values[0] == 6
    assert 0 < values[1] < 3
    assert values[2] == 0


def test_an_exception_is_stronger_than_the_topic(minilm):
    values = minilm.simulate(['It fires on words for colours but not "purple".'], [words_of("purple yellow")])[0][0]
    assert values[0] == 0
    assert values[1] > 0


# Shapes and laws

explanation = st.one_of(
    st.text(max_size=30),
    st.sampled_from(['"a"', 'any token after "a"', "words for colours", 'not "a"', "numbers", "", "weakly on colours"]),
)
exemplar = st.lists(st.one_of(st.text(max_size=4), st.sampled_from([" a", "A", "ness", "1", "\n", "é", "\ufffd"])))


@given(st.lists(explanation, max_size=3), st.lists(exemplar.filter(bool), max_size=3))
def test_every_exemplar_has_a_row_of_0_to_10_for_every_explanation(explanations, many):
    exemplars = [tokens_of(*tokens) for tokens in many]
    predictions = HybridSimulator(Unrelated()).simulate(explanations, exemplars)
    assert [rows.shape for rows in predictions] == [(len(explanations), len(tokens)) for tokens in many]
    for rows in predictions:
        assert rows.dtype == np.float32
        assert np.isfinite(rows).all()
        assert ((rows >= 0) & (rows <= 10)).all()


@given(st.lists(explanation, min_size=1, max_size=3), st.lists(exemplar.filter(bool), min_size=1, max_size=3))
def test_a_prediction_does_not_depend_on_what_shares_the_call(explanations, many):
    exemplars = [tokens_of(*tokens) for tokens in many]
    together = HybridSimulator(Unrelated()).simulate(explanations, exemplars)
    for rows, one in zip(together, exemplars, strict=True):
        for row, text in zip(rows, explanations, strict=True):
            alone = HybridSimulator(Unrelated()).simulate([text], [one])[0][0]
            assert alone == pytest.approx(row, abs=1e-4)


def test_a_prediction_does_not_depend_on_earlier_calls(minilm):
    explanation, exemplar = "words for colours", words_of("the purple hat of the old king")
    first = minilm.simulate([explanation], [exemplar])[0]
    minilm.simulate(["names of countries", explanation], [words_of("They left France in blue ships."), exemplar])
    assert np.array_equal(minilm.simulate([explanation], [exemplar])[0], first)


def test_the_truth_is_not_looked_at():
    blank = words_of("a red hat")
    known = ns.Exemplar(blank.tokens, blank.token_ids, np.array([0, 9, 1], np.float32), 7, "elsewhere")
    blind, sighted = HybridSimulator(Unrelated()).simulate(['"hat"'], [blank, known])
    assert np.array_equal(blind, sighted)


def test_no_explanations_and_no_exemplars_are_empty_answers():
    simulator = HybridSimulator(Unrelated())
    assert simulator.simulate(['"red"'], []) == []
    assert simulator.simulate([], [words_of("a red hat")])[0].shape == (0, 3)
    assert simulator.simulate(['"red"'], [tokens_of("red")])[0].tolist() == [[6.0]]


@pytest.mark.parametrize(
    "hostile", ["\x00", '"' * 999, "(" * 999, "\\" * 999, "a" * 9999, '"(a+)+$" after "[^"', "{0.__class__}"]
)
def test_hostile_text_is_only_text(hostile):
    rows = HybridSimulator(Unrelated()).simulate(
        [hostile, f'on "{hostile}"'], [tokens_of(hostile, " a"), words_of("a b")]
    )
    assert all(((row >= 0) & (row <= 10)).all() for row in rows)


def test_every_text_is_embedded_once():
    embeddings = Unrelated()
    simulator = HybridSimulator(embeddings)
    exemplars = [words_of("a red hat and a red scarf"), words_of("a red hat and shoes")]
    simulator.simulate(["words for colours", 'shades of "blue"'], exemplars)
    simulator.simulate(["words for colours", "words for garments"], exemplars)
    assert len(embeddings.asked) == len(set(embeddings.asked))
    before = len(embeddings.asked)
    simulator.simulate(["words for garments", 'shades of "blue"'], exemplars)
    assert len(embeddings.asked) == before


def test_without_a_topic_or_words_to_compare_nothing_is_embedded():
    embeddings = Unrelated()
    HybridSimulator(embeddings).simulate(['It fires on "a" and "-ness" after "the"; on numbers.'], [words_of("a 1")])
    assert embeddings.asked == []


def test_a_small_memory_gives_the_same_predictions():
    explanations, exemplars = ["words for colours", '"hat"'], [words_of("a red hat"), words_of("some blue shoes")]
    large, small = HybridSimulator(Unrelated()), HybridSimulator(Unrelated(), capacity=1)
    for _ in range(2):
        for one, other in zip(
            large.simulate(explanations, exemplars), small.simulate(explanations, exemplars), strict=True
        ):
            assert one == pytest.approx(other, abs=1e-4)
