"""The graph's tools for an agent outside it: the same two, called in the same way."""

from __future__ import annotations

from functools import cache
from typing import Any

from langchain_core.messages import AIMessage, ToolMessage
from langgraph.graph import END, START, StateGraph
from langgraph.prebuilt import ToolNode

from neuronscope.graphs.tools import TOOLS, errors_to_messages
from neuronscope.state import Instruments, RefinementState
from neuronscope.types import ExemplarIds, Neuron


async def call_tools(
    message: AIMessage, neuron: Neuron, exemplars: ExemplarIds, instruments: Instruments
) -> list[ToolMessage]:
    """Answer the tool calls of a model's message with `score_explanations` and `capture_activations`.

    Args:
        message: with the calls, each of which needs an id.
        neuron: the neuron.
        exemplars: which sequences explanations are scored on: the validation ones.
        instruments: the subject and the scorer.

    Returns:
        One message per call, in their order: `content` is for a model, `artifact` the same as objects. An error of
        ours is the content of a message with the status "error".
    """
    state: RefinementState = {"neuron": neuron, "exemplars": exemplars, "modes": [], "messages": [message]}
    ended = await _graph().ainvoke(state, context=instruments)
    return [each for each in ended["messages"] if isinstance(each, ToolMessage)]


@cache
def _graph() -> Any:
    graph = StateGraph(RefinementState, context_schema=Instruments)
    graph.add_node("tools", ToolNode(TOOLS, awrap_tool_call=errors_to_messages))
    graph.add_edge(START, "tools")
    graph.add_edge("tools", END)
    return graph.compile(name="tools")
