"""What a run says while it is under way: typed events in the graph's own stream, and what reads them."""

import json

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command

import neuronscope as ns
from neuronscope.graphs import (
    NeuronState,
    announced,
    build_neuron_graph,
    build_refinement_graph,
    observe,
    stream_events,
)
from neuronscope.graphs.refine import RefinementOutput
from neuronscope.state import RefinementState
from planted import (
    AGENTS,
    ANIMAL_MODE,
    BETTER_COLOURS,
    BOTH,
    COLOUR_MODE,
    DEAD,
    NEGATIVE,
    instruments,
    refinement,
)

OUTER = ["observe", "hypothesis", "decomposition", "clustering"]
ROUND = ["propose", "tools", "assess"]


async def events_of(graph, neuron=BOTH, **options):
    streamed = graph.astream({"neuron": neuron}, context=instruments(**options), stream_mode="custom", subgraphs=True)
    return [event async for _, event in streamed]


async def items_of(*args, **kwargs):
    return [item async for item in stream_events(*args, **kwargs)]


def steps(events, **wanted):
    return [(e.node, e.phase) for e in events if all(getattr(e, name) == value for name, value in wanted.items())]


def both_phases(nodes):
    return [(node, phase) for node in nodes for phase in ("started", "finished")]


# What the stream says


async def test_every_node_starts_and_finishes_in_order():
    events = await events_of(build_neuron_graph(**AGENTS))
    assert all(isinstance(event, ns.ProgressEvent) and event.neuron == BOTH for event in events)
    assert steps(events, mode=None) == both_phases([*OUTER, "conclude"])
    inside = both_phases(ROUND * 3)  # the representative, the better sentence, and no further gain
    for mode in (COLOUR_MODE, ANIMAL_MODE):
        assert steps(events, mode=mode) == [("refine", "started"), *inside, ("refine", "finished")]


async def test_a_mode_keeps_its_name_while_its_iterations_and_scores_go_up():
    events = await events_of(build_neuron_graph(**AGENTS))
    colours = [event for event in events if event.mode == COLOUR_MODE]
    assessed = [event for event in colours if (event.node, event.phase) == ("assess", "finished")]
    assert [event.iteration for event in assessed] == [0, 1, 2]
    assert [event.explanation for event in assessed] == [COLOUR_MODE, BETTER_COLOURS, BETTER_COLOURS]
    assert 0 < assessed[0].score < assessed[1].score == assessed[2].score
    assert [event.iteration for event in colours if event.node == "propose"] == [0, 0, 1, 1, 2, 2]
    assert {event.n_modes for event in colours} == {2}
    first, last = colours[0], colours[-1]
    assert (first.node, first.iteration, first.score, first.explanation) == ("refine", 0, None, COLOUR_MODE)
    assert (last.node, last.iteration, last.explanation) == ("refine", 2, BETTER_COLOURS)
    assert last.score == assessed[-1].score


async def test_the_last_event_has_the_neurons_score():
    graph = build_neuron_graph(**AGENTS)
    *events, x = await items_of(graph, BOTH, instruments())
    assert isinstance(x, ns.NeuronExplanation)
    assert (events[-1].node, events[-1].phase) == ("conclude", "finished")
    assert (events[-1].score, events[-1].n_modes) == (x.score, x.number)


async def test_a_dead_neuron_is_told_in_four_events():
    events = await events_of(build_neuron_graph(**AGENTS), DEAD)
    assert steps(events) == both_phases(["observe", "conclude"])
    assert (events[-1].score, events[-1].n_modes) == (None, 0)


async def test_events_are_plain_data_and_cannot_be_changed():
    event = (await events_of(build_neuron_graph(**AGENTS), DEAD))[-1]
    assert json.loads(json.dumps(event.to_dict())) == {
        "neuron": {"layer": 0, "index": 1, "sign": 1, "site": "mlp"},
        "node": "conclude",
        "phase": "finished",
        "mode": None,
        "iteration": None,
        "score": None,
        "explanation": None,
        "n_modes": 0,
    }
    with pytest.raises(AttributeError):
        event.node = "observe"
    assert not hasattr(event, "__dict__")


# Nodes of every kind


async def test_nodes_of_ones_own_are_announced_too():
    async def by_command(state, runtime):
        return Command(update={"clusters": (await AGENTS["clustering"](state, runtime))["clusters"]})

    async def conclude(state, runtime):
        return {"explanation": ns.NeuronExplanation(state["neuron"], "explained", score=0.25)}

    graph = build_neuron_graph(**(AGENTS | {"clustering": by_command}), conclude=conclude)
    events = await events_of(graph)
    assert steps(events, mode=None) == both_phases([*OUTER, "conclude"])
    assert events[-1].score == 0.25


