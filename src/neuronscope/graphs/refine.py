"""The loop that refines one mode: try it out, propose candidates, score them, keep what is better."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
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
from neuronscope.graphs.modes import refined, representative
from neuronscope.graphs.probe import TryOut, calls_tools, is_due, only_tries, read_experiments
from neuronscope.graphs.stream import announced
from neuronscope.graphs.threads import beginning_afresh
from neuronscope.graphs.tools import TOOLS, fail_in_words, refinement_failure, score_explanations
from neuronscope.results import Attempt, Failure, Mode, PredictionError, best_attempt, sortable
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
        if not calls_tools(messages):
            proposed = {**proposed, **call_for_scores(proposed.get("candidates", []), messages)}
        return {**proposed, "failures": [*failures, *proposed.get("failures", [])]}


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
    return "tools" if calls_tools(state["messages"]) else END


async def assess(state: RefinementState, runtime: Runtime[Instruments]) -> RefinementState:
    """Read the measurements, add the best candidate to the history and update the mode.

    A round whose tool call was bad (no candidates, say) adds nothing, but counts as an iteration. An iteration's first
    experiment does not count.
    """
    answers = _answers(state["messages"])
    history = list(state.get("history", []))
    iteration = state.get("iteration") or len(history)
    attempt = _best_attempt(answers, iteration)
    if attempt is not None:
        history.append(attempt)
    experiments = [*state.get("experiments", []), *read_experiments(state, answers)]
    return {
        "history": history,
        "experiments": experiments,
        "iteration": iteration if only_tries(state, answers) else iteration + 1,
        "modes": [refined(state["mode"], history, experiments)],
        "failures": [*state.get("failures", []), *_failures(answers)],
    }


def _answers(messages: list[AnyMessage]) -> list[ToolMessage]:
    """The latest round's tool messages."""
    answers = takewhile(lambda message: isinstance(message, ToolMessage), reversed(messages))
    return [message for message in answers if isinstance(message, ToolMessage)][::-1]


def _failures(answers: list[ToolMessage], *tools: str) -> list[Failure]:
    """What failed in some tools, or in any."""
    named = [message for message in answers if not tools or message.name in tools]
    return [message.artifact for message in named if isinstance(message.artifact, Failure)]


def _best_attempt(answers: list[ToolMessage], iteration: int) -> Attempt | None:
    """The best candidate that the tool messages report; the earlier one if scores are equal."""
    best: Attempt | None = None
    for message in answers:
        if message.name != score_explanations.name or message.status == "error":
            continue
        answer = json.loads(str(message.content))
        finished = [score for score in answer["scores"] if score["constant"] is not None]  # the others were dropped
        winner = max(finished, key=lambda score: sortable(score["score"]))
        if best is None or sortable(winner["score"]) > sortable(best.val_score):
            errors = tuple(PredictionError(**error) for error in answer["errors"])
            best = Attempt(iteration, winner["explanation"], winner["score"], errors)
    return best


async def next_step(state: RefinementState, runtime: Runtime[Instruments]) -> str:
    """Try the best attempt out if that is due, else go on as `after_try_out`; stop if scoring failed."""
    if _failures(_answers(state["messages"]), score_explanations.name):
        return END
    config = runtime.context.config
    return "try_out" if is_due(state, config, done=finished(state, config)) else _go_on(state, config)


async def after_try_out(state: RefinementState, runtime: Runtime[Instruments]) -> str:
    """Call the tools; without texts go on, or stop after `max_iterations` or once the score has converged."""
    return "tools" if calls_tools(state["messages"]) else _go_on(state, runtime.context.config)


def _go_on(state: RefinementState, config: ExplainConfig) -> str:
    return END if finished(state, config) else "propose"


def finished(state: RefinementState, config: ExplainConfig) -> bool:
    """Whether the iterations are over: there were `max_iterations`, or the score has converged, or there is none.

    Where nothing can be measured on validation text, nothing tells a better candidate from a worse one.
    """
    history = state["history"]
    iterations_done = state["iteration"] - 1  # the representative's round is none
    if iterations_done >= config.max_iterations or converged(history, iterations_done, config):
        return True
    return bool(history) and best_attempt(history).val_score is None


def converged(history: list[Attempt], iterations_done: int, config: ExplainConfig) -> bool:
    """Whether the best score has gained less than `min_improvement` in the last `patience` iterations."""
    if config.patience is None:
        return False
    reference, reached = -float("inf"), 0
    for attempt in history:
        score = sortable(attempt.val_score)
        if score > reference and score - reference >= config.min_improvement:
            reference, reached = score, attempt.iteration
    return iterations_done - reached >= config.patience


def build_refinement_graph(*, refinement: Agent | None = None, checkpointer: Checkpointer = None) -> RefinementGraph:
    """Build the loop that refines one mode.

    It takes `neuron`, `exemplars` and `mode` and returns `modes`, with the one refined mode, and `failures`. Whatever
    fails on the way (an LLM, the simulator: errors of ours) ends the loop with the best attempt so far; so one mode
    does not lose the others.

    Args:
        refinement: proposes candidates: `(state, runtime) -> {"candidates": [...]}`. None is `RefinementAgent()`. With
            `config.experiments`, its method `experiment(state, runtime)`, if it has one, is asked for texts to try out.
        checkpointer: LangGraph's; as a subgraph it inherits the parent's. A new input begins afresh, also in a thread
            that has had one before.
    """
    if refinement is None:
        from neuronscope.agents import RefinementAgent

        refinement = RefinementAgent()

    graph = StateGraph(RefinementState, context_schema=Instruments, output_schema=RefinementOutput)
    graph.add_node("propose", announced("propose", Propose(refinement)))  # candidates → tool call
    graph.add_node("try_out", announced("try_out", TryOut(refinement)))  # texts of the agent's own → tool call
    tools = ToolNode(TOOLS, awrap_tool_call=fail_in_words)
    graph.add_node("tools", announced("tools", tools))  # tool call → measurements
    graph.add_node("assess", announced("assess", assess))  # measurements → history
    graph.add_edge(START, "propose")
    graph.add_conditional_edges("propose", after_propose, ["tools", END])  # a failing agent ends the loop
    graph.add_conditional_edges("try_out", after_try_out, ["tools", "propose", END])  # no texts: on without them
    graph.add_edge("tools", "assess")
    graph.add_conditional_edges("assess", next_step, ["try_out", "propose", END])  # five iterations, or converged
    return beginning_afresh(graph.compile(checkpointer=checkpointer, name="refine"))
