"""The graphs behind LangGraph's development server: JSON goes in and comes out, objects are made on the way."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from operator import add
from pathlib import Path
from typing import Annotated, Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import TypeAdapter

import neuronscope as ns
from neuronscope.graphs import beginning_afresh, build_neuron_graph, build_refinement_graph, neuron_graph_builder
from neuronscope.graphs.server import AnyGraph, served
from neuronscope.server import NeuronForm, ServedSetup, neuron_graph, open_instruments, refinement_graph, serve
from neuronscope.state import Instruments, NeuronState
from planted import AGENTS, BETTER_ANIMALS, BETTER_COLOURS, instruments
from small_world import write_small_world

ROOT = Path(__file__).parent.parent
BOTH = {"layer": 0, "index": 0}


def planted_instruments(setup: ns.Setup, neuron: ns.Neuron) -> Instruments:
    return instruments()


def planted(agents: dict[str, Any] | None = None, **options: Any) -> AnyGraph:
    """The whole graph, served, on planted neurons whatever the setup says."""
    graph = neuron_graph_builder(**(AGENTS | (agents or {}))).compile(checkpointer=InMemorySaver(), **options)
    return served(beginning_afresh(graph), NeuronForm, ServedSetup(), planted_instruments)


# Input and context


@pytest.mark.parametrize("neuron", [BOTH, "0/0", ns.Neuron(0, 0), " 0/0 "])
async def test_a_neuron_comes_as_json_or_as_text(neuron: Any) -> None:
    state = await planted().ainvoke({"neuron": neuron}, {"configurable": {"thread_id": "1"}})
    assert state["neuron"] == ns.Neuron(0, 0)
    assert {mode.explanation for mode in state["explanation"].modes} == {BETTER_COLOURS, BETTER_ANIMALS}


async def test_the_negative_side_has_a_minus() -> None:
    state = await planted().ainvoke({"neuron": "0/-2"}, {"configurable": {"thread_id": "1"}})
    assert state["neuron"] == ns.Neuron(0, 2, sign=-1)


@pytest.mark.parametrize(
    ("given", "context", "message"),
    [
        ({"neuron": "nine"}, None, "'nine' names no neuron: write"),
        ({"neuron": {"layer": 1}}, None, "is no neuron. A neuron's index is None"),
        ({}, None, "The input has no neuron. Enter one"),
        ({"neuron": "0/0"}, {"modle": "x"}, "there is no field 'modle'"),
    ],
)
async def test_what_cannot_be_read_is_answered_in_words(given: Any, context: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        await planted().ainvoke(given, {"configurable": {"thread_id": "1"}}, context=context)


async def test_a_new_neuron_in_an_old_thread_starts_over() -> None:
    graph, thread = planted(), {"configurable": {"thread_id": "1"}}
    await graph.ainvoke({"neuron": "0/0"}, thread)
    state = await graph.ainvoke({"neuron": "0/1"}, thread)  # a dead one
    assert (state["explanation"].status, state["modes"], state["atoms"]) == ("dead", [], [])


@pytest.mark.usefixtures("any_rest_counts")
async def test_a_run_goes_on_from_an_edited_state() -> None:
    graph, thread = planted(interrupt_before=["clustering"]), {"configurable": {"thread_id": "1"}}
    await graph.ainvoke({"neuron": "0/0"}, thread)
    waiting = (await graph.aget_state(thread, subgraphs=True)).tasks[0].state
    assert waiting.next == ("clustering",)
    await graph.aupdate_state(waiting.config, {"atoms": [BETTER_ANIMALS]})
    await graph.ainvoke(None, thread)
    waiting = (await graph.aget_state(thread, subgraphs=True)).tasks[0].state
    assert waiting.next == ("clustering",)  # of what no mode explains: the colours
    assert [mode.explanation for mode in waiting.values["modes"]] == [BETTER_ANIMALS]
    state = await graph.ainvoke(None, thread)
    assert {mode.explanation for mode in state["explanation"].modes} == {BETTER_COLOURS, BETTER_ANIMALS}


async def test_what_an_agent_reports_is_kept_once() -> None:
    async def fails(state: Any, runtime: Any) -> Any:
        raise ns.LLMError("no answer")

    state = await planted({"clustering": fails}).ainvoke({"neuron": "0/0"}, {"configurable": {"thread_id": "1"}})
    assert state["explanation"].status == "partial"
    assert [failure.message for failure in state["failures"]] == ["no answer"]


def test_forms_are_plain_json() -> None:
    schema = neuron_graph().get_context_jsonschema()
    assert schema is not None
    assert list(schema["properties"]) == list(ns.Setup.model_fields)
    assert schema["properties"]["subject"]["default"] == "smollm2-135m"
    assert set(schema["$defs"]["ExplainConfig"]["properties"]) == set(ns.ExplainConfig.model_fields)
    assert neuron_graph().get_input_jsonschema()["required"] == ["neuron"]
    assert refinement_graph().get_input_jsonschema()["required"] == ["neuron", "modes"]
    assert set(refinement_graph().get_output_jsonschema()["properties"]) == {"modes", "failures", "unexplained"}
    json.dumps([schema, neuron_graph().get_output_jsonschema()])


def test_a_served_graph_draws_what_is_in_it() -> None:
    drawing = refinement_graph().get_graph(xray=True).draw_mermaid()
    assert all(node in drawing for node in build_refinement_graph().builder.nodes)


class Remarked(NeuronState, total=False):
    remarks: Annotated[list[str], add]


class RemarkForm(NeuronForm):
    remarks: list[str]


async def test_a_graph_of_ones_own_is_served_with_its_own_keys() -> None:
    graph = neuron_graph_builder(**AGENTS, state=Remarked).compile(checkpointer=InMemorySaver())
    outer, thread = served(graph, RemarkForm, ServedSetup(), planted_instruments), {"configurable": {"thread_id": "1"}}
    assert outer.get_input_jsonschema()["required"] == ["neuron", "remarks"]
    for _ in range(2):
        state = await outer.ainvoke({"neuron": "0/0", "remarks": ["mine"]}, thread)
        assert state["remarks"] == ["mine"]
        assert state["explanation"].status == "explained"


def test_the_form_is_that_of_the_graph() -> None:
    assert serve(build_neuron_graph(**AGENTS)).get_input_jsonschema()["title"] == "NeuronForm"
    assert serve(build_refinement_graph()).get_input_jsonschema()["title"] == "RefinementForm"
    assert serve(build_neuron_graph(**AGENTS), RemarkForm).get_input_jsonschema()["title"] == "RemarkForm"


# Real models, loaded once


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any) -> dict[str, Any]:
    """The context of a run on a tiny model and a text on disk."""
    folder = tmp_path_factory.mktemp("served")
    world = write_small_world(folder, tiny_tokenizer)
    return {
        "subject": world.model,
        "corpus": world.texts,
        "llm": "offline",
        "simulator": "hybrid",
        "cache_dir": str(folder / "cache"),
        "config": {"seq_len": 16, "n_tokens": 4000, "max_iterations": 1, "n_candidates": 2},
    }


async def test_models_and_exemplars_are_loaded_once_and_costs_counted_anew(settings: dict[str, Any]) -> None:
    setup = ServedSetup(**settings)
    first, second = open_instruments(setup, ns.Neuron(1, 3)), open_instruments(setup, ns.Neuron(1, 4))
    assert first.store is second.store
    assert first.usage is not second.usage
    assert first.subject is open_instruments(setup, ns.Neuron(0, 3)).subject
    with pytest.raises(ns.SubjectError, match="neurons 0 to 11"):
        open_instruments(setup, ns.Neuron(1, 12))


async def test_refinement_begins_with_a_sentence(settings: dict[str, Any]) -> None:
    sentence = 'This neuron activates on "r".'
    output = await refinement_graph().ainvoke({"neuron": "1/3", "modes": [sentence]}, context=settings)
    history = output["modes"][0].history
    assert history[0].explanation == sentence
    assert output["modes"][0].val_score == max(attempt.val_score for attempt in history) > history[0].val_score
    with pytest.raises(ValueError, match="The input has no modes"):
        await refinement_graph().ainvoke({"neuron": "1/3"}, context=settings)


# The server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The repository's `langgraph.json`, served by `langgraph dev`, blocking calls forbidden."""
    if find_spec("langgraph_cli") is None or find_spec("langgraph_api") is None:
        pytest.skip("LangGraph's development server is not installed: pip install 'neuronscope[studio]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("server")  # the server writes into the folder that it starts in
    manifest = json.loads((ROOT / "langgraph.json").read_text()) | {"dependencies": [str(ROOT)]}
    (folder / "langgraph.json").write_text(json.dumps(manifest))
    command = [sys.executable, "-m", "langgraph_cli", "dev", "--no-browser", "--no-reload", "--port", str(port)]
    quiet = {"LANGGRAPH_CLI_NO_ANALYTICS": "1", "LANGSMITH_TRACING": "false", "LANGGRAPH_NO_VERSION_CHECK": "true"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=os.environ | quiet, stdout=log, stderr=log)
    try:
        for _ in range(600):
            if process.poll() is not None:
                pytest.fail((folder / "log").read_text())
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
async def test_the_development_server_explains_a_neuron(server: str, settings: dict[str, Any]) -> None:
    from langgraph_sdk import get_client

    client = get_client(url=server)
    assistants = {graph["graph_id"]: graph["assistant_id"] for graph in await client.assistants.search()}
    assert assistants.keys() == {"neuron", "refinement"}
    schemas = await client.assistants.get_schemas(assistants["neuron"])
    assert list(schemas["input_schema"]["properties"]) == ["neuron"]
    assert list(schemas["context_schema"]["properties"]) == list(ns.Setup.model_fields)

    thread = await client.threads.create()
    steps, loop = [], []
    async for part in client.runs.stream(
        thread["thread_id"],
        "neuron",
        input={"neuron": {"layer": 1, "index": 3}},
        context=settings,
        stream_mode="updates",
        stream_subgraphs=True,
    ):
        assert part.event != "error", part.data
        if part.event.startswith("updates|explain:"):
            (loop if "|refine:" in part.event else steps).extend(part.data)
    assert steps[:4] == ["observe", "hypothesis", "decomposition", "clustering"]
    assert steps[-1] == "conclude"
    assert loop[:3] == ["begin", "tools", "reconcile"]

    values = (await client.threads.get_state(thread["thread_id"]))["values"]
    explanation = TypeAdapter(ns.NeuronExplanation).validate_python(values["explanation"])
    assert explanation.neuron == ns.Neuron(1, 3)
    assert explanation.status == "explained"
    direct = await ns.aexplain_neuron(
        settings["subject"],
        layer=1,
        neuron=3,
        corpus=settings["corpus"],
        llm="offline",
        simulator="hybrid",
        cache_dir=settings["cache_dir"],
        config=ns.ExplainConfig(**settings["config"]),
    )
    assert explanation.modes == direct.modes
    assert explanation.score == direct.score

    async for part in client.runs.stream(None, "neuron", input={"neuron": "1/99"}, context=settings):
        last = part
    assert last.event == "error"
    assert "neurons 0 to 11; there is no neuron 99" in last.data["message"]
