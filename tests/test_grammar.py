"""What the grammar of explanations reads, and that it reads back whatever it writes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronscope.offline.conditions import Condition
from neuronscope.offline.english import (
    LONGEST_EXPLANATION,
    STRENGTHS,
    nearest_strength,
    quotable,
    read,
    write,
)


def folded(text):
    """A text as conditions hold it: lower case, no spaces around."""
    return text.casefold().strip(" ")


def conditions(explanation):
    return list(read(explanation).conditions)


def words(explanation):
    """The texts of the conditions that fire."""
    return [condition.text for condition in conditions(explanation) if condition.strength > 0]


letters = st.characters(categories=["Ll", "Lo"])
awkward = st.sampled_from([*"\"'“”‘’-\\\n.,;:!()/#{}", "\\n", "and", " or ", "; ", ". ", "not", "after"])
texts = st.lists(st.one_of(awkward, letters, st.characters(exclude_categories=["Cs"])), min_size=1, max_size=12).map(
    lambda pieces: folded("".join(pieces))
)
tokens = texts.filter(quotable)
names = st.text(letters, min_size=1, max_size=8).map(folded).filter(lambda text: text.isalpha())
before = st.lists(st.one_of(tokens, names.map(lambda name: f"-{name}")), max_size=3).map(tuple)
strengths = st.one_of(st.just(0.0), st.floats(0.1, 10.0))
condition = st.one_of(
    st.builds(Condition, tokens, before, strengths, st.just("word")),
    st.builds(Condition, names, before, strengths, st.sampled_from(["part", "ending", "beginning"])),
    st.builds(Condition, st.just(""), before.filter(bool), strengths),
)


def as_said(condition):
    """A condition with its strength in words."""
    strength = nearest_strength(condition.strength)[1] if condition.strength else 0.0
    return (condition.text, condition.after, strength, condition.form)


@given(st.lists(condition, min_size=1, max_size=6))
def test_what_is_written_is_read_back(written):
    found = conditions(write(written))
    assert sorted(map(as_said, found)) == sorted(map(as_said, written))
    assert all(condition.strength in (0.0, *dict(STRENGTHS).values()) for condition in found)


@given(st.lists(condition, min_size=1, max_size=6))
def test_what_is_written_is_on_one_line_and_about_nothing_but_its_conditions(written):
    sentence = write(written)
    reading = read(sentence)
    assert "\n" not in sentence
    assert (reading.kinds, reading.topic, reading.by_example) == ((), "", False)


@given(condition)
def test_what_is_added_to_a_sentence_about_a_topic_leaves_the_topic_and_its_strength(added):
    sentence = write([added], opening="This neuron activates weakly on words for colours; it also fires")
    assert read(sentence).topic == "colours"
    assert read(sentence).topic_strength == 2.2
    assert list(map(as_said, conditions(sentence))) == [as_said(added)]


@given(st.text())
def test_any_text_can_be_read(text):
    reading = read(text)
    assert all(0 <= condition.strength <= 10 for condition in reading.conditions)


@given(st.lists(st.sampled_from(['"', "'", "`", "“", "”", "x", "-", "\\", " ", "\n", ".", ";", "after ", "not "])))
def test_any_arrangement_of_quotation_marks_can_be_read(pieces):
    assert all(condition.text or condition.after for condition in read("".join(pieces)).conditions)


@pytest.mark.parametrize("text", ["", " ", "\t", "\x00", "caf\ufffd", "a`b", "x" * 80])
def test_a_token_that_nobody_could_read_in_quotes_is_not_quotable(text):
    assert not quotable(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [(r"a\nb", "a\nb"), (r"\t", "\t"), (r"\\n", r"\n"), ("\\", "\\"), (r"\d", r"\d"), (r"\-based", "-based")],
)
def test_a_backslash_marks_what_cannot_stand_in_quotes(text, meant):
    assert conditions(f'It fires on "{text}".') == [Condition(meant)]


@pytest.mark.parametrize("quoted", ['"Red"', "“Red”", "`Red`", "'Red'", "‘Red’", "’Red’", '" red "'])
def test_all_quotation_marks_mean_the_same(quoted):
    assert conditions(f"This neuron fires on {quoted}.") == [Condition("red")]


def test_an_apostrophe_is_no_quotation_mark():
    assert words("It's the neuron's way of seeing that we don't know the dogs' names.") == []


def test_a_hyphen_marks_a_part_of_a_word():
    assert conditions('It fires on "-ness" and "-".') == [Condition("ness", form="part"), Condition("-")]


@pytest.mark.parametrize("phrase", ['ending in "ing"', 'that end with "-ing"', 'with the suffix "ing"'])
def test_endings_are_conditions_on_whole_words(phrase):
    assert conditions(f"This neuron activates on words {phrase}.") == [Condition("ing", form="ending")]


@pytest.mark.parametrize("phrase", ['starting with "un"', 'that begin with the letters "un"', 'with the prefix "un-"'])
def test_beginnings_are_conditions_on_whole_words(phrase):
    assert conditions(f"This neuron activates on words {phrase}.") == [Condition("un", form="beginning")]


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ('"which" after "of" or "in"', [("which", ("of", "in"))]),
        ('"which" following "of"', [("which", ("of",))]),
        ('"which" when it is preceded by "of"', [("which", ("of",))]),
        ('"which" after the word "of"', [("which", ("of",))]),
        ('the word after "the"', [("", ("the",))]),
        ('"of", and any token after "the"', [("of", ()), ("", ("the",))]),
        ('"a" after "b", "c" after "d"', [("a", ("b",)), ("c", ("d",))]),
        ('"a" after "b" and "c"', [("a", ("b",)), ("c", ())]),
    ],
)
def test_what_comes_before_belongs_to_the_item_in_front_of_it(sentence, expected):
    assert [(found.text, found.after) for found in conditions(f"It fires on {sentence}.")] == expected


@pytest.mark.parametrize(
    "sentence",
    [
        'before "x"',
        'on "of" before "x" or "y"',
        'on "of" when followed by "x"',
        'on "of" that precedes "x", "y"',
        'on "of" in front of the word "x"',
    ],
)
def test_what_comes_after_a_token_is_never_a_condition(sentence):
    found = conditions(f"This neuron activates {sentence}.")
    assert {condition.text for condition in found} <= {"of"}
    assert not any(condition.after for condition in found)


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ('"a" but not "b" or "c"', [Condition("a"), Condition("b", (), 0.0), Condition("c", (), 0.0)]),
        ('"a", except for "b"', [Condition("a"), Condition("b", (), 0.0)]),
        ('"a" except after "b" or "c"', [Condition("a"), Condition("a", ("b", "c"), 0.0)]),
        ('"a", but not "-b"', [Condition("a"), Condition("b", (), 0.0, "part")]),
        ('"a" but not words ending in "b"', [Condition("a"), Condition("b", (), 0.0, "ending")]),
        ('"a" but not "b" after "c"', [Condition("a"), Condition("b", ("c",), 0.0)]),
    ],
)
def test_exceptions_are_conditions_of_strength_0(sentence, expected):
    assert conditions(f"It fires on {sentence}.") == expected


def test_not_only_is_no_exception():
    assert words('It fires not only on "x" but also on "y".') == ["x", "y"]


def test_a_strength_word_holds_until_the_next_one():
    found = conditions('It fires very strongly on "a", "b" and weakly on "c"; barely on "d". It also fires on "e".')
    assert [condition.strength for condition in found] == [10.0, 10.0, 2.2, 0.8, 6.0]


@given(st.floats(0.01, 10))
def test_the_nearest_strength_is_within_a_step_of_the_scale(value):
    said = nearest_strength(value)[1]
    assert said == min((s for _, s in STRENGTHS), key=lambda s: max(s / value, value / s))


@pytest.mark.parametrize(
    ("sentence", "kinds"),
    [
        ("weakly on numbers", (("numbers", 2.2),)),
        ("on years and other digits", (("numbers", 6.0),)),
        ("strongly on punctuation; faintly on line breaks", (("punctuation", 6.0), ("line breaks", 1.3))),
        ("on capitalised words", (("capitalised", 6.0),)),
    ],
)
def test_kinds_of_tokens_are_known_by_name(sentence, kinds):
    assert read(f"This neuron fires {sentence}.").kinds == kinds


def test_the_topic_is_what_remains():
    reading = read('This neuron weakly activates on words for colours such as "red". It strongly fires on "blue".')
    assert (reading.topic, reading.topic_strength, reading.by_example) == ("colours", 2.2, True)


# Sentences as language models write them, in the style of the paper's appendix G.
@pytest.mark.parametrize(
    ("sentence", "expected", "topic"),
    [
        (
            'This neuron activates when phrases like "Sum", "Subtract", or similar terms for arithmetic appear.',
            ["sum", "subtract"],
            "arithmetic",
        ),
        ("This neuron activates when it encounters the opening bracket ’(’.", ["("], "opening bracket"),
        (
            "This neuron activates when the ’%’ symbol stands in comments within blocks of code.",
            ["%"],
            "symbol stands comments blocks code",
        ),
        ('It fires on keywords such as "From", "where", "(*", and "by".', ["from", "where", "(*", "by"], "keywords"),
        (
            "This neuron strongly activates when ’was’, ’are’, or ’they’ are used to define something.",
            ["was", "are", "they"],
            "define something",
        ),
        (
            'This neuron is most strongly activated by the token "Paris" in any part of the text.',
            ["paris"],
            "",
        ),
        (
            'The neuron reacts to the words "shared" (including variations like "sharing"), "traits", and "kinds".',
            ["shared", "sharing", "traits", "kinds"],
            "variations",
        ),
        (
            "This neuron activates in response to names of towns worldwide, irrespective of language.",
            [],
            "names towns worldwide irrespective language",
        ),
        ("This neuron activates at the beginning of a comment in snippets of Python.", [], "comment snippets Python"),
    ],
)
def test_sentences_of_language_models_are_read_for_their_quotes_and_their_topic(sentence, expected, topic):
    assert words(sentence) == expected
    assert read(sentence).topic == topic


def test_only_the_last_clause_before_a_quotation_says_what_it_is() -> None:
    assert read('Never after a comma; on "x".').conditions == (Condition("x"),)
    assert read('on "y", after.; "x"').conditions == (Condition("y"), Condition("x"))
    assert read('on "a" ,/, and / "b"').conditions == (Condition("a"), Condition("b"))


def test_what_stands_behind_the_longest_explanation_is_not_read() -> None:
    assert read('on "a"' + " " * LONGEST_EXPLANATION + 'and on "b"').conditions == (Condition("a"),)
