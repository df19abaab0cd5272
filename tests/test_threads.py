"""Several neurons in one thread of a checkpointer: each answer is about its own neuron alone."""

from __future__ import annotations

import operator
from typing import Annotated, Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph

import neuronscope as ns
from neuronscope.graphs import (
    Instruments,
    NeuronState,
    beginning_afresh,
    build_neuron_graph,
    build_refinement_graph,
    conclude,
    observe,
    stream_events,
)
from neuronscope.graphs.checkpoints import serializer
from neuronscope.results import Attempt, Failure, Mode, NeuronExplanation
from planted import AGENTS, ANIMAL_MODE, BETTER_ANIMALS, BETTER_COLOURS, BOTH, COLOUR_MODE, DEAD, NEGATIVE, instruments

THREAD: Any = {"configurable": {"thread_id": "chat"}}


class Runtime:
    def __init__(self, context: Instruments) -> None:
        self.context = context


def saver() -> InMemorySaver:
    return InMemorySaver(serde=serializer())


def plain(explanation: NeuronExplanation) -> tuple[Any, ...]:
    return (
        explanation.neuron,
        explanation.status,
        explanation.modes,
        explanation.score,
        explanation.joint_score,
        explanation.hypotheses,
        explanation.atoms,
        explanation.clusters,
        explanation.failures,
    )


async def alone(neuron: ns.Neuron, **agents: Any) -> NeuronExplanation:
    state = await build_neuron_graph(**(AGENTS | agents)).ainvoke({"neuron": neuron}, context=instruments())
    return state["explanation"]


def fails_for(neuron: ns.Neuron, error: Exception, agent: Any) -> Any:
    async def sometimes(state: Any, runtime: Any) -> Any:
        if state["neuron"] == neuron:
            raise error
        return await agent(state, runtime)

    return sometimes


@pytest.mark.parametrize("neurons", [[BOTH, NEGATIVE], [NEGATIVE, BOTH], [BOTH, BOTH], [BOTH, DEAD, BOTH]])
async def test_each_neuron_of_a_thread_is_explained_as_it_would_be_alone(neurons: list[ns.Neuron]) -> None:
    graph = build_neuron_graph(**AGENTS, checkpointer=saver())
    for neuron in neurons:
        state = await graph.ainvoke({"neuron": neuron}, THREAD, context=instruments())
        assert plain(state["explanation"]) == plain(await alone(neuron))
        assert len(state["modes"]) == state["explanation"].number


@pytest.mark.parametrize("neurons", [[BOTH, NEGATIVE], [BOTH, BOTH]])
async def test_so_it_is_in_a_stream_of_events(neurons: list[ns.Neuron]) -> None:
    graph = build_neuron_graph(**AGENTS, checkpointer=saver())
    for neuron in neurons:
        items = [item async for item in stream_events(graph, neuron, instruments(), config=THREAD)]
        assert plain(items[-1]) == plain(await alone(neuron))


@pytest.mark.parametrize("broken", ["hypothesis", "decomposition", "clustering"])
async def test_a_neuron_whose_agent_fails_does_not_go_on_with_what_another_has_left(broken: str) -> None:
    agents = AGENTS | {broken: fails_for(NEGATIVE, ns.LLMError("no answer"), AGENTS[broken])}
    graph = build_neuron_graph(**agents, checkpointer=saver())
    for neuron in (BOTH, NEGATIVE, BOTH):
        state = await graph.ainvoke({"neuron": neuron}, THREAD, context=instruments())
        assert plain(state["explanation"]) == plain(await alone(neuron, **agents))


async def test_a_neuron_after_one_that_was_broken_off_begins_afresh() -> None:
    store = saver()
    agents = AGENTS | {"refinement": fails_for(BOTH, TypeError("a bug"), AGENTS["refinement"])}
    with pytest.raises(TypeError):
        await build_neuron_graph(**agents, checkpointer=store).ainvoke({"neuron": BOTH}, THREAD, context=instruments())
    graph = build_neuron_graph(**AGENTS, checkpointer=store)
    state = await graph.ainvoke({"neuron": NEGATIVE}, THREAD, context=instruments())
    assert plain(state["explanation"]) == plain(await alone(NEGATIVE))


async def test_a_neuron_that_waits_has_no_explanation_yet() -> None:
    graph = build_neuron_graph(**AGENTS, checkpointer=saver())
    await graph.ainvoke({"neuron": BOTH}, THREAD, context=instruments())
    state = await graph.ainvoke({"neuron": NEGATIVE}, THREAD, context=instruments(), interrupt_before=["conclude"])
    assert state.get("explanation") is None
    with pytest.raises(RuntimeError, match="without an explanation"):
        async for _ in stream_events(
            build_neuron_graph(**AGENTS, conclude=_nothing, checkpointer=graph.checkpointer),
            BOTH,
            instruments(),
            config=THREAD,
        ):
            pass


