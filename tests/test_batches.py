"""Models that are asked in batches: half the price, and nothing that was paid for is lost."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

import neuronscope as ns
from fake_batches import FakeBatches, fake_batches
from fake_openai import Reply, fake_openai, refusal
from many import AGENTS, CONFIG, arguments, found, useful
from neuronscope.agents.prompts import sentences_schema
from neuronscope.io import cache_folder
from neuronscope.llm import UsageTracker, ask, ask_many, batches, forget_refusals, resolve_llm, shared_cache
from neuronscope.llm.batches import waiting_for_batches

SCHEMA = sentences_schema("conditions")
NEURONS = [ns.Neuron(0, index) for index in range(4, 14)]
QUICK = CONFIG.model_copy(update={"max_iterations": 1})
JSON = Reply(json.dumps({"conditions": ["It likes water."]}))


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Batches that are sent and looked at soon, in a cache of the test's own."""
    monkeypatch.setenv("NEURONSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(batches, "QUIET", 0.1)
    monkeypatch.setattr(batches, "FIRST_LOOK", 0.02)
    monkeypatch.setattr(batches, "LONGEST_PAUSE", 0.05)
    forget_refusals()
    yield
    new_process()


def new_process() -> None:
    """Forget what only this process knows."""
    batches.forget_batches()
    shared_cache.cache_clear()


def model(server: FakeBatches, name: str = "gpt-4o", **settings: Any) -> Any:
    return resolve_llm(f"batch:openai:{name}@{server.address}", **settings)


def tracker(**settings: Any) -> UsageTracker:
    return UsageTracker(cache=shared_cache(cache_folder("answers")), concurrency=2, **settings)


async def ask_all(llm: Any, usage: UsageTracker | None = None, n: int = 3, **settings: Any) -> list[Any]:
    questions = [ask(llm, [HumanMessage(f"Question {k}?")], "judge", usage=usage, **settings) for k in range(n)]
    return await asyncio.gather(*questions, return_exceptions=True)


def echo(request: dict[str, Any], number: int) -> Reply:
    return Reply(f"About {request['messages'][-1]['content']}")


async def test_requests_become_one_batch_whatever_limits_there_are_to_single_ones() -> None:
    with fake_batches(echo) as server:
        usage = tracker(requests_per_second=0.1)
        answers = await ask_all(model(server, temperature=0.7), usage, 5)
        assert [answer.text for answer in answers] == [f"About Question {k}?" for k in range(5)]
        ((first, *_),) = server.requests
        assert len(server.requests[0]) == 5
        assert first == {
            "model": "gpt-4o",
            "temperature": 0.7,
            "messages": [{"role": "user", "content": "Question 0?"}],
        }
    assert not server.direct


async def test_a_request_in_a_batch_is_the_one_that_would_have_been_made_by_itself() -> None:
    with fake_batches(JSON) as server:
        single = resolve_llm(f"openai:gpt-4o@{server.address}", temperature=0.3)
        for llm in (model(server, temperature=0.3), single):
            answer = await ask(llm, [HumanMessage("What?")], "judge", schema=SCHEMA)
            assert json.loads(answer.text) == {"conditions": ["It likes water."]}
            assert answer.response_metadata["finish_reason"] == "stop"
        ((batched,),) = server.requests
        assert batched == {name: value for name, value in server.direct[0].items() if name != "stream"}
        assert batched["response_format"]["json_schema"]["schema"]["required"] == ["conditions"]


async def test_several_answers_are_one_request() -> None:
    with fake_batches(Reply("Answer #.")) as server:
        answers = await ask_many(model(server), [HumanMessage("What?")], "judge", 3, usage=tracker())
        assert [answer.text for answer in answers] == ["Answer 0.", "Answer 1.", "Answer 2."]
        assert [[request["n"] for request in batch] for batch in server.requests] == [[3]]


async def test_answers_are_the_same_ones_in_the_cache_with_and_without_batches() -> None:
    with fake_batches(echo) as server:
        await ask_all(model(server, temperature=0.7), tracker())
        usage = tracker()
        await ask_all(resolve_llm(f"openai:gpt-4o@{server.address}", temperature=0.7), usage)
        assert usage.counts()["cached"] == {"judge": 3}
        assert not server.direct


async def test_a_batch_costs_half(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "prices.json").write_text('{"gpt-4o": {"input": 1000, "output": 1000}}')
    monkeypatch.setenv("NEURONSCOPE_PRICES", str(tmp_path / "prices.json"))
    with fake_batches(echo) as server:
        usage = tracker(budget=ns.Budget(dollars=1))
        await ask_all(model(server), usage, 2)
        assert usage.counts()["dollars"] == {"judge": pytest.approx(2 * 110 * 1000 / 1e6 / 2)}
        assert usage.budget is not None
        assert usage.budget.spent == "$0.1100"


def test_openais_price_for_batches_is_half_of_its_price() -> None:
    from langchain_core.messages import AIMessage

    from neuronscope.llm.budget import price

    counted: Any = {"input_tokens": 1_000_000, "output_tokens": 1_000_000, "total_tokens": 2_000_000}
    os.environ["OPENAI_API_KEY"] = "none"
    try:
        single, batched = (resolve_llm(name) for name in ("openai:gpt-4o", "batch:openai:gpt-4o"))
    finally:
        del os.environ["OPENAI_API_KEY"]
    full, half = (price(llm, AIMessage("", usage_metadata=counted)) for llm in (single, batched))
    assert full is not None
    assert half == pytest.approx(full / 2)


async def test_a_request_that_fails_by_itself_loses_no_other() -> None:
    def answer(request: dict[str, Any], number: int) -> Reply:
        if "1" in request["messages"][-1]["content"]:
            return refusal(400, "This is too long.")
        return Reply()

    with fake_batches(answer) as server:
        first, second, third = await ask_all(model(server), tracker())
        assert (first.text, third.text) == ("It likes water.", "It likes water.")
        assert isinstance(second, ns.LLMError)
        assert "judge: the request to gpt-4o failed" in str(second)
        assert "This is too long." in str(second)


async def test_what_fails_for_a_passing_reason_is_sent_again_in_another_batch() -> None:
    def answer(request: dict[str, Any], number: int) -> Reply:
        return refusal(500, "oops") if number == 0 else Reply()

    with fake_batches(answer) as server:
        assert {each.text for each in await ask_all(model(server), tracker())} == {"It likes water."}
        assert [len(batch) for batch in server.requests] == [3, 1]


async def test_what_a_batch_refuses_is_asked_for_otherwise() -> None:
    def answer(request: dict[str, Any], number: int) -> Reply:
        return refusal(400, "response_format is not supported") if "response_format" in request else Reply()

    with fake_batches(answer) as server:
        answers = await ask_all(model(server), tracker(), schema=SCHEMA)
        assert [answer.text for answer in answers] == ["It likes water."] * 3
        assert [len(batch) for batch in server.requests] == [3, 3]


async def test_of_an_expired_batch_what_is_answered_counts_and_the_rest_is_sent_again() -> None:
    with fake_batches(
        echo, ends=lambda number: "completed" if number else "expired", answered=lambda number: 2
    ) as server:
        usage = tracker()
        answers = await ask_all(model(server), usage)
        assert [answer.text for answer in answers] == [f"About Question {k}?" for k in range(3)]
        assert [len(batch) for batch in server.requests] == [3, 1]
        assert usage.counts()["requests"] == {"judge": 3}


@pytest.mark.parametrize(("status", "said"), [("failed", "There is no such model"), ("cancelled", "was cancelled")])
async def test_a_batch_that_was_refused_or_cancelled_is_an_error_and_not_repeated(status: str, said: str) -> None:
    with fake_batches(echo, ends=lambda number: status, answered=lambda number: 0) as server:
        for error in await ask_all(model(server), tracker()):
            assert isinstance(error, ns.LLMError)
            assert said in str(error)
            assert "sk-sentinel" not in str(error)
        assert len(server.batches) == 1


async def test_a_batch_that_is_more_than_the_account_may_queue_is_sent_in_parts() -> None:
    with fake_batches(echo, limit=3) as server:
        answers = await ask_all(model(server), tracker(), 8)
        assert [answer.text for answer in answers] == [f"About Question {k}?" for k in range(8)]
        done = [batch["size"] for batch in server.batches.values() if batch["status"] == "completed"]
        assert sum(done) == 8
        assert max(done) <= 3


async def test_a_provider_that_cannot_be_reached_for_a_while_ends_no_wait() -> None:
    with fake_batches(echo) as server:
        server.trouble += [503] * 8
        llm = model(server).model_copy(update={"max_retries": 0})
        llm.root_async_client.max_retries = 0
        assert [answer.text for answer in await ask_all(llm, tracker())] == [f"About Question {k}?" for k in range(3)]


async def test_the_same_request_twice_is_sent_once() -> None:
    with fake_batches(echo) as server:
        llm, usage, question = model(server), tracker(), [HumanMessage("What?")]
        early = [asyncio.create_task(ask(llm, question, "judge", usage=usage)) for _ in range(2)]
        while not server.files:  # noqa: ASYNC110 - the server is other threads
            await asyncio.sleep(0)
        late = asyncio.create_task(ask(llm, question, "judge", usage=usage))
        assert {answer.text for answer in await asyncio.gather(*early, late)} == {"About What?"}
        assert [len(batch) for batch in server.requests] == [1]


# A kill loses nothing


async def killed_while_waiting(server: FakeBatches, asked: Coroutine[Any, Any, Any]) -> None:
    """A process that has sent a batch ends before there are answers; the next one begins."""
    server.held.clear()
    asking = asyncio.create_task(asked)
    await waiting(server, 1)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    new_process()


async def waiting(server: FakeBatches, n: int) -> None:
    async def until() -> None:
        while len(server.batches) < n or not waiting_for_batches():  # noqa: ASYNC110 - the server is other threads
            await asyncio.sleep(0.01)

    await asyncio.wait_for(until(), 20)


async def test_a_later_process_takes_the_answers_of_a_batch_that_was_under_way() -> None:
    with fake_batches(echo) as server:
        server.held.clear()
        asking = asyncio.create_task(ask_all(model(server), tracker()))
        await waiting(server, 1)
        assert waiting_for_batches() == "waiting for 1 batch with 3 requests"
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        new_process()
        server.held.set()
        usage = tracker()
        answers = await ask_all(model(server), usage, 4)
        assert [answer.text for answer in answers] == [f"About Question {k}?" for k in range(4)]
        assert [len(batch) for batch in server.requests] == [3, 1], "only the fourth question is new"
        assert usage.counts()["requests"] == {"judge": 4}, "what is paid for is counted once it is there"
        new_process()
        await ask_all(model(server), tracker(), 4)
        assert len(server.batches) == 2, "now the answers are in the cache"


async def test_independent_answers_to_one_prompt_stay_apart_over_a_kill() -> None:
    question = [HumanMessage("What?")]

    def numbered(request: dict[str, Any], number: int) -> Reply:
        return Reply(f"Answer {number}.")

    async def three() -> list[str]:
        usage, llm = tracker(), model(server)
        answers = await asyncio.gather(*(ask(llm, question, "judge", usage=usage, sample=k) for k in range(3)))
        return [answer.text for answer in answers]

    with fake_batches(numbered) as server:
        await killed_while_waiting(server, three())
        server.held.set()
        assert sorted(await three()) == ["Answer 0.", "Answer 1.", "Answer 2."]
        assert [len(batch) for batch in server.requests] == [3]


async def test_a_kill_before_the_batchs_id_was_written_down_finds_it_by_its_mark() -> None:
    with fake_batches(echo) as server:
        await killed_while_waiting(server, ask_all(model(server), tracker()))
        with closing(sqlite3.connect(cache_folder("answers") / "batches.sqlite")) as log:
            log.execute("UPDATE sent SET batch = NULL")
            log.commit()
        server.held.set()
        answers = await ask_all(model(server), tracker())
        assert [answer.text for answer in answers] == [f"About Question {k}?" for k in range(3)]
        assert len(server.batches) == 1


async def test_a_batch_that_the_provider_has_forgotten_is_sent_again() -> None:
    with fake_batches(echo) as server:
        await killed_while_waiting(server, ask_all(model(server), tracker()))
        server.held.set()
        server.batches["forgotten"] = server.batches.pop("batch_0")
        assert {type(answer).__name__ for answer in await ask_all(model(server), tracker())} == {"AIMessage"}


async def test_what_nobody_waits_for_any_more_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "QUIET", 0.3)
    with fake_batches(echo) as server:
        asking = asyncio.create_task(ask_all(model(server), tracker()))
        await asyncio.sleep(0.1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await ask(model(server), [HumanMessage("Another?")], "judge", usage=tracker())
        assert [len(batch) for batch in server.requests] == [1]


# Runs


@pytest.mark.usefixtures("every_gain_counts")
def test_neurons_of_a_run_share_batches_and_it_finds_what_it_would_without(tmp_path: Path) -> None:
    names = {agent: f"batch:openai:{agent}" for agent in AGENTS}
    with fake_batches(useful) as server, fake_openai(useful) as single:
        plain = found(list(ns.explain_neurons(NEURONS, **arguments(single.address, config=QUICK))))
        new_process()
        run = arguments(server.address, config=QUICK, llm=names)
        assert found(list(ns.explain_neurons(NEURONS, out=tmp_path / "run", **run))) == plain
        hypotheses = [batch for batch in server.requests if batch[0]["model"] == "hypothesis"]
        assert sum(map(len, hypotheses)) == 2 * len(NEURONS)
        assert len(hypotheses) < len(NEURONS), "neurons share batches"
        assert not server.direct
        sent = len(server.batches)
        changed = arguments(server.address, config=QUICK)
        list(ns.explain_neurons(NEURONS, out=tmp_path / "run", **changed))
        assert (len(server.batches), server.direct) == (sent, []), "the run may go on without batches"


SCRIPT = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background has it ignored
import neuronscope as ns
from many import AGENTS, CONFIG, arguments
from neuronscope.llm import batches
batches.QUIET, batches.FIRST_LOOK, batches.LONGEST_PAUSE = 0.3, 0.02, 0.05
names = {agent: f"batch:openai:{agent}" for agent in AGENTS}
run = arguments(sys.argv[1], llm=names, config=CONFIG.model_copy(update={"max_iterations": 1}))
for x in ns.explain_neurons([(0, index) for index in range(4, 14)], out=sys.argv[2], **run):
    print(x.neuron, x.status, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_ended_while_it_waits_goes_on_with_the_same_batches(how: int, tmp_path: Path) -> None:
    with fake_batches(useful) as server:
        server.held.clear()
        command = [sys.executable, "-c", SCRIPT, server.address, str(tmp_path / "run")]
        path = os.pathsep.join(each for each in sys.path if each)
        environment = {**os.environ, "PYTHONPATH": path}
        first = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(6000):
            if sum(map(len, server.requests)) >= 2 * len(NEURONS) or first.poll() is not None:
                break
            time.sleep(0.05)
        time.sleep(0.5)  # until it waits
        first.send_signal(how)
        first.communicate(timeout=60)
        assert first.returncode != 0
        asked = [json.dumps(request) for batch in server.requests for request in batch]
        server.held.set()
        second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert second.returncode == 0, second.stderr
        assert second.stdout.count("explained") == len(NEURONS)
        later = [json.dumps(request) for batch in server.requests for request in batch][len(asked) :]
        assert not set(asked) & set(later), "nothing that was sent is sent again"


# Names


@pytest.mark.parametrize("name", ["batch:anthropic:claude-sonnet-4-5", "batch:offline", "batch:gpt-4o", "batch:auto"])
def test_only_openais_protocol_has_batches_here(name: str) -> None:
    with pytest.raises(ns.ConfigurationError, match=r'cannot be asked in batches.*"batch:openai:gpt-4o"'):
        resolve_llm(name)
