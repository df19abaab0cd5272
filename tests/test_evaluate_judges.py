"""A language model as the judge: its answers are read with suspicion, and what cannot be read is an abstention."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

import neuronscope as ns
from agent_helpers import answering, exemplar, scripted
from llm_server import unheard
from neuronscope.agents.judge import LLMJudge, read_index, read_verdicts
from neuronscope.llm import UsageTracker
from neuronscope.metrics.stimuli import Marked

WATER = exemplar("Add two cups of cold{ water:8.7} and stir until the{ liquid:4.2} is clear.")
MARKED = Marked(WATER.tokens, WATER.activations > 2.5)


@pytest.mark.parametrize(
    ("answer", "verdicts"),
    [
        ("[1, 0, 1]", [True, False, True]),
        ('{"answers": [1,0,1]}', [True, False, True]),
        ("Here you are:\n```json\n[true, false, True]\n```", [True, False, True]),
        ("Texts [1, 2] are alike, so: [0,0,1,]", [False, False, True]),
        ("[1, 0]", None),
        ("[1, 0, 1, 1]", None),
        ("[1, 2, 0]", None),
        ("all of them", None),
        ("", None),
    ],
)
def test_only_an_array_of_as_many_zeros_and_ones_as_texts_is_a_verdict(answer: str, verdicts: Any) -> None:
    assert read_verdicts(answer, 3) == verdicts


@pytest.mark.parametrize(
    ("answer", "place"),
    [
        ('{"intruder": 2}', 1),
        ("The intruder is 5.", 4),
        ("2. Yes, 2!", 1),
        ("either 1 or 3", None),
        ("0", None),
        ("6", None),
        ("the last one", None),
    ],
)
def test_only_one_number_that_a_text_has_names_the_intruder(answer: str, place: Any) -> None:
    assert read_index(answer, 5) == place


async def test_texts_are_judged_five_to_a_request_and_answers_come_in_their_order() -> None:
    def says(messages: Any) -> str:
        lines = re.findall(r"^\d+\. (.*)$", str(messages[-1].content), re.MULTILINE)
        return json.dumps([int("water" in line) for line in lines])

    llm = answering(says)
    texts = ["water" if number % 3 else "sand" for number in range(12)]
    assert await LLMJudge(llm).detect("It fires on water.", texts) == [text == "water" for text in texts]
    assert len(llm.prompts) == 3


async def test_what_is_refused_or_unreadable_is_an_abstention_for_the_texts_of_that_request() -> None:
    answers = iter(["[1,1,1,1,1]", "I'm sorry, I can't.", "no idea"])
    judge = LLMJudge(answering(lambda messages: next(answers)))
    assert await judge.detect("water", ["text"] * 12) == [True] * 5 + [None] * 7


async def test_a_request_that_fails_is_an_abstention_unless_all_fail() -> None:
    judge = LLMJudge(scripted("[1,1,1,1,1]", ConnectionError("gone"), ConnectionError("gone")))
    assert await judge.check("water", [MARKED] * 6) == [True] * 5 + [None]
    with pytest.raises(ns.LLMError, match="judge"):
        await LLMJudge(scripted(*[ConnectionError("gone")] * 4)).detect("water", ["text"] * 6)


async def test_intruders_are_counted_from_0_and_unreadable_answers_abstain() -> None:
    answers = iter(['{"intruder": 3}', "who knows"])
    judge = LLMJudge(answering(lambda messages: next(answers)))
    assert await judge.pick_intruders([[MARKED] * 5] * 2) == [2, None]


async def test_written_texts_are_different_and_no_more_than_asked_for() -> None:
    llm = scripted(json.dumps(["Drink some water.", "drink some water", "Tea is hot.", "Milk is cold."]))
    assert await LLMJudge(llm).write("water", 2) == ["Drink some water.", "Tea is hot."]
    assert await LLMJudge(scripted("I cannot do that.")).write("water", 2) == []


async def test_no_texts_are_no_requests() -> None:
    llm = scripted()
    judge = LLMJudge(llm)
    assert (await judge.detect("water", []), await judge.check("water", []), await judge.pick_intruders([])) == (
        [],
        [],
        [],
    )
    assert llm.prompts == []


@pytest.mark.slow
async def test_a_real_model_is_asked_and_whatever_it_says_is_counted(local_llm: Any, heard: list[str]) -> None:
    """The model is weak: what counts is that answers are read, or counted as abstentions, one for each text."""
    usage = UsageTracker()
    judge = LLMJudge(local_llm, usage)
    verdicts = await judge.detect("It fires on words for liquids.", ["a glass of water", "a wooden chair"])
    places = await judge.pick_intruders([[MARKED] * 3])
    texts = await judge.write("It fires on words for liquids.", 1)
    assert (len(verdicts), len(places)) == (2, 1)
    assert {*verdicts} <= {True, False, None}
    assert places[0] in {None, *range(3)}
    assert all(text.strip() for text in texts)
    assert len(texts) <= 1
    assert not unheard(texts, heard)
    assert usage.counts()["requests"] == {"judge": 3}
    assert len(heard) >= 3
