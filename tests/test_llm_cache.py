"""Answers that are kept, and those that had better not be."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.caches import BaseCache, InMemoryCache
from langchain_core.globals import get_llm_cache, set_llm_cache
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration

import neuronscope as ns
from agent_helpers import scripted
from fake_openai import Reply, fake_openai
from neuronscope.agents.prompts import sentences_schema
from neuronscope.llm import AnswerCache, UsageTracker, ask, ask_blocking, ask_many, forget_refusals
from neuronscope.llm.answers import read_text

KEY = "sk-sentinel-1234567890abcdef"
QUESTION = [SystemMessage("Be brief."), HumanMessage("What does it like?")]


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    forget_refusals()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "answers" / "answers.sqlite"


def keep(cache: AnswerCache, answer: AIMessage | str = "It likes water.", prompt: str = "What?") -> None:
    """Put an answer into the cache as LangChain does."""
    cache.update(prompt, "a model", [ChatGeneration(message=AIMessage(answer) if isinstance(answer, str) else answer)])


def found(cache: AnswerCache, prompt: str = "What?") -> AIMessage | None:
    generations = cache.lookup(prompt, "a model")
    if not generations:
        return None
    (generation,) = generations
    assert isinstance(generation, ChatGeneration)
    assert isinstance(generation.message, AIMessage)
    return generation.message


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


ANOTHER: dict[str, dict[str, Any]] = {
    "model": {"model": "other"},
    "temperature": {"temperature": 0.1},
    "length": {"max_tokens": 7},
    "seed": {"seed": 3},
    "option": {"logit_bias": {1: 2}},
}


@pytest.mark.parametrize("settings", ANOTHER.values(), ids=ANOTHER)
async def test_another_model_or_setting_is_another_answer(file: Path, settings: dict[str, Any]) -> None:
    with fake_openai(Reply()) as server:
        usage = UsageTracker(cache=AnswerCache(file))
        for model in (server.model(), server.model(**settings), server.model(**settings)):
            await ask(model, QUESTION, "hypothesis", usage=usage)
        assert len(server.requests) == 2


async def test_another_server_is_another_answer(file: Path) -> None:
    with fake_openai(Reply()) as one, fake_openai(Reply()) as another:
        for server in (one, another):
            await ask(server.model(), QUESTION, "hypothesis", usage=UsageTracker(cache=AnswerCache(file)))
            assert len(server.requests) == 1


async def test_another_prompt_schema_tool_or_sample_is_another_answer(file: Path) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    with fake_openai(Reply()) as server:
        usage, model = UsageTracker(cache=AnswerCache(file)), server.model()
        for _ in range(2):
            await ask(model, QUESTION, "hypothesis", usage=usage)
            await ask(model, QUESTION[1:], "hypothesis", usage=usage)
            await ask(model, [HumanMessage("Be brief."), QUESTION[1]], "hypothesis", usage=usage)
            await ask(model, QUESTION, "hypothesis", schema=sentences_schema("conditions"), usage=usage)
            await ask(model, QUESTION, "hypothesis", tools=[tool], usage=usage)
            await ask(model, QUESTION, "hypothesis", usage=usage, sample=1)
        assert len(server.requests) == 6


async def test_another_key_is_the_same_answer(file: Path) -> None:
    with fake_openai(Reply()) as server:
        for key in ("one", "another"):
            usage = UsageTracker(cache=AnswerCache(file))
            await ask(server.model(api_key=key), QUESTION, "hypothesis", usage=usage)
        assert len(server.requests) == 1


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
    keep(AnswerCache(file), answer)
    assert found(AnswerCache(file)) == answer


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
    keep(cache, answer)
    assert len(cache) == 0


async def test_a_model_that_does_not_say_what_it_is_is_asked_every_time(file: Path) -> None:
    llm, usage = scripted("Water.", "Tea."), UsageTracker(cache=AnswerCache(file))
    answers = [(await ask(llm, QUESTION, "hypothesis", usage=usage)).text for _ in range(2)]
    assert answers == ["Water.", "Tea."]


async def test_any_cache_of_langchains_keeps_answers() -> None:
    with fake_openai([Reply(""), Reply("Water.")]) as server:
        usage = UsageTracker(cache=InMemoryCache())
        answers = [(await ask(server.model(), QUESTION, "hypothesis", usage=usage)).text for _ in range(3)]
    assert answers == ["", "Water.", "Water."], "an empty answer may come out better"
    assert usage.counts()["cached"] == {"hypothesis": 1}


@pytest.fixture
def langchains_own() -> Iterator[None]:
    before = get_llm_cache()
    yield
    set_llm_cache(before)


@pytest.mark.usefixtures("langchains_own")
@pytest.mark.parametrize("kind", [InMemoryCache, AnswerCache])
async def test_what_langchains_own_cache_answers_costs_nothing(kind: type[BaseCache], file: Path) -> None:
    set_llm_cache(AnswerCache(file) if kind is AnswerCache else kind())
    with fake_openai(Reply()) as server:
        model, usage = server.model(), UsageTracker(budget=ns.Budget(tokens=200))
        for _ in range(4):
            await ask(model, QUESTION, "hypothesis", usage=usage)
        assert len(server.requests) == 1
    assert (usage.counts()["requests"], usage.counts()["cached"]) == ({"hypothesis": 1}, {"hypothesis": 3})


def test_all_answers_can_be_forgotten(file: Path) -> None:
    cache = AnswerCache(file)
    keep(cache)
    cache.clear()
    assert found(cache) is None


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
    assert found(cache) is None
    keep(cache)
    assert found(cache) is None
    assert "continuing without it" in caplog.text


@pytest.mark.parametrize(
    "row",
    ["{x", "[]", "null", '{"content": 3, "tool_calls": "x"}', '{"content": ' * 3000, b"\xff\xfe{", "", '{"a": 1}'],
)
def test_a_row_that_cannot_be_read_costs_that_row(
    file: Path, row: str | bytes, caplog: pytest.LogCaptureFixture
) -> None:
    cache, prompts = AnswerCache(file), [f"question {number}" for number in range(6)]
    for prompt in prompts:
        keep(cache, prompt=prompt)
    with sqlite3.connect(file) as database:
        database.execute("UPDATE answers SET answer = ? WHERE key = (SELECT min(key) FROM answers)", (row,))
    cache = AnswerCache(file)
    still_there = [found(cache, prompt) is not None for prompt in prompts]
    assert sorted(still_there) == [False] + [True] * 5
    assert "asked for again" in caplog.text or row == '{"a": 1}'
    lost = prompts[still_there.index(False)]
    keep(cache, "It likes tea.", lost)
    assert [found(cache, prompt) is not None for prompt in prompts] == [True] * 6
    again = found(cache, lost)
    assert again is not None
    assert again.text == "It likes tea."


@pytest.mark.parametrize("changed", ["It likes later.", "It likes water!"])
def test_an_answer_that_is_not_the_one_that_was_kept_is_asked_for_again(
    file: Path, changed: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache = AnswerCache(file)
    keep(cache)
    with sqlite3.connect(file) as database:
        database.execute("UPDATE answers SET answer = replace(answer, 'It likes water.', ?)", (changed,))
    assert found(cache) is None
    assert "asked for again" in caplog.text


def test_answers_that_an_earlier_version_kept_are_found(file: Path) -> None:
    cache = AnswerCache(file)
    keep(cache)
    with sqlite3.connect(file) as database:  # as they were: without a digest in front
        database.execute("UPDATE answers SET answer = substr(answer, instr(answer, '{'))")
    kept = found(cache)
    assert kept is not None
    assert kept.text == "It likes water."


def test_a_thought_that_was_kept_for_an_answer_is_asked_for_again(file: Path) -> None:
    cache = AnswerCache(file)
    keep(cache)
    with sqlite3.connect(file) as database:
        database.execute(
            "UPDATE answers SET answer = replace(substr(answer, instr(answer, '{')), 'It likes', '<think>It likes')"
        )
    assert found(cache) is None
    keep(cache, "It likes tea.")
    assert found(cache) is not None


def test_a_thought_in_a_field_of_its_own_stays_apart_from_the_answer(file: Path) -> None:
    cache = AnswerCache(file)
    answer = AIMessage("Perhaps tea. It likes water.", additional_kwargs={"reasoning": "Perhaps tea."})
    keep(cache, answer)
    kept = found(cache)
    assert kept is not None
    assert read_text(kept, "hypothesis") == read_text(answer, "hypothesis") == "It likes water."
