"""Whole explanations through a real HTTP server: what fails is named, what came before is kept, no key is anywhere."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from rich.console import Console

import neuronscope as ns
from fake_openai import FakeOpenAI, Reply, fake_openai, refusal
from neuronscope.display.terminal import TerminalReport
from neuronscope.graphs import build_neuron_graph
from neuronscope.llm import UsageTracker
from planted import (
    ANIMAL_MODE,
    BETTER_ANIMALS,
    BETTER_COLOURS,
    BOTH,
    COLOUR_MODE,
    clustering,
    instruments,
)

pytestmark = pytest.mark.usefixtures("own_cache")

KEY = "sk-sentinel-1234567890abcdef"
AGENTS = ("hypothesis", "decomposition", "refinement")
CONFIG = ns.ExplainConfig(n_hypotheses=2, n_candidates=2, max_iterations=2, patience=None)
DRAFT = "It activates on colours and on animals."


def useful(request: dict[str, Any], number: int) -> Reply:
    """What a good model says; it is called after the agent that asks it."""
    schema = "response_format" in request
    sentences = {"decomposition": [COLOUR_MODE, ANIMAL_MODE], "refinement": [BETTER_COLOURS, BETTER_ANIMALS]}
    if request["model"] == "hypothesis":
        return Reply(DRAFT)
    return Reply(json.dumps({"sentences": sentences[request["model"]]} if schema else sentences[request["model"]]))


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with fake_openai(useful) as running:
        yield running


def explain(server: FakeOpenAI, **changes: Any) -> ns.NeuronExplanation:
    """What a user does: names, an address, and the front door."""
    world = instruments()
    arguments: dict[str, Any] = {
        "store": world.store,
        "simulator": world.simulator,
        "embeddings": DeterministicFakeEmbedding(size=8),
        "llm": {agent: f"openai:{agent}" for agent in AGENTS},
        "base_url": server.address,
        "config": CONFIG,
        "progress": False,
    }
    return ns.explain_neuron(world.subject, layer=BOTH.layer, neuron=BOTH.index, **(arguments | changes))


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def found(x: ns.NeuronExplanation) -> dict[str, Any]:
    """A result without what it cost."""
    return {**asdict(x), "usage": None}


@pytest.mark.usefixtures("every_gain_counts")
def test_a_model_of_its_own_for_each_agent_at_an_address(server: FakeOpenAI) -> None:
    x = explain(server)
    assert (x.status, x.number) == ("explained", 2)
    assert {mode.explanation for mode in x.modes} == {BETTER_COLOURS, BETTER_ANIMALS}
    assert x.provenance["llm"] == {agent: agent for agent in AGENTS}
    assert set(x.usage.requests) == set(AGENTS)
    assert x.usage.requests["hypothesis"] == CONFIG.n_hypotheses
    assert x.usage.dollars == dict.fromkeys(AGENTS)


@pytest.mark.parametrize(
    "useless",
    [
        Reply(""),
        Reply("I'm sorry, but I can't help with that."),
        Reply("<think>Let me see", finish_reason="length"),
        Reply(body="<html>"),
        refusal(400, "no"),
    ],
    ids=["empty", "refusal", "thoughts", "html", "400"],
)
@pytest.mark.parametrize("agent", AGENTS)
def test_a_model_that_never_answers_usefully_leaves_what_came_before_it(agent: str, useless: Reply) -> None:
    with fake_openai(lambda request, number: useless if request["model"] == agent else useful(request, number)) as bad:
        x = explain(bad)
    assert x.status == "partial"
    assert {failure.agent for failure in x.failures} == {agent}
    before = AGENTS.index(agent)
    assert x.hypotheses == ([DRAFT] if before > 0 else [])
    assert x.atoms == ([COLOUR_MODE, ANIMAL_MODE] if before > 1 else [])
    assert sorted(mode.explanation for mode in x.modes) == (sorted([COLOUR_MODE, ANIMAL_MODE]) if before > 1 else [])
    assert all(mode.score > 0 for mode in x.modes)


@pytest.mark.usefixtures("every_gain_counts")
def test_the_same_again_asks_nothing_and_finds_the_same(server: FakeOpenAI) -> None:
    first, asked = explain(server), len(server.requests)
    again = explain(server)
    assert len(server.requests) == asked
    assert found(again) == found(first)
    assert again.usage.requests == {}
    assert again.usage.cached == first.usage.answers


def test_without_the_cache_everything_is_asked_again(server: FakeOpenAI) -> None:
    config = CONFIG.model_copy(update={"cache_answers": False})
    explain(server, config=config)
    asked = len(server.requests)
    explain(server, config=config)
    assert len(server.requests) == 2 * asked


@pytest.mark.usefixtures("every_gain_counts")
def test_a_budget_stops_cleanly_and_a_larger_one_goes_on_from_there(server: FakeOpenAI) -> None:
    short = explain(server, budget="300 tokens", config=CONFIG.model_copy(update={"max_concurrency": 1}))
    assert short.status == "partial"
    assert {"the budget of 300 tokens is spent" in failure.message for failure in short.failures} == {True}
    assert short.hypotheses == [DRAFT]
    paid = len(server.requests)
    assert paid == 3, "110 tokens each"
    whole = explain(server, budget="1M tokens")
    assert whole.status == "explained"
    asked = len(server.requests)
    assert sum(whole.usage.cached.values()) == paid
    with fake_openai(useful) as fresh:
        assert found(explain(fresh)) == found(whole)
        assert len(fresh.requests) == asked


def test_what_cannot_be_a_budget_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(ns.ConfigurationError, match="200k tokens"):
        ns.explain_neuron("no such model", layer=0, neuron=0, llm="offline", budget="a lot")


def test_a_server_that_is_not_there_is_one_error_before_anything_is_loaded() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        with pytest.raises(ns.LLMError, match=rf"No server listens at {address}.*base_url"):
            ns.explain_neuron("no such model", layer=0, neuron=0, llm="openai:m", base_url=address)


async def test_a_key_that_the_server_echoes_is_in_no_artefact(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)

    def answer(request: dict[str, Any], number: int) -> Reply:
        if request["model"] == "refinement":
            return refusal(400, f"The key {KEY} may not do this.")
        return useful(request, number)

    with fake_openai(answer) as server:
        llms: Any = {agent: server.model(model=agent, api_key=KEY) for agent in AGENTS}
        context = instruments(llm=llms, config=CONFIG, usage=UsageTracker())
        async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "checkpoints.sqlite")) as saver:
            graph = build_neuron_graph(clustering=clustering, checkpointer=saver)
            thread: Any = {"configurable": {"thread_id": "1"}}
            state = await graph.ainvoke({"neuron": BOTH}, thread, context=context, durability="sync")
            history = [str(snapshot) async for snapshot in graph.aget_state_history(thread)]
        assert server.keys[0] == f"Bearer {KEY}", "the key was used"
    x: ns.NeuronExplanation = state["explanation"]
    assert x.status == "partial"
    assert "***" in x.failures[0].message
    page, saved = x.to_html(tmp_path / "n.html").read_text(), x.save(tmp_path / "n.json").read_text()
    Console(file=(screen := StringIO())).print(TerminalReport(x))
    shown = [page, saved, repr(x), str(history), repr(context), screen.getvalue(), caplog.text, *capfd.readouterr()]
    files = everything_in(tmp_path)
    assert KEY not in "".join(shown)
    assert KEY.encode() not in files
    assert b"colours" in files
