"""The part of the refinement loop that tries explanations out: texts of the agent's own, measured on the subject."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langgraph.runtime import Runtime

from neuronscope.config import ExplainConfig
from neuronscope.errors import NeuronScopeError
from neuronscope.graphs.modes import generation_score
from neuronscope.graphs.tools import capture_activations, refinement_failure
from neuronscope.metrics.correlation import SCALE, on_scale
from neuronscope.metrics.stimuli import FIRING_SHARE
from neuronscope.results import Experiment, Trial, best_attempt
from neuronscope.state import Instruments, RefinementState


class TryOut:
    """Ask an agent for texts that put the best attempt to the test, if it has a method `experiment`.

    An agent that fails with an error of ours costs the experiment, and not the mode: the loop goes on without texts.
    """

    def __init__(self, agent: Any) -> None:
        self.agent = agent

    async def __call__(self, state: RefinementState, runtime: Runtime[Instruments]) -> RefinementState:
        """Return the message with the tool call."""
        if not hasattr(self.agent, "experiment"):
            return {}
        try:
            written: RefinementState = await self.agent.experiment(state, runtime)
        except NeuronScopeError as error:
            return {"failures": [*state.get("failures", []), refinement_failure(error, state["mode"])]}
        return written


def calls_tools(messages: Sequence[AnyMessage]) -> bool:
    """Whether the last of some messages calls a tool."""
    return bool(messages) and isinstance(messages[-1], AIMessage) and bool(messages[-1].tool_calls)


def is_due(state: RefinementState, config: ExplainConfig, *, done: bool) -> bool:
    """Whether to try something out now: once before each iteration, and at the end what nothing was written from yet.

    Args:
        state: the loop's.
        config: the settings.
        done: whether the iterations are over.
    """
    history, experiments = state["history"], state.get("experiments", [])
    if not config.experiments or not history or _tried(experiments, state["iteration"]):
        return False
    return not done or generation_score(best_attempt(history).explanation, experiments) is None


def only_tries(state: RefinementState, answers: Sequence[ToolMessage]) -> bool:
    """Whether a round was the first experiment of its iteration and nothing else: such a round counts as none.

    A second one does count, so an agent that does nothing but try out texts comes to the end of its iterations, too.
    """
    names = {message.name for message in answers}
    return names == {capture_activations.name} and not _tried(state.get("experiments", []), state["iteration"])


def _tried(experiments: Sequence[Experiment], iteration: int) -> bool:
    return any(experiment.iteration == iteration for experiment in experiments)


def read_experiments(state: RefinementState, answers: Sequence[ToolMessage]) -> list[Experiment]:
    """What the latest round's answers of `capture_activations` say; one that failed says why."""
    calls = {call["id"]: call["args"] for message in state["messages"] for call in getattr(message, "tool_calls", ())}
    history, iteration = state.get("history", []), state.get("iteration", 0)
    explanation = best_attempt(history).explanation if history else state["mode"].explanation
    experiments = []
    for message in answers:
        if message.name != capture_activations.name:
            continue
        if message.status == "error":
            experiments.append(Experiment(iteration, explanation, error=str(message.content)))
            continue
        measured = json.loads(str(message.content))
        n_firing = len(calls[message.tool_call_id]["texts"])
        maximum = state["exemplars"].maximum
        trials = [_trial(text, number < n_firing, maximum) for number, text in enumerate(measured)]
        experiments.append(Experiment(iteration, explanation, trials))
    return experiments


def _trial(measured: dict[str, Any], expected: bool, maximum: float) -> Trial:
    tokens, levels = measured["tokens"], on_scale(np.array(measured["activations"]), maximum)
    peak = int(np.argmax(levels)) if len(levels) else 0
    level = float(levels.max(initial=0.0))
    return Trial(
        text="".join(tokens),
        expected=expected,
        fired=level > FIRING_SHARE * SCALE,
        token=tokens[peak] if level > 0 else "",
        activation=round(level, 2),
    )
