"""Requests through a real client to a real HTTP server that behaves as servers do."""

from __future__ import annotations

import asyncio
import logging
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_openai import ChatOpenAI

import neuronscope as ns
from agent_helpers import scripted
from fake_openai import Reply, fake_openai, refusal
from neuronscope.agents.parsing import read_sentences
from neuronscope.agents.prompts import sentences_schema
from neuronscope.llm import UsageTracker, ask, ask_blocking, ask_many, forget_refusals, resolve_llm

KEY = "sk-sentinel-1234567890abcdef"
QUESTION = [HumanMessage("What does it like?")]
SCHEMA = sentences_schema("conditions")


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    """Ports are used again; what another test's server could not do is forgotten."""
    forget_refusals()


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the client waits before its attempts, without the waiting."""
    import anyio

    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(anyio, "sleep", sleep)
    return slept


# Passing failures: the provider's client repeats, and nobody else


async def test_a_rate_limit_is_waited_for_as_long_as_the_server_says(naps: list[float]) -> None:
    with fake_openai([refusal(429, "slow down", retry_after="7"), Reply()]) as server:
        answer = await ask(server.model(max_retries=2), QUESTION, "hypothesis")
    assert answer.text == "It likes water."
    assert naps == [7.0]


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_what_does_not_pass_is_tried_as_often_as_the_client_is_told_and_no_more(
    status: int, naps: list[float]
) -> None:
    with fake_openai(refusal(status, "not now")) as server:
        with pytest.raises(ns.LLMError, match=r"hypothesis: fake .*\(.*not now"):
            await ask(server.model(max_retries=3), QUESTION, "hypothesis")
        assert len(server.requests) == 4
    assert naps == sorted(naps)


async def test_names_are_made_into_models_that_repeat(naps: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with fake_openai([refusal(500, "oops"), refusal(502, "oops"), Reply()]) as server:
        model = resolve_llm(f"openai:fake@{server.address}")
        assert not isinstance(model, str)
        assert (await asyncio.to_thread(ask_blocking, model, QUESTION, "hypothesis")).text == "It likes water."
        assert len(server.requests) == 3


async def test_a_server_that_hangs_is_an_error_that_names_the_timeout() -> None:
    late = pytest.raises(ns.LLMError, match=r"did not answer in time.*request_timeout")
    with fake_openai(Reply(hangs=True)) as server, late:
        await ask(server.model(timeout=0.3), QUESTION, "hypothesis")


@pytest.mark.parametrize("body", ["<html>Bad gateway</html>", '{"choices": null}', '{"choices": [{"mess', "[]"])
async def test_what_is_no_answer_is_an_error_of_ours(body: str) -> None:
    failed = pytest.raises(ns.LLMError, match="hypothesis: the request to fake failed")
    with fake_openai(Reply(body=body)) as server, failed:
        await ask(server.model(), QUESTION, "hypothesis")


# Structured answers


async def test_a_server_is_held_to_the_schema_in_one_request() -> None:
    with fake_openai(Reply('{"conditions": ["This neuron fires on ice."]}')) as server:
        answer = await ask(server.model(), QUESTION, "decomposition", schema=SCHEMA)
        assert [request["response_format"]["type"] for request in server.requests] == ["json_schema"]
    assert read_sentences(answer, "decomposition") == ["This neuron fires on ice."]


async def test_a_server_without_schemas_is_asked_in_words_and_from_then_on_at_once() -> None:
    def answer(request: dict[str, Any], number: int) -> Reply:
        return refusal(400, "response_format is not supported") if "response_format" in request else Reply("- a b")

    with fake_openai(answer) as server:
        model, usage = server.model(), UsageTracker()
        for _ in range(2):
            assert (await ask(model, QUESTION, "decomposition", schema=SCHEMA, usage=usage)).text == "- a b"
        assert ["response_format" in request for request in server.requests] == [True, False, False]
    assert usage.counts()["requests"] == {"decomposition": 2}


async def test_a_prompt_that_is_refused_either_way_says_nothing_about_schemas() -> None:
    def answer(request: dict[str, Any], number: int) -> Reply:
        return refusal(400, "the prompt is too long") if number < 2 else Reply()

    with fake_openai(answer) as server:
        model = server.model()
        with pytest.raises(ns.LLMError, match="too long"):
            await ask(model, QUESTION, "decomposition", schema=SCHEMA)
        await ask(model, QUESTION, "decomposition", schema=SCHEMA)
        assert ["response_format" in request for request in server.requests] == [True, False, True]


async def test_an_answer_cut_off_within_its_schema_is_used_as_far_as_it_goes() -> None:
    cut = '{"conditions": ["This neuron fires on ice.", "This neuron fires on wa'
    with fake_openai(Reply(cut, finish_reason="length")) as server:
        usage = UsageTracker()
        answer = await ask(server.model(), QUESTION, "decomposition", schema=SCHEMA, usage=usage)
        assert len(server.requests) == 1
    assert read_sentences(answer, "decomposition") == ["This neuron fires on ice."]
    assert usage.counts()["output_tokens"] == {"decomposition": 10}


@pytest.mark.parametrize(
    "text",
    [
        '```json\n["This neuron fires on ice.", "This neuron fires on \\"red\\"."]\n```',
        'Sure! Here they are:\n["This neuron fires on ice.", "This neuron fires on \\"red\\"."]\nAnything else?',
        '1. This neuron fires on ice.\n2. This neuron fires on "red".',
        '<think>["This neuron is hard."]</think>\n- This neuron fires on ice.\n- This neuron fires on "red".',
        '["This neuron fires on ice.", "This neuron fires on \\"red\\"."',
    ],
    ids=["fence", "prose", "numbers", "thoughts", "open"],
)
async def test_answers_in_their_common_forms_arrive_as_sentences(text: str) -> None:
    with fake_openai(Reply(text)) as server:
        answer = await ask(server.model(), QUESTION, "decomposition", schema=SCHEMA)
    assert read_sentences(answer, "decomposition") == ["This neuron fires on ice.", 'This neuron fires on "red".']


# Several answers


async def test_several_answers_cost_one_request_and_the_usage_says_so() -> None:
    with fake_openai(Reply("answer #")) as server:
        usage = UsageTracker()
        answers = await ask_many(server.model(), QUESTION, "refinement", 8, usage=usage)
        assert [request["n"] for request in server.requests] == [8]
    assert [answer.text for answer in answers] == [f"answer {number}" for number in range(8)]
    usage = usage.counts()
    assert (usage["requests"], usage["answers"]) == ({"refinement": 1}, {"refinement": 8})
    assert usage["output_tokens"] == {"refinement": 10}


async def test_a_server_that_ignores_n_is_asked_as_often_as_it_takes() -> None:
    with fake_openai(Reply(ignores_n=True)) as server:
        usage, model = UsageTracker(), server.model()
        assert len(await ask_many(model, QUESTION, "refinement", 3, usage=usage)) == 3
        assert len(await ask_many(model, QUESTION, "refinement", 3, usage=usage)) == 3
        assert [request.get("n") for request in server.requests] == [3, None, None, None, None, None]
    assert usage.counts()["requests"] == usage.counts()["answers"] == {"refinement": 6}


async def test_a_server_that_refuses_n_is_asked_one_by_one() -> None:
    def answer(request: dict[str, Any], number: int) -> Reply:
        return refusal(400, "n is not supported") if request.get("n") else Reply()

    with fake_openai(answer) as server:
        assert len(await ask_many(server.model(), QUESTION, "refinement", 3)) == 3
        assert len(server.requests) == 4


async def test_a_model_without_n_is_asked_one_by_one() -> None:
    assert [answer.text for answer in await ask_many(scripted("a", "b"), QUESTION, "refinement", 2)] == ["a", "b"]


async def test_of_several_answers_those_that_came_are_kept() -> None:
    with fake_openai([Reply(ignores_n=True), refusal(500, "oops"), Reply("Second.")]) as server:
        answers = await ask_many(server.model(), QUESTION, "refinement", 3)
    assert sorted(answer.text for answer in answers) == ["It likes water.", "Second."]


# Loops


def test_one_model_is_asked_from_one_loop_after_another_and_from_threads() -> None:
    with fake_openai(Reply()) as server:
        model = server.model()
        for _ in range(2):
            assert asyncio.run(ask(model, QUESTION, "hypothesis")).text == "It likes water."
            assert ask_blocking(model, QUESTION, "simulator").text == "It likes water."


async def test_a_model_object_may_be_asked_by_its_owner_in_between() -> None:
    with fake_openai(Reply()) as server:
        model = ChatOpenAI(model="fake", api_key="none", base_url=server.address, max_retries=0)
        for _ in range(2):
            assert (await model.ainvoke(QUESTION)).text == "It likes water."
            assert (await ask(model, QUESTION, "hypothesis")).text == "It likes water."


async def test_a_loop_that_is_blocked_by_its_own_question_gets_the_answer() -> None:
    with fake_openai(Reply()) as server:
        assert ask_blocking(server.model(), QUESTION, "simulator").text == "It likes water."


# Limits


async def test_no_more_requests_are_under_way_than_allowed_from_loops_and_threads_together() -> None:
    def answer(request: dict[str, Any], number: int) -> Reply:
        server.closing.wait(0.05)
        return Reply()

    with fake_openai(answer) as server, ThreadPoolExecutor(6) as pool:
        model, usage = server.model(), UsageTracker(concurrency=2)
        loop = asyncio.get_running_loop()
        threads = [
            loop.run_in_executor(pool, lambda: ask_blocking(model, QUESTION, "simulator", usage=usage))
            for _ in range(5)
        ]
        await asyncio.gather(*(ask(model, QUESTION, "hypothesis", usage=usage) for _ in range(5)), *threads)
        assert len(server.requests) == 10
        assert server.most_under_way == 2


async def test_a_request_that_is_given_up_makes_room_for_the_next() -> None:
    with fake_openai(lambda request, number: Reply(hangs=number == 0)) as server:
        model, usage = server.model(), UsageTracker(concurrency=1)
        tasks = [asyncio.create_task(ask(model, QUESTION, "hypothesis", usage=usage)) for _ in range(3)]
        await asyncio.to_thread(server.asked.wait, 30)
        tasks[1].cancel()
        tasks[0].cancel()
        assert (await tasks[2]).text == "It likes water."


async def test_every_request_waits_for_the_backends_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[float] = []

    async def aacquire(self: InMemoryRateLimiter, *, blocking: bool = True) -> bool:
        turns.append(self.requests_per_second)
        return True

    monkeypatch.setattr(InMemoryRateLimiter, "aacquire", aacquire)
    with fake_openai(Reply()) as server:
        for agent in ("hypothesis", "refinement"):
            await ask(server.model(), QUESTION, agent, usage=UsageTracker(requests_per_second=1.5))
    assert turns == [1.5, 1.5]


# Keys


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
@pytest.mark.parametrize("schema", [None, SCHEMA])
async def test_a_key_that_the_server_echoes_is_in_no_error_traceback_or_log(
    status: int, schema: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with fake_openai(refusal(status, f"Incorrect key {KEY}")) as server:
        model = server.model(api_key=KEY, default_headers={"X-Other": "another-secret-42"})
        with pytest.raises(ns.LLMError) as caught:
            await ask(model, QUESTION, "hypothesis", schema=schema)
        assert server.keys[0] == f"Bearer {KEY}"
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(caught.value)
    assert KEY not in shown + repr(model)
    assert "another-secret" not in shown
    assert caught.value.__context__ is None or KEY not in str(caught.value.__context__)


async def test_a_login_in_an_address_is_not_shown() -> None:
    with fake_openai(refusal(400, "no")) as server:
        address = server.address.replace("//", "//user:pass-word-1@")
        with pytest.raises(ns.LLMError) as caught:
            await ask(server.model(base_url=address), QUESTION, "hypothesis")
    assert "pass-word-1" not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(ns.ConfigurationError) as refused:
        resolve_llm("offline", base_url="ftp://user:pass-word-1@host")
    assert "pass-word-1" not in str(refused.value)


# Models that take no temperature


@pytest.mark.parametrize(("schema", "n"), [(None, 1), (SCHEMA, 1), (None, 3)])
async def test_a_model_that_takes_no_temperature_is_asked_without_one_and_from_then_on_at_once(
    schema: Any, n: int
) -> None:
    def answer(request: dict[str, Any], number: int) -> Reply:
        return refusal(400, "Unsupported value: 'temperature'") if "temperature" in request else Reply()

    with fake_openai(answer) as server:
        model = server.model(temperature=0.7)
        for _ in range(2):
            answers = await ask_many(model, QUESTION, "refinement", n) if n > 1 else []
            assert len(answers or [await ask(model, QUESTION, "refinement", schema=schema)]) == n
        assert ["temperature" in request for request in server.requests] == [True, False, False]
        assert all(("response_format" in request) == (schema is not None) for request in server.requests)
