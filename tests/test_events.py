"""What a run says while it is under way: typed events in the graph's own stream, and what reads them."""

import json

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command

import neuronscope as ns
from neuronscope.graphs import (
    NeuronState,
    build_neuron_graph,
    build_refinement_graph,
    observe,
    stream_events,
)
from neuronscope.graphs.refine import RefinementOutput
from neuronscope.results import Mode
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
MEASURED = [(node, phase) for node in ("tools", "reconcile") for phase in ("started", "finished")][:-1]
"""What is told of every round; how `reconcile` finishes is told of each mode."""


async def events_of(graph, neuron=BOTH, **options):
    return [
        item
        async for item in stream_events(graph, neuron, instruments(**options))
        if isinstance(item, ns.ProgressEvent)
    ]


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
    rounds = 3  # the representatives, the better sentences, and no further gain
    refined = [("refine", "started"), *both_phases(["begin"])[:1], ("begin", "finished"), *MEASURED * rounds]
    assert steps(events, mode=None) == [
        *both_phases(OUTER),
        *refined,
        ("refine", "finished"),
        *both_phases(["conclude"]),
    ]
    compared = [("reconcile", "finished")]
    for mode in (COLOUR_MODE, ANIMAL_MODE):
        own = [step for step in steps(events, mode=mode) if step[0] != "begin"]
        assert own == [*compared, *both_phases(["propose"]), *compared, *both_phases(["propose"]), *compared]


async def test_a_mode_keeps_its_name_while_its_iterations_and_scores_go_up():
    events = await events_of(build_neuron_graph(**AGENTS))
    colours = [event for event in events if event.mode == COLOUR_MODE]
    compared = [event for event in colours if event.node == "reconcile"]
    assert [event.iteration for event in compared] == [0, 1, 2]
    assert [event.explanation for event in compared] == [COLOUR_MODE, BETTER_COLOURS, BETTER_COLOURS]
    assert 0 < compared[0].score < compared[1].score == compared[2].score
    assert [event.iteration for event in colours if event.node == "propose"] == [1, 1, 2, 2]
    assert {event.n_modes for event in colours} == {2}


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


async def test_nodes_of_ones_own_are_told_of_too():
    async def by_command(state, runtime):
        return Command(update={"clusters": (await AGENTS["clustering"](state, runtime))["clusters"]})

    async def conclude(state, runtime):
        return {"explanation": ns.NeuronExplanation(state["neuron"], "explained", score=0.25)}

    graph = build_neuron_graph(**(AGENTS | {"clustering": by_command}), conclude=conclude)
    events = await events_of(graph)
    assert [step for step in steps(events, mode=None) if step[0] in OUTER] == both_phases(OUTER)
    assert events[-1].score == 0.25


async def test_a_loop_of_ones_own_is_told_of_as_a_whole():
    async def only_step(state, runtime):
        return {"modes": [Mode(cluster.representative) for cluster in state["clusters"]]}

    loop = StateGraph(RefinementState, output_schema=RefinementOutput)
    loop.add_node("only_step", only_step)
    loop.add_edge(START, "only_step")
    loop.add_edge("only_step", END)
    events = await events_of(build_neuron_graph(**(AGENTS | {"refinement": loop.compile()})))
    loop = [("refine", "started"), *both_phases(["only_step"]), ("refine", "finished")]
    assert steps(events) == [*both_phases(OUTER), *loop, *both_phases(["conclude"])]
    assert events[-1].n_modes == 2


async def test_an_agent_that_fails_never_finishes_and_a_bug_surfaces():
    async def fails(state, runtime):
        raise ns.LLMError("no answer")

    async def bug(state, runtime):
        raise TypeError("a bug")

    events = await events_of(build_neuron_graph(**(AGENTS | {"decomposition": fails})))
    assert steps(events) == [
        *both_phases(["observe", "hypothesis"]),
        ("decomposition", "started"),
        *both_phases(["conclude"]),
    ]
    stream = stream_events(build_neuron_graph(**(AGENTS | {"decomposition": bug})), BOTH, instruments())
    seen = [await anext(stream) for _ in range(5)]
    assert steps(seen) == [*both_phases(["observe", "hypothesis"]), ("decomposition", "started")]
    with pytest.raises(TypeError, match="a bug"):
        await anext(stream)


async def test_the_loop_remains_a_subgraph_to_langgraph():
    graph = build_neuron_graph(**AGENTS, checkpointer=InMemorySaver())
    assert [name for name, _ in graph.get_subgraphs()] == ["refine"]
    assert not list(build_refinement_graph(refinement=refinement).get_subgraphs())


# Running as a stream


async def test_a_run_goes_on_with_its_thread_and_says_only_what_is_new():
    saver, context = InMemorySaver(), instruments()
    thread = {"configurable": {"thread_id": "1"}}
    graph = build_neuron_graph(**AGENTS, checkpointer=saver)
    await graph.ainvoke({"neuron": BOTH}, thread, context=context, interrupt_before=["clustering"])
    *events, x = await items_of(graph, None, context, config=thread, durability="sync")
    outer = [step for step in steps(events, mode=None) if step[0] in (*OUTER, "refine", "conclude")]
    assert outer == both_phases(["clustering", "refine", "conclude"])
    assert x.number == 2
    assert thread == {"configurable": {"thread_id": "1"}}
    (again,) = await items_of(graph, None, context, config=thread)  # a finished thread still has its explanation
    assert (again.neuron, again.status, again.score, again.number) == (x.neuron, x.status, x.score, x.number)


async def test_a_whole_state_may_be_the_start_and_a_graph_without_an_end_is_an_error():
    state = {"neuron": NEGATIVE}
    *_, x = await items_of(build_neuron_graph(**AGENTS), state, instruments())
    assert x.neuron == NEGATIVE
    graph = StateGraph(NeuronState)
    graph.add_node("observe", observe)
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