async def _nothing(state: Any, runtime: Any) -> Any:
    return {}


async def test_a_run_that_goes_on_keeps_what_it_has() -> None:
    graph = build_neuron_graph(**AGENTS, checkpointer=saver())
    await graph.ainvoke({"neuron": NEGATIVE}, THREAD, context=instruments())
    await graph.ainvoke({"neuron": BOTH}, THREAD, context=instruments(), interrupt_before=["clustering"])
    await graph.aupdate_state(THREAD, {"atoms": [ANIMAL_MODE]})
    state = await graph.ainvoke(None, THREAD, context=instruments(config=ns.ExplainConfig(second_hypothesis=False)))
    assert [mode.explanation for mode in state["explanation"].modes] == [BETTER_ANIMALS]


async def test_what_an_input_has_beside_the_neuron_is_kept_and_nothing_else() -> None:
    async def keeps(state: Any, runtime: Any) -> Any:
        return {}

    graph = build_neuron_graph(**(AGENTS | {"hypothesis": keeps}), checkpointer=saver())
    for number in range(2):
        given = {"neuron": BOTH, "hypotheses": [f"draft {number}"], "failures": [Failure("me", f"note {number}")]}
        state = await graph.ainvoke(given, THREAD, context=instruments())
        assert state["explanation"].hypotheses == [f"draft {number}"]
        assert state["explanation"].failures == [Failure("me", f"note {number}")]


async def test_each_mode_of_a_thread_is_refined_as_it_would_be_alone() -> None:
    context = instruments()
    drawn = (await observe({"neuron": BOTH}, Runtime(context)))["exemplars"]
    graph = build_refinement_graph(refinement=AGENTS["refinement"], checkpointer=saver())
    for first, better in ((COLOUR_MODE, BETTER_COLOURS), (ANIMAL_MODE, BETTER_ANIMALS), (COLOUR_MODE, BETTER_COLOURS)):
        given = {"neuron": BOTH, "exemplars": drawn, "modes": [Mode(first)]}
        output = await graph.ainvoke(given, THREAD, context=context)
        (mode,) = output["modes"]
        assert (mode.history[0].explanation, mode.explanation) == (first, better)
        assert [attempt.iteration for attempt in mode.history] == list(range(len(mode.history)))
        messages = (await graph.aget_state(THREAD)).values["messages"]
        assert len(messages) == 2 * len(mode.history), "a call and its answer for each attempt"


async def test_a_history_that_comes_with_the_input_is_gone_on_with() -> None:
    context = instruments(config=ns.ExplainConfig(max_iterations=1, patience=None))
    drawn = (await observe({"neuron": BOTH}, Runtime(context)))["exemplars"]
    graph = build_refinement_graph(refinement=AGENTS["refinement"], checkpointer=saver())
    known = Mode(COLOUR_MODE, val_score=0.2, history=[Attempt(0, COLOUR_MODE, 0.2)])
    for _ in range(2):
        output = await graph.ainvoke({"neuron": BOTH, "exemplars": drawn, "modes": [known]}, THREAD, context=context)
        (mode,) = output["modes"]
        assert mode.history[0] == known.history[0]
        assert [attempt.iteration for attempt in mode.history] == [0, 1]
        assert mode.explanation == BETTER_COLOURS


class Noted(NeuronState, total=False):
    """A state of one's own, with keys of several kinds."""

    seen: Annotated[list[str], operator.add]
    total: Annotated[int, operator.add]
    remark: str
    table: dict[str, int]


async def _notes(state: Any, runtime: Any) -> Any:
    return {
        "modes": [Mode(COLOUR_MODE)],
        "seen": [str(state["neuron"])],
        "total": 1,
        "remark": state.get("remark", "") + "once",
        "table": {**state.get("table", {}), str(state["neuron"]): 1},
    }


@pytest.mark.parametrize("way", ["beginning_afresh", "stream_events"])
async def test_a_graph_of_ones_own_begins_afresh_too(way: str) -> None:
    builder = StateGraph(Noted, context_schema=Instruments)
    for name, node in {"observe": observe, "note": _notes, "conclude": conclude}.items():
        builder.add_node(name, node)
    for start, end in ((START, "observe"), ("observe", "note"), ("note", "conclude"), ("conclude", END)):
        builder.add_edge(start, end)
    graph = builder.compile(checkpointer=saver())
    for neuron in (BOTH, NEGATIVE):
        if way == "beginning_afresh":
            await beginning_afresh(graph).ainvoke({"neuron": neuron}, THREAD, context=instruments())
        else:
            assert [item async for item in stream_events(graph, neuron, instruments(), config=THREAD)]
        values = (await graph.aget_state(THREAD)).values
        assert values["explanation"].number == 1
        assert (values["seen"], values["total"], values["remark"]) == ([str(neuron)], 1, "once")
        assert values["table"] == {str(neuron): 1}
