"""The part of refinement that tries explanations out: texts of the agent's own, measured on the subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.runtime import Runtime

from neuronscope.graphs.tools import artifacts, capture_activations
from neuronscope.metrics.correlation import SCALE, on_scale
from neuronscope.metrics.stimuli import FIRING_SHARE
from neuronscope.results import Experiment, Mode, TokenActivations, Trial
from neuronscope.state import Instruments, ProposalState, RefinementState


class Probe:
    """Ask an agent for texts that put a mode's explanation to the test, if it has a method `experiment`."""

    def __init__(self, agent: Any) -> None:
        self.agent = agent

    async def __call__(self, state: ProposalState, runtime: Runtime[Instruments]) -> RefinementState:
        """Return the message with the tool call, under the mode's name."""
        if not hasattr(self.agent, "experiment"):
            return {"kind": "texts"}
        written: RefinementState = await self.agent.experiment(state, runtime)
        messages = [named(message, state["mode"]) for message in written.get("messages", [])]
        return {**written, "messages": messages, "kind": "texts"}


def named(message: Any, mode: Mode) -> Any:
    """A message of a mode's branch; where branches meet, its name tells whose it is."""
    return message.model_copy(update={"name": mode.representative}) if isinstance(message, AIMessage) else message


def read_experiments(state: RefinementState, answers: Sequence[ToolMessage]) -> dict[str, list[Experiment]]:
    """What the latest round's answers of `capture_activations` say, by the representative of the mode that asked."""
    asked = {
        call["id"]: (message.name, call["args"])
        for message in state["messages"]
        if isinstance(message, AIMessage)
        for call in message.tool_calls
    }
    modes = {mode.representative: mode for mode in state["modes"]}
    found: dict[str, list[Experiment]] = {}
    for message in answers:
        name, arguments = asked.get(message.tool_call_id, (None, {}))
        mode = modes.get(name or "", state["modes"][0] if len(modes) == 1 else None)
        if message.name == capture_activations.name and mode is not None:
            found.setdefault(mode.representative, []).append(_experiment(message, mode, arguments, state))
    return found


def _experiment(message: ToolMessage, mode: Mode, arguments: Mapping[str, Any], state: RefinementState) -> Experiment:
    iteration = state.get("iteration", 0)
    if message.status == "error":
        return Experiment(iteration, mode.explanation, error=str(message.content))
    (measured,) = artifacts([message], capture_activations.name, list[TokenActivations])
    n_firing, maximum = len(arguments["texts"]), state["exemplars"].maximum
    trials = [_trial(text, number < n_firing, maximum) for number, text in enumerate(measured)]
    return Experiment(iteration, mode.explanation, trials)


def _trial(measured: TokenActivations, expected: bool, maximum: float) -> Trial:
    levels = on_scale(np.array(measured.activations), maximum)
    peak = int(np.argmax(levels)) if len(levels) else 0
    level = float(levels.max(initial=0.0))
    return Trial(
        text="".join(measured.tokens),
        expected=expected,
        fired=level > FIRING_SHARE * SCALE,
        token=measured.tokens[peak] if level > 0 else "",
        activation=round(level, 2),
    )
