"""The loop that refines one mode: propose candidates, score them, keep what is better."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any, TypedDict
from uuid import uuid4

from langchain_core.messages import AIMessage, AnyMessage, ToolCall, ToolMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode
from langgraph.runtime import Runtime
from langgraph.types import Checkpointer

from neuronscope.config import ExplainConfig
from neuronscope.errors import NeuronScopeError
from neuronscope.graphs.tools import TOOLS, fail_in_words, refinement_failure, representative, score_explanations
from neuronscope.result import Attempt, Failure, Mode, PredictionError
from neuronscope.state import Instruments, RefinementState

Agent = Callable[..., Awaitable[Any]]
"""A node: `(state, runtime) -> partial state`."""
RefinementGraph = CompiledStateGraph[RefinementState, Instruments, Any, Any]


class RefinementOutput(TypedDict, total=False):
    """What leaves the loop: the refined mode, and what went wrong."""

    modes: list[Mode]
    failures: list[Failure]


class Propose:
    """Ask for the scores of the next candidates: first of the representative alone, then of what an agent proposes."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent

    async def __call__(self, state: RefinementState, runtime: Runtime[Instruments]) -> RefinementState:
        """Return the candidates, and the message with the tool call; an agent's own tool calls pass as they are.

        An agent that fails with an error of ours ends the loop; any other exception surfaces as a bug.
        """
        if not state.get("history"):
            return call_for_scores([representative(state["mode"])], [])
        failures = state.get("failures", [])
        try:
            proposed: RefinementState = await self.agent(state, runtime)
        except NeuronScopeError as error:
            return {"failures": [*failures, refinement_failure(error, state["mode"])]}
        messages = proposed.get("messages", [])
        if not _calls_tools(messages):
            proposed = {**proposed, **call_for_scores(proposed.get("candidates", []), messages)}
        return {**proposed, "failures": [*failures, *proposed.get("failures", [])]}


def _calls_tools(messages: list[AnyMessage]) -> bool:
    return bool(messages) and isinstance(messages[-1], AIMessage) and bool(messages[-1].tool_calls)


def call_for_scores(candidates: list[str], messages: Sequence[AnyMessage] = ()) -> RefinementState:
    """The update that has candidates scored: the message with the tool call, behind messages of an agent's own.

    A node between `propose` and `tools` that chooses among the candidates returns it with those that are left. Without
    any, `tools` answers with an error, and the round counts as an iteration that added nothing.
    """
    candidates = [stripped for text in candidates if (stripped := text.strip())]
    call = ToolCall(name=score_explanations.name, args={"explanations": candidates}, id=uuid4().hex)
    return {"candidates": candidates, "messages": [*messages, AIMessage(content="", tool_calls=[call])]}


async def after_propose(state: RefinementState) -> str:
    """Call the tools, or stop if the agent failed."""
    return "tools" if _calls_tools(state["messages"]) else END


async def assess(state: RefinementState, runtime: Runtime[Instruments]) -> RefinementState:
    """Read the scores, add the best candidate to the history and update the mode.

    A round whose tool call was bad (no candidates, say) adds nothing, but counts as an iteration.
    """
    answers = _answers(state["messages"])
    history = list(state.get("history", []))
    iteration = state.get("iteration", len(history))
    attempt = _best_attempt(answers, iteration)
    if attempt is not None:
        history.append(attempt)
    return {
        "history": history,
        "iteration": iteration + 1,
        "modes": [refined(state["mode"], history)],
        "failures": [*state.get("failures", []), *_failures(answers)],
    }


def _answers(messages: list[AnyMessage]) -> list[ToolMessage]:
    """The latest round's tool messages."""
    answers = takewhile(lambda message: isinstance(message, ToolMessage), reversed(messages))
    return [message for message in answers if isinstance(message, ToolMessage)][::-1]


def _failures(answers: list[ToolMessage]) -> list[Failure]:
    return [message.artifact for message in answers if isinstance(message.artifact, Failure)]


def _best_attempt(answers: list[ToolMessage], iteration: int) -> Attempt | None:
    """The best candidate that the tool messages report; the earlier one if scores are equal."""
    best: Attempt | None = None
    for message in answers:
        if message.name != score_explanations.name or message.status == "error":
            continue
        answer = json.loads(str(message.content))
        finished = [score for score in answer["scores"] if score["score"] is not None]
        winner = max(finished, key=lambda score: score["score"])
        if best is None or winner["score"] > best.val_score:
            errors = tuple(PredictionError(**error) for error in answer["errors"])
            best = Attempt(iteration, winner["explanation"], winner["score"], errors)
    return best


def refined(mode: Mode, history: list[Attempt]) -> Mode:
    """The mode with the best attempt of its history; the earliest of equals, so only a better one replaces it."""
    if not history:
        return mode
    best = max(history, key=lambda attempt: attempt.val_score)
    return replace(mode, explanation=best.explanation, val_score=best.val_score, history=history)


async def next_step(state: RefinementState, runtime: Runtime[Instruments]) -> str:
    """Go on, or stop after `max_iterations`, once the score has converged, or if a tool failed."""
    if _failures(_answers(state["messages"])):
        return END
    config = runtime.context.config
    iterations_done = state["iteration"] - 1  # the representative's round is none
    if iterations_done >= config.max_iterations or converged(state["history"], iterations_done, config):
        return END
    return "propose"


def converged(history: list[Attempt], iterations_done: int, config: ExplainConfig) -> bool:
    """Whether the best score has gained less than `min_improvement` in the last `patience` iterations."""
    if config.patience is None:
        return False
    reference, reached = -float("inf"), 0
    for attempt in history:
        if attempt.val_score > reference and attempt.val_score - reference >= config.min_improvement:
            reference, reached = attempt.val_score, attempt.iteration
    return iterations_done - reached >= config.patience


def build_refinement_graph(*, refinement: Agent | None = None, checkpointer: Checkpointer = None) -> RefinementGraph:
    """Build the loop that refines one mode.

    It takes `neuron`, `exemplars` and `mode` and returns `modes`, with the one refined mode, and `failures`. Whatever
    fails on the way (an LLM, the simulator: errors of ours) ends the loop with the best attempt so far; so one mode
    does not lose the others.

    Args:
        refinement: proposes candidates: `(state, runtime) -> {"candidates": [...]}`. None is `RefinementAgent()`.
        checkpointer: LangGraph's; as a subgraph it inherits the parent's.
    """
    if refinement is None:
        from neuronscope.agents import RefinementAgent

        refinement = RefinementAgent()

    graph = StateGraph(RefinementState, context_schema=Instruments, output_schema=RefinementOutput)
    graph.add_node("propose", Propose(refinement))  # candidates → tool call
    graph.add_node("tools", ToolNode(TOOLS, awrap_tool_call=fail_in_words))  # tool call → measurements
    graph.add_node("assess", assess)  # measurements → history
    graph.add_edge(START, "propose")
    graph.add_conditional_edges("propose", after_propose, ["tools", END])  # a failing agent ends the loop
    graph.add_edge("tools", "assess")
    graph.add_conditional_edges("assess", next_step, ["propose", END])  # five iterations, or converged
    return graph.compile(checkpointer=checkpointer, name="refine")
