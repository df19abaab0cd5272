"""What the reader takes a sentence to say, clause by clause, and the kinds of tokens that it knows."""

from __future__ import annotations

import pytest

from neuronscope.offline.kinds import COLUMN
from neuronscope.offline.text import text_of
from neuronscope.simulators.reader.clauses import clauses_of

TEXT = (
    'In| May| |1|7|9|3| (|a| warm| month|),| the| UN|\'s| read|able| report| said|:| "|It| is| state|-|owned|."|'
    " See| os|.|path|_|name|.|\n|\n|Then| it| won|'t| matter|."
)


def tokens_of(kind: str) -> list[str]:
    tokens = TEXT.split("|")
    return [token for token, is_one in zip(tokens, text_of(tokens).kinds[:, COLUMN[kind]], strict=True) if is_one]


@pytest.mark.parametrize(
    ("kind", "tokens"),
    [
        ("number", ["1", "7", "9", "3"]),
        ("two digits", ["7"]),
        ("year", ["3"]),
        ("first digit", ["1"]),
        ("all capitals", [" UN"]),
        ("possessive", ["'s"]),
        ("in parentheses", ["a", " warm", " month"]),
        ("in quotes", ["It", " is", " state", "-", "owned"]),
        ("hyphenated", ["owned"]),
        ("dotted", ["path"]),
        ("month", [" May"]),
        ("first of a sentence", [" See", "Then"]),
        ("piece", ["able"]),
        ("contraction", ["'s", "'t"]),
        ("line break", ["\n", "\n"]),
        ("modal", [" May"]),
    ],
)
def test_kinds_of_tokens(kind: str, tokens: list[str]) -> None:
    assert tokens_of(kind) == tokens


def test_kinds_depend_on_nothing_that_comes_later() -> None:
    tokens = TEXT.split("|")
    whole = text_of(tokens).kinds
    for length in range(len(tokens)):
        assert (text_of(tokens[:length]).kinds == whole[:length]).all()


@pytest.mark.parametrize(
    "sentence",
    [
        '"to" directly after "according"',
        '"to" if the previous token is "according"',
        'After "according", "to".',
        'This neuron activates on "to" when preceded by "according".',
        '"to" whose left neighbour is "according"',
    ],
)
def test_what_comes_before_is_told_from_the_target(sentence: str) -> None:
    (clause,) = clauses_of(sentence)
    assert clause.target.literals == ("to",)
    assert clause.after is not None
    assert clause.after.literals == ("according",)


@pytest.mark.parametrize(
    "sentence",
    ['"to" in the phrase "due to"', 'The "to" of "due to"', '"to", as in "due to"', 'in "due to", the word "to"'],
)
def test_a_phrase_is_told_from_the_target(sentence: str) -> None:
    (clause,) = clauses_of(sentence)
    assert clause.phrases == ("due to",)
    assert "to" in clause.target.literals or clause.target.words == "any word"


def test_topics_places_examples_and_exceptions() -> None:
    (topic,) = clauses_of('The word "the" in articles about chess.')
    assert (topic.target.literals, topic.topic) == (("the",), "chess")
    (place,) = clauses_of("capitalised words at the start of a sentence")
    assert (place.target.words, place.place) == ("capitalised words", "first of a sentence")
    (example,) = clauses_of('Names of months, such as "June" or "May"')
    assert (example.target.words, example.examples) == ("names of months", ("june", "may"))
    (exception,) = clauses_of('Names of months; "June" stays near zero.')
    assert exception.excepted is not None
    assert exception.excepted.literals == ("june",)


@pytest.mark.parametrize(
    ("sentence", "suffixes", "prefixes"),
    [
        ("words ending in -able", ("able",), ()),
        ('words whose last letters are "tion"', ("tion",), ()),
        ("nouns with the suffix -ness", ("ness",), ()),
        ("words that begin with the letters c-o-n", (), ("con",)),
        ("the prefix over-", (), ("over",)),
    ],
)
def test_endings_and_beginnings(sentence: str, suffixes: tuple[str, ...], prefixes: tuple[str, ...]) -> None:
    (clause,) = clauses_of(sentence)
    assert (clause.target.suffixes, clause.target.prefixes) == (suffixes, prefixes)


@pytest.mark.parametrize(
    ("sentence", "lengths"),
    [
        ("words of at least ten letters", (10, 0)),
        ("words with more than seven letters", (8, 0)),
        ("words of two letters or fewer", (0, 2)),
    ],
)
def test_lengths_of_words(sentence: str, lengths: tuple[int, int]) -> None:
    (clause,) = clauses_of(sentence)
    assert (clause.target.shortest, clause.target.longest) == lengths


@pytest.mark.parametrize(
    "sentence",
    [
        "",
        "   ",
        "⟦3⟧",
        '"',
        "{T} after {A}",
        "; ; .",
        '"a"' * 400,
        "not " * 300,
        f"words of at least {'9' * 5000} letters",
    ],
)
def test_odd_sentences_are_read_as_something(sentence: str) -> None:
    assert len(clauses_of(sentence)) <= 8
