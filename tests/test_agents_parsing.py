"""Answers as they really come."""

from __future__ import annotations

import json

import pytest
from langchain_core.messages import AIMessage

import neuronscope as ns
from neuronscope.agents.parsing import distinct, read_sentence, read_sentences, tidy
from neuronscope.answers import read_text

A = "This neuron activates when the word is water."
B = 'This neuron activates on "red".'


@pytest.mark.parametrize(
    "answer",
    [
        '["{a}", "{b}"]',
        '{{"conditions": ["{a}", "{b}"]}}',
        '[{{"condition": "{a}"}}, {{"condition": "{b}"}}]',
        '```json\n["{a}", "{b}"]\n```',
        'Here is the array:\n```\n[\n  "{a}",\n  "{b}",\n]\n```\nI hope this helps!',
        'Sure:\n["{a}", "{b}"]\nAnything else?',
        'The conditions are ["{a}", "{b}"].',
        '["{a}", "{b}"',
        "<think>Maybe [\"no\"]? Let me see.</think>\n[\"{a}\", \"{b}\"]",
        'so I thought about it</think>["{a}", "{b}"]',
        "1. {plain_a}\n2. {plain_b}",
        "Conditions:\n\n1) {plain_a}\n2) {plain_b}\n",
        "- {plain_a}\n* {plain_b}",
        "[1] {plain_a}\n[2] {plain_b}",
        "1. This neuron activates when the word\n   is water.\n2. {plain_b}",
        "Of course:\n{plain_a}\n\n{plain_b}",
        '["This neuron activates when the word is water.", "This neuron activates on "red"."]',
    ],
)  # fmt: skip
def test_the_sentences_are_found(answer: str) -> None:
    escaped = B.replace('"', '\\"')
    text = answer.format(a=A, b=escaped, plain_a=A, plain_b=B) if "{" in answer else answer
    assert read_sentences(AIMessage(text), "decomposition") == [A, B]


def test_a_tool_call_is_read_like_json() -> None:
    call = {"name": "conditions", "args": {"conditions": [A, B]}, "id": "1"}
    assert read_sentences(AIMessage("", tool_calls=[call]), "decomposition") == [A, B]


def test_content_blocks_are_read_without_the_reasoning() -> None:
    blocks: list[str | dict[str, str]] = [
        {"type": "reasoning", "reasoning": f'["{B}"]?'},
        {"type": "thinking", "thinking": "Hm. 1. This neuron is hard."},
        {"type": "text", "text": f'["{A}",'},
        {"type": "text", "text": f" {json.dumps(B)}]"},
    ]
    assert read_sentences(AIMessage(blocks), "decomposition") == [A, B]


def test_reasoning_beside_the_content_is_no_answer() -> None:
    message = AIMessage("", additional_kwargs={"reasoning_content": A})
    with pytest.raises(ns.LLMError, match="empty"):
        read_sentences(message, "decomposition")


@pytest.mark.parametrize(
    "answer",
    [
        f"[THINK]\n- {B}\n[/THINK]\n- {A}",
        f"<|channel|>analysis<|message|>- {B}<|end|><|start|>assistant<|channel|>final<|message|>- {A}",
        f"<think>- {B}</think>\n<think>again</think>\n- {A}",
    ],
)
def test_other_models_think_in_other_marks(answer: str) -> None:
    assert read_sentences(AIMessage(answer), "decomposition") == [A]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (f'["{A}", "This neuron activates on wat', [A]),
        (f"1. {A}\n2. This neuron activates on wat", [A]),
        (f'["{A}", {json.dumps(B)}', [A, B]),
        (f"1. {A}\n2. {B}", [A, B]),
        ("This neuron activates on wat", ["This neuron activates on wat"]),
    ],
)
@pytest.mark.parametrize("metadata", [{"finish_reason": "length"}, {"stop_reason": "max_tokens"}])
def test_a_sentence_that_the_length_limit_cut_is_left_out_unless_it_is_all_there_is(
    answer: str, expected: list[str], metadata: dict[str, str]
) -> None:
    assert read_sentences(AIMessage(answer, response_metadata=metadata), "decomposition") == expected


def test_thoughts_that_reach_the_length_limit_are_an_error_that_says_so() -> None:
    message = AIMessage("<think>Let me see", response_metadata={"finish_reason": "length"})
    with pytest.raises(ns.LLMError, match="still thinking"):
        read_text(message, "hypothesis")


@pytest.mark.parametrize(
    "answer", ["", "  \n", "<think>I wonder", "I'm sorry, but I can't help with that.", "```\n```", "[]", "42"]
)
def test_refusals_and_empty_answers_are_errors_that_name_the_agent(answer: str) -> None:
    with pytest.raises(ns.LLMError, match="decomposition"):
        read_sentences(AIMessage(answer), "decomposition")


def test_a_refusal_of_structured_output_is_an_error() -> None:
    message = AIMessage("", additional_kwargs={"refusal": "No, never."})
    with pytest.raises(ns.LLMError, match=r"hypothesis: the model refuses: 'No, never\.'"):
        read_text(message, "hypothesis")


def test_text_is_read_without_thoughts_and_fences() -> None:
    assert read_text(AIMessage("<thinking>hm\nhm</thinking>\n```\nIt likes water.\n```"), "hypothesis") == (
        "It likes water."
    )


@pytest.mark.parametrize("answer", [A, f'"{A}"', f"Here it is:\n{A}", f'["{A}"]', f"1. {A}\n2. other words"])
def test_one_sentence_is_found(answer: str) -> None:
    assert read_sentence(AIMessage(answer), "refinement") == A


def test_a_sentence_without_the_neuron_is_taken_whole() -> None:
    assert read_sentence(AIMessage("Words for\ncolours."), "refinement") == "Words for colours."


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("two\n  lines", "two lines"),
        ("on 'water' and “ice”", 'on "water" and "ice"'),
        ("the dogs' and cats' food, don't", "the dogs' and cats' food, don't"),
        ('on "\n\n" only', r'on "\n\n" only'),
        ("**Colours**: on **red**", "Colours: on red"),
        ('the operator "**" in "a ** b"', 'the operator "**" in "a ** b"'),
        ("lone \ud800 surrogate", "lone ? surrogate"),
    ],
)
def test_a_sentence_is_tidied(sentence: str, expected: str) -> None:
    assert tidy(sentence) == expected


def test_repetitions_in_other_case_spacing_or_stop_are_one() -> None:
    assert distinct(["On water.", "on  Water", "On ice.", ""], known=["ON ICE"]) == ["On water."]
