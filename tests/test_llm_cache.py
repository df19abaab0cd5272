"""Answers that are kept, and those that had better not be."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI

from agent_helpers import scripted
from fake_openai import Reply, fake_openai
from neuronscope.agents.prompts import sentences_schema
from neuronscope.llm import AnswerCache, UsageTracker, ask, ask_blocking, ask_many
from neuronscope.llm.answers import read_text
from neuronscope.llm.refusals import unable

KEY = "sk-sentinel-1234567890abcdef"
QUESTION = [SystemMessage("Be brief."), HumanMessage("What does it like?")]


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    unable.clear()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "answers" / "answers.sqlite"


def model(**settings: Any) -> ChatOpenAI:
    return ChatOpenAI(**({"model": "m", "api_key": "none", "base_url": "http://127.0.0.1:1/v1"} | settings))


async def test_the_same_is_not_asked_twice_also_not_by_another_process(file: Path) -> None:
    with fake_openai(Reply("Water #.")) as server:
        first = UsageTracker(cache=AnswerCache(file))
        answers = [await ask(server.model(), QUESTION, "hypothesis", usage=first) for _ in range(2)]
        second = UsageTracker(cache=AnswerCache(file))
        answers.append(await ask(server.model(), QUESTION, "hypothesis", usage=second))
        assert len(server.requests) == 1
    assert {answer.text for answer in answers} == {"Water 0."}
    assert (first.counts()["requests"], first.counts()["cached"]) == ({"hypothesis": 1}, {"hypothesis": 1})
    assert (second.counts()["requests"], second.counts()["cached"]) == ({}, {"hypothesis": 1})
    assert second.counts()["input_tokens"] == {}, "an answer that was kept costs nothing"


async def test_threads_and_loops_share_what_is_kept(file: Path) -> None:
    with fake_openai(Reply()) as server:
        usage = UsageTracker(cache=AnswerCache(file))
        await ask(server.model(), QUESTION, "simulator", usage=usage)
        ask_blocking(server.model(), QUESTION, "simulator", usage=usage)
        assert len(server.requests) == 1


async def test_independent_answers_to_one_prompt_stay_apart_and_come_back_in_order(file: Path) -> None:
    with fake_openai(lambda request, number: Reply(f"{number}-#")) as server:
        runs = []
        for _ in range(2):
            usage = UsageTracker(cache=AnswerCache(file))
            drafts = [await ask(server.model(), QUESTION, "hypothesis", usage=usage, sample=n) for n in range(3)]
            several = await ask_many(server.model(), QUESTION, "hypothesis", 6, usage=usage)
            runs.append([answer.text for answer in [*drafts, *several]])
        assert len(server.requests) == 4, "three drafts, and one request for the three that were missing"
    assert runs[0] == runs[1] == ["0-0", "1-0", "2-0", "0-0", "1-0", "2-0", "3-0", "3-1", "3-2"]


ANOTHER: dict[str, Any] = {
    "model": {"model": "other"},
    "server": {"base_url": "http://127.0.0.1:2/v1"},
    "temperature": {"temperature": 0.1},
    "length": {"max_tokens": 7},
    "seed": {"seed": 3},
    "option": {"logit_bias": {1: 2}},
}


@pytest.mark.parametrize("settings", ANOTHER.values(), ids=ANOTHER)
def test_another_model_or_setting_is_another_answer(file: Path, settings: dict[str, Any]) -> None:
    cache = AnswerCache(file)
    cache.keep(model(), QUESTION, None, 0, AIMessage("It likes water."))
    assert cache.find(model(), QUESTION, None, 0) is not None
    assert cache.find(model(**settings), QUESTION, None, 0) is None


def test_another_prompt_schema_or_sample_is_another_answer(file: Path) -> None:
    cache = AnswerCache(file)
    cache.keep(model(), QUESTION, None, 0, AIMessage("It likes water."))
    assert cache.find(model(), QUESTION[1:], None, 0) is None
    assert cache.find(model(), [HumanMessage("Be brief."), QUESTION[1]], None, 0) is None
    assert cache.find(model(), QUESTION, sentences_schema("conditions"), 0) is None
    assert cache.find(model(), QUESTION, None, 1) is None


def test_another_key_is_the_same_answer(file: Path) -> None:
    cache = AnswerCache(file)
    cache.keep(model(api_key="one"), QUESTION, None, 0, AIMessage("It likes water."))
    assert cache.find(model(api_key="another"), QUESTION, None, 0) is not None


BLOCKS: list[str | dict[str, Any]] = [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "Ice \ud800."}]
CALL = {"name": "conditions", "args": {"conditions": ["This neuron fires on ice."]}, "id": "1", "type": "tool_call"}


@pytest.mark.parametrize(
    "answer",
    [
        AIMessage("It likes water.", response_metadata={"finish_reason": "stop", "model_name": "m-1"}),
        AIMessage(BLOCKS, usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}),
        AIMessage("", tool_calls=[CALL]),
    ],
)
def test_an_answer_comes_back_as_it_was(file: Path, answer: AIMessage) -> None:
    AnswerCache(file).keep(model(), QUESTION, None, 0, answer)
    assert AnswerCache(file).find(model(), QUESTION, None, 0) == answer


@pytest.mark.parametrize(
    "answer",
    [
        AIMessage(""),
        AIMessage("<think>hm"),
        AIMessage("I'm sorry, I can't."),
        AIMessage("", additional_kwargs={"refusal": "No."}),
        AIMessage("It likes wat", response_metadata={"finish_reason": "length"}),
    ],
)
def test_an_answer_that_may_come_out_better_is_not_kept(file: Path, answer: AIMessage) -> None:
    cache = AnswerCache(file)
    cache.keep(model(), QUESTION, None, 0, answer)
    assert len(cache) == 0


def test_a_model_that_does_not_say_what_it_is_is_asked_every_time(file: Path) -> None:
    cache = AnswerCache(file)
    cache.keep(scripted(), QUESTION, None, 0, AIMessage("It likes water."))
    assert len(cache) == 0


async def test_neither_prompts_nor_keys_are_in_the_file(file: Path) -> None:
    with fake_openai(Reply()) as server:
        llm = server.model(api_key=KEY, default_headers={"X-Key": KEY})
        await ask(llm, QUESTION, "hypothesis", usage=UsageTracker(cache=AnswerCache(file)))
    content = b"".join(part.read_bytes() for part in file.parent.iterdir())
    assert b"It likes water." in content
    assert KEY.encode() not in content
    assert b"What does it like?" not in content


@pytest.mark.parametrize("damage", ["no database", "other table"])
def test_a_damaged_file_is_said_and_gone_without(file: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    file.parent.mkdir()
    if damage == "no database":
        file.write_text("nonsense " * 1000)
    else:
        with sqlite3.connect(file) as database:
            database.execute("CREATE TABLE answers (something)")
    cache = AnswerCache(file)
    assert cache.find(model(), QUESTION, None, 0) is None
    cache.keep(model(), QUESTION, None, 0, AIMessage("It likes water."))
    assert cache.find(model(), QUESTION, None, 0) is None
    assert "continuing without it" in caplog.text


@pytest.mark.parametrize(
    "row",
    ["{x", "[]", "null", '{"content": 3, "tool_calls": "x"}', '{"content": ' * 3000, b"\xff\xfe{", "", '{"a": 1}'],
)
def test_a_row_that_cannot_be_read_costs_that_row(
    file: Path, row: str | bytes, caplog: pytest.LogCaptureFixture
) -> None:
    cache, prompts = AnswerCache(file), [[HumanMessage(f"question {number}")] for number in range(6)]
    for prompt in prompts:
        cache.keep(model(), prompt, None, 0, AIMessage("It likes water."))
    with sqlite3.connect(file) as database:
        database.execute("UPDATE answers SET answer = ? WHERE key = (SELECT min(key) FROM answers)", (row,))
    cache = AnswerCache(file)
    found = [cache.find(model(), prompt, None, 0) is not None for prompt in prompts]
    assert sorted(found) == [False] + [True] * 5
    assert "asked for again" in caplog.text or row == '{"a": 1}'
    lost = prompts[found.index(False)]
    cache.keep(model(), lost, None, 0, AIMessage("It likes tea."))
    assert [cache.find(model(), prompt, None, 0) is not None for prompt in prompts] == [True] * 6
    again = cache.find(model(), lost, None, 0)
    assert again is not None
    assert again.text == "It likes tea."


@pytest.mark.parametrize("changed", ["It likes later.", "It likes water!"])
def test_an_answer_that_is_not_the_one_that_was_kept_is_asked_for_again(
    file: Path, changed: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache = AnswerCache(file)
    cache.keep(model(), QUESTION, None, 0, AIMessage("It likes water."))
    with sqlite3.connect(file) as database:
        database.execute("UPDATE answers SET answer = replace(answer, 'It likes water.', ?)", (changed,))
    assert cache.find(model(), QUESTION, None, 0) is None
    assert "asked for again" in caplog.text


def test_answers_that_an_earlier_version_kept_are_found(file: Path) -> None:
    cache = AnswerCache(file)
    cache.keep(model(), QUESTION, None, 0, AIMessage("It likes water."))
    with sqlite3.connect(file) as database:  # as they were: without a digest in front
        database.execute("UPDATE answers SET answer = substr(answer, instr(answer, '{'))")
    found = cache.find(model(), QUESTION, None, 0)
    assert found is not None
    assert found.text == "It likes water."


def test_a_thought_that_was_kept_for_an_answer_is_asked_for_again(file: Path) -> None:
    cache = AnswerCache(file)
    cache.keep(model(), QUESTION, None, 0, AIMessage("It likes water."))
    with sqlite3.connect(file) as database:
        database.execute(
            "UPDATE answers SET answer = replace(substr(answer, instr(answer, '{')), 'It likes', '<think>It likes')"
        )
    assert cache.find(model(), QUESTION, None, 0) is None
    cache.keep(model(), QUESTION, None, 0, AIMessage("It likes tea."))
    assert cache.find(model(), QUESTION, None, 0) is not None


def test_a_thought_in_a_field_of_its_own_stays_apart_from_the_answer(file: Path) -> None:
    cache = AnswerCache(file)
    answer = AIMessage("Perhaps tea. It likes water.", additional_kwargs={"reasoning": "Perhaps tea."})
    cache.keep(model(), QUESTION, None, 0, answer)
    found = cache.find(model(), QUESTION, None, 0)
    assert found is not None
    assert read_text(found, "hypothesis") == read_text(answer, "hypothesis") == "It likes water."
