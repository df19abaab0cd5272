"""Progress events: nodes that announce themselves, and a run of a graph as a stream of what they announce."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Protocol, cast

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.config import get_config
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command, Durability

from neuronscope.events import Phase, ProgressEvent
from neuronscope.graphs.modes import refined, representative
from neuronscope.graphs.threads import begun_afresh
from neuronscope.results import NeuronExplanation
from neuronscope.state import Instruments, NeuronState
from neuronscope.types import Neuron

NAME_LENGTH = 80
"""Characters of a mode's representative that the name of its run in a trace shows."""


class Node(Protocol):
    """What LangGraph takes as a node."""

    async def __call__(self, state: Any, runtime: Runtime[Instruments]) -> Any:
        """Return the state's update."""


def announced(name: str, node: Callable[..., Awaitable[Any]] | Runnable[Any, Any]) -> Node:
    """The same node, which tells the graph's stream when it starts and when it has finished (see `ProgressEvent`).

    `build_neuron_graph` and `build_refinement_graph` wrap every node, also those that are passed to them. In a graph of
    your own: `graph.add_node("observe", announced("observe", observe))`. Nobody need listen.

    Args:
        name: the node's name.
        node: an async callable `(state, runtime)`, or any runnable: a `ToolNode`, a compiled graph.
    """

    # A function that closes over the node, and no object that holds it: LangGraph looks for subgraphs among the cells.
    async def announcing(state: Any, runtime: Runtime[Instruments]) -> Any:
        runtime.stream_writer(_event(name, "started", state, {}))
        if isinstance(node, Runnable):
            update = await node.ainvoke(state, _config_of(node, state))
        else:
            update = await node(state, runtime)
        runtime.stream_writer(_event(name, "finished", state, update))
        return update

    return announcing


def _config_of(node: Runnable[Any, Any], state: Mapping[str, Any]) -> RunnableConfig:
    """The config that a node runs with; in a trace, a mode's subgraph has the mode in its name and metadata."""
    config = get_config()
    if not isinstance(node, CompiledStateGraph) or "mode" not in state:
        return config
    mode = representative(state["mode"])
    metadata = {**config.get("metadata", {}), "mode": mode}
    return {**config, "run_name": f"{node.get_name()}: {_shortened(mode)}", "metadata": metadata}


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= NAME_LENGTH else f"{text[: NAME_LENGTH - 1]}…"


def _event(node: str, phase: Phase, state: Mapping[str, Any], update: Any) -> ProgressEvent:
    """What a node's input, and its update once it has finished, say about how far the neuron is."""
    if isinstance(update, Command):
        update = update.update
    if not isinstance(update, Mapping):
        update = {}
    if "mode" not in state:
        explanation = update.get("explanation")
        if not isinstance(explanation, NeuronExplanation):
            return ProgressEvent(state["neuron"], node, phase)
        return ProgressEvent(state["neuron"], node, phase, score=explanation.score, n_modes=explanation.number)
    first = state["mode"]
    best = next(iter(update.get("modes", [])), None) or refined(first, state.get("history", []))
    last = best.history[-1].iteration if best.history else 0
    return ProgressEvent(
        neuron=state["neuron"],
        node=node,
        phase=phase,
        mode=representative(first),
        iteration=state.get("iteration") or last,
        score=best.val_score,
        explanation=best.explanation,
        n_modes=len(first.siblings) or None,
    )


async def stream_events(
    graph: CompiledStateGraph[Any, Any, Any, Any],
    start: Neuron | NeuronState | None,
    instruments: Instruments,
    *,
    config: RunnableConfig | None = None,
    durability: Durability | None = None,
) -> AsyncGenerator[ProgressEvent | NeuronExplanation, None]:
    """Run a graph on one neuron: every event as it happens, then, last, the explanation.

    In a trace (LangSmith's, by its usual environment variables) the run is named after the neuron, and its metadata
    name the neuron and the subject; a `run_name` or `metadata` in `config` come first.

    Args:
        graph: what `build_neuron_graph` returns, or one of your own with `neuron` and `explanation` in its state.
        start: the neuron; or a whole state to start from; or None to go on with the thread that `config` names. A
            neuron begins afresh, whatever an earlier one has left in the thread.
        instruments: what the graph works with; they are no part of a checkpoint, so they are needed to go on, too.
        config: LangGraph's: `{"configurable": {"thread_id": ...}}` for a graph with a checkpointer, callbacks, tags.
        durability: when checkpoints are written; only "sync" survives a kill in the middle of a step.

    Raises:
        RuntimeError: the graph ended without an explanation.
    """
    state: NeuronState | None = NeuronState(neuron=start) if isinstance(start, Neuron) else start
    neuron = state["neuron"] if state is not None else await _neuron_of(graph, config)
    events = graph.astream(
        begun_afresh(graph.builder.channels, state),
        _traced(config, neuron, instruments),
        context=instruments,
        stream_mode=["custom", "values"],
        subgraphs=True,
        durability=durability,
    )
    explanation: Any = None
    async with aclosing(cast(AsyncGenerator[tuple[tuple[str, ...], str, Any], None], events)) as stream:
        async for namespace, kind, chunk in stream:
            if kind == "custom" and isinstance(chunk, ProgressEvent):
                yield chunk
            elif kind == "values" and not namespace:
                explanation = chunk.get("explanation")
    if not isinstance(explanation, NeuronExplanation):
        raise RuntimeError("The graph ended without an explanation: its last node, conclude, has not run.")
    yield explanation


async def _neuron_of(graph: CompiledStateGraph[Any, Any, Any, Any], config: RunnableConfig | None) -> Neuron | None:
    """The neuron of a thread that is to go on."""
    values = (await graph.aget_state(config or {})).values
    neuron = values.get("neuron")
    return neuron if isinstance(neuron, Neuron) else None


def _traced(config: RunnableConfig | None, neuron: Neuron | None, instruments: Instruments) -> RunnableConfig:
    """The config with names by which people find the run in a trace; of the models nothing, least of all their keys."""
    named: RunnableConfig = {**(config or {})}
    metadata: dict[str, Any] = {
        "subject": str(getattr(instruments.subject, "name", type(instruments.subject).__name__))
    }
    if neuron is not None:
        named.setdefault("run_name", f"neuron {neuron}")
        metadata |= {"layer": neuron.layer, "neuron": neuron.index, "sign": neuron.sign, "site": neuron.site}
    named["metadata"] = {**metadata, **named.get("metadata", {})}
    named["tags"] = ["neuronscope", *(named.get("tags") or [])]
    return named
