"""A run of a graph as a stream of progress events, read off LangGraph's own task events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Durability

from neuronscope.events import ProgressEvent
from neuronscope.graphs.threads import begun_afresh
from neuronscope.results import Mode, NeuronExplanation
from neuronscope.state import Instruments, NeuronState
from neuronscope.types import Neuron


class TaskEvents:
    """Turns the task events of one run, LangGraph's `stream_mode="tasks"`, into progress events.

    Nodes know nothing of it, so it tells of a user's own nodes as well.

    Args:
        neuron: whose run it is.
    """

    def __init__(self, neuron: Neuron | None) -> None:
        self._neuron = neuron
        self._under_way: dict[str, Mapping[str, Any]] = {}

    def read(self, task: Mapping[str, Any]) -> Iterator[ProgressEvent]:
        """The events of one task that starts (it has an `input`) or has ended (it has a `result`)."""
        name = str(task["name"])
        if "input" in task:
            state = task["input"] if isinstance(task["input"], Mapping) else {}
            self._neuron = self._neuron or state.get("neuron")
            self._under_way[task["id"]] = state
            if not name.startswith("__"):
                yield from self._started(name, state)
            return
        state = self._under_way.pop(task["id"], {})
        if not name.startswith("__") and task.get("error") is None and not task.get("interrupts"):
            yield from self._finished(name, state, task.get("result") or {})

    def _started(self, name: str, state: Mapping[str, Any]) -> Iterator[ProgressEvent]:
        if self._neuron is None:
            return
        if isinstance(mode := state.get("mode"), Mode):
            yield _of_mode(self._neuron, name, "started", mode, state)
        else:
            yield ProgressEvent(self._neuron, name, "started")

    def _finished(self, name: str, state: Mapping[str, Any], result: Mapping[str, Any]) -> Iterator[ProgressEvent]:
        if self._neuron is None:
            return
        explanation, modes = result.get("explanation"), result.get("modes")
        if isinstance(mode := state.get("mode"), Mode):
            yield _of_mode(self._neuron, name, "finished", mode, state)
        elif isinstance(explanation, NeuronExplanation):
            n_modes = explanation.number
            yield ProgressEvent(self._neuron, name, "finished", score=explanation.score, n_modes=n_modes)
        elif isinstance(modes, list) and "iteration" in state:  # within refinement
            for each in modes:
                yield _of_mode(self._neuron, name, "finished", each, {**state, "siblings": modes[1:]})
        else:
            n_known = len(modes) if isinstance(modes, list) else None
            yield ProgressEvent(self._neuron, name, "finished", n_modes=n_known)


def _of_mode(neuron: Neuron, node: str, phase: Any, mode: Mode, state: Mapping[str, Any]) -> ProgressEvent:
    return ProgressEvent(
        neuron,
        node,
        phase,
        mode=mode.representative,
        iteration=state.get("iteration"),
        score=mode.val_score,
        explanation=mode.explanation,
        n_modes=len(state.get("siblings", ())) + 1,
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
        stream_mode=["tasks", "values"],
        subgraphs=True,
        durability=durability,
    )
    explanation: Any = None
    progress = TaskEvents(neuron)
    async with aclosing(cast(AsyncGenerator[tuple[tuple[str, ...], str, Any], None], events)) as stream:
        async for namespace, kind, chunk in stream:
            if kind == "tasks":
                for event in progress.read(chunk):
                    yield event
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
