"""The part of refinement that tries explanations out: texts of the agent's own, measured on the subject."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from langchain_core.messages import AIMessage, ToolMessage
from langgraph.runtime import Runtime

from neuronscope.graphs.tools import artifacts, capture_activations
from neuronscope.results import Mode, Probe, ProbeText
from neuronscope.state import Instruments, ProposalState, RefinementState


class Prober:
    """Ask an agent for texts that put a mode's explanation to the test, if it has a method `probe`."""

    def __init__(self, agent: Any) -> None:
        self.agent = agent

    async def __call__(self, state: ProposalState, runtime: Runtime[Instruments]) -> RefinementState:
        """Return the message with the tool call, under the mode's name."""
        if not hasattr(self.agent, "probe"):
            return {"phase": "probes"}
        written: RefinementState = await self.agent.probe(state, runtime)
        messages = [named(message, state["mode"]) for message in written.get("messages", [])]
        return {**written, "messages": messages, "phase": "probes"}


def named(message: Any, mode: Mode) -> Any:
    """A message of a mode's branch, as it is but for two names that tell whose it is where branches meet.

    Its own name is the mode's, and its tool calls get ids that no other has: those of two requests may be the same.
    """
    if not isinstance(message, AIMessage):
        return message
    calls = [{**call, "id": uuid4().hex} for call in message.tool_calls]
    return message.model_copy(update={"name": mode.representative, "tool_calls": calls})


def read_probes(state: RefinementState, answers: Sequence[ToolMessage]) -> dict[str, list[Probe]]:
    """What the latest round's answers of `capture_activations` say, by the representative of the mode that asked."""
    asked = {
        call["id"]: message.name
        for message in state["messages"]
        if isinstance(message, AIMessage)
        for call in message.tool_calls
    }
    modes = {mode.representative: mode for mode in state["modes"]}
    found: dict[str, list[Probe]] = {}
    for message in answers:
        name = asked.get(message.tool_call_id)
        mode = modes.get(name or "", state["modes"][0] if len(modes) == 1 else None)
        if message.name == capture_activations.name and mode is not None:
            found.setdefault(mode.representative, []).append(_probe(message, mode, state.get("iteration", 0)))
    return found


def _probe(message: ToolMessage, mode: Mode, iteration: int) -> Probe:
    if message.status == "error":
        return Probe(iteration, mode.explanation, error=str(message.content))
    (texts,) = artifacts([message], capture_activations.name, list[ProbeText])
    return Probe(iteration, mode.explanation, texts)
