"""Several neurons in one thread of a checkpointer: each begins afresh, and none inherits what another has left."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NotRequired, Required, TypeVar, get_args, get_origin

from langgraph.channels import BinaryOperatorAggregate, LastValue
from langgraph.constants import START
from langgraph.errors import EmptyChannelError
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Overwrite

Graph = TypeVar("Graph", bound=CompiledStateGraph[Any, Any, Any, Any])

_EMPTY = (list, dict, set, tuple, int, float, str, bool)
"""Types of state that begin empty; anything else begins as None."""


def beginning_afresh(graph: Graph) -> Graph:
    """The same graph, in which a new input that names a neuron clears what an earlier one has left in its thread.

    `build_neuron_graph` and `build_refinement_graph` return their graphs like this. For a graph of your own, over
    `NeuronState`, `RefinementState` or a state that extends one of them:
    `graph = beginning_afresh(builder.compile(checkpointer=...))`. Keys that the input itself has are kept. A run that
    goes on (input None, or a command) has no new input, and clears nothing.
    """
    graph.nodes[START] = graph.nodes[START].copy({"mapper": partial(begun_afresh, graph.builder.channels)})
    return graph


def begun_afresh(channels: Mapping[str, Any], given: Any) -> Any:
    """An input that names a neuron, with an empty value for each key of the state that it does not have.

    Args:
        channels: the state's, by key.
        given: the input.
    """
    if not isinstance(given, Mapping) or given.get("neuron") is None:
        return given
    return {**given, **{key: _begun(channel, given, key) for key, channel in channels.items() if _is_left(channel)}}


def _is_left(channel: Any) -> bool:
    """Whether a channel keeps its value from one run to the next."""
    return isinstance(channel, (BinaryOperatorAggregate, LastValue))


def _begun(channel: Any, given: Mapping[str, Any], key: str) -> Any:
    """What a key of the state begins with: where it has a reducer, that of the input's value and nothing before it."""
    if not isinstance(channel, BinaryOperatorAggregate):
        return given[key] if key in given else _empty(channel.typ)
    fresh: BinaryOperatorAggregate[Any] = BinaryOperatorAggregate(channel.typ, channel.operator)
    if key in given:
        fresh.update([given[key]])
    try:
        return Overwrite(fresh.get())
    except EmptyChannelError:
        return Overwrite(None)


def _empty(kind: Any) -> Any:
    while get_origin(kind) in (Required, NotRequired):
        (kind,) = get_args(kind)
    kind = get_origin(kind) or kind
    return kind() if kind in _EMPTY else None