async def test_a_loop_of_ones_own_is_announced_as_a_whole():
    async def only_step(state, runtime):
        return {"modes": [state["mode"]]}

    loop = StateGraph(RefinementState, output_schema=RefinementOutput)
    loop.add_node("only_step", only_step)
    loop.add_edge(START, "only_step")
    loop.add_edge("only_step", END)
    events = await events_of(build_neuron_graph(**(AGENTS | {"refinement": loop.compile()})))
    assert steps(events, mode=COLOUR_MODE) == both_phases(["refine"])
    assert {event.score for event in events if event.mode} == {None}


async def test_a_node_that_writes_to_the_stream_itself_disturbs_nobody():
    async def talkative(state, runtime):
        runtime.stream_writer({"anything": 1})
        return await AGENTS["hypothesis"](state, runtime)

    graph = build_neuron_graph(**(AGENTS | {"hypothesis": talkative}))
    assert {"anything": 1} in await events_of(graph)
    *events, _ = await items_of(graph, BOTH, instruments())
    assert all(isinstance(event, ns.ProgressEvent) for event in events)


async def test_an_agent_that_fails_finishes_and_a_bug_does_not():
    async def fails(state, runtime):
        raise ns.LLMError("no answer")

    async def bug(state, runtime):
        raise TypeError("a bug")

    events = await events_of(build_neuron_graph(**(AGENTS | {"decomposition": fails})))
    assert steps(events) == both_phases(["observe", "hypothesis", "decomposition", "conclude"])
    stream = stream_events(build_neuron_graph(**(AGENTS | {"decomposition": bug})), BOTH, instruments())
    seen = [await anext(stream) for _ in range(5)]
    assert steps(seen) == [*both_phases(["observe", "hypothesis"]), ("decomposition", "started")]
    with pytest.raises(TypeError, match="a bug"):
        await anext(stream)


async def test_a_graph_composed_by_hand_can_announce_its_nodes():
    graph = StateGraph(NeuronState)
    graph.add_node("look", announced("look", observe))
    graph.add_edge(START, "look")
    graph.add_edge("look", END)
    assert steps(await events_of(graph.compile())) == both_phases(["look"])


async def test_the_loop_remains_a_subgraph_to_langgraph():
    graph = build_neuron_graph(**AGENTS, checkpointer=InMemorySaver())
    assert [name for name, _ in graph.get_subgraphs()] == ["refine"]
    drawn = graph.get_graph(xray=True).draw_mermaid()
    assert all(node in drawn for node in ROUND)
    alone = build_refinement_graph(refinement=refinement)
    assert not list(alone.get_subgraphs())


# Running as a stream


async def test_a_run_goes_on_with_its_thread_and_says_only_what_is_new():
    async def bug(state, runtime):
        raise TypeError("a bug")

    saver, context = InMemorySaver(), instruments()
    thread = {"configurable": {"thread_id": "1"}}
    broken = build_neuron_graph(**(AGENTS | {"clustering": bug}), checkpointer=saver)
    with pytest.raises(TypeError):
        await items_of(broken, BOTH, context, config=thread, durability="sync")
    graph = build_neuron_graph(**AGENTS, checkpointer=saver)
    *events, x = await items_of(graph, None, context, config=thread, durability="sync")
    assert steps(events, mode=None) == both_phases(["clustering", "conclude"])
    assert x.number == 2
    assert thread == {"configurable": {"thread_id": "1"}}
    (again,) = await items_of(graph, None, context, config=thread)  # a finished thread still has its explanation
    assert (again.neuron, again.status, again.score, again.number) == (x.neuron, x.status, x.score, x.number)


async def test_a_whole_state_may_be_the_start_and_a_graph_without_an_end_is_an_error():
    state = {"neuron": NEGATIVE}
    *_, x = await items_of(build_neuron_graph(**AGENTS), state, instruments())
    assert x.neuron == NEGATIVE
    graph = StateGraph(NeuronState)
    graph.add_node("observe", announced("observe", observe))
    graph.add_edge(START, "observe")
    graph.add_edge("observe", END)
    with pytest.raises(RuntimeError, match="without an explanation"):
        await items_of(graph.compile(), NEGATIVE, instruments())


async def test_leaving_the_stream_stops_the_run():
    started = []

    async def counted(state, runtime):
        started.append(state["neuron"])
        return await AGENTS["decomposition"](state, runtime)

    stream = stream_events(build_neuron_graph(**(AGENTS | {"decomposition": counted})), BOTH, instruments())
    async for item in stream:
        if item.node == "hypothesis":
            break
    await stream.aclose()
    assert not started
