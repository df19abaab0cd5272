"""Insert a node: a critic that vetoes vague candidates before anything is measured.

The refinement loop is assembled by hand from the nodes that `neuronscope.graphs` exports, as `build_refinement_graph`
does it, with one more node between `propose` and `tools`. The whole graph takes the loop as it takes an agent.

    python examples/critic.py                                               # no language model: the critic is a rule
    python examples/critic.py --llm openai:gpt-4o                           # any chat model: the critic asks it, too
"""

from __future__ import annotations

import asyncio
import re
from operator import or_
from typing import Annotated, Any

import typer
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langgraph.graph import END, START, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.runtime import Runtime
from rich.console import Console

import neuronscope as ns
from neuronscope.agents import RefinementAgent
from neuronscope.display.terminal import TerminalReport
from neuronscope.display.words import visible
from neuronscope.graphs import (
    TOOLS,
    Agent,
    Instruments,
    Propose,
    RefinementGraph,
    RefinementOutput,
    RefinementState,
    TryOut,
    after_propose,
    after_try_out,
    assess,
    build_neuron_graph,
    call_for_scores,
    fail_in_words,
    next_step,
    score_explanations,
)
from neuronscope.llm import ask
from neuronscope.llm.answers import read_text
from neuronscope.offline.english import read
from neuronscope.results import Failure

MOST_CONDITIONS = 16
"""An explanation that lists more than this commits itself to nothing."""
HEDGES = re.compile(r"\b(?:various|several|certain|different|general|some|many|etc|and so on|or similar)\b", re.I)
PROMPT = "Vague: could mean almost any text. Specific: names words or one topic. Answer with that word, and why."
EXAMPLES = [
    SystemMessage(PROMPT),
    HumanMessage("This neuron activates on names of months and days."),
    AIMessage("specific: anybody can tell such a name"),
    HumanMessage("This neuron activates on words that matter in their context."),
    AIMessage("vague: every word matters in some context"),
]


# The state: what the loop has, and what the critic adds to it


class CriticState(RefinementState, total=False):
    """The loop's state, with the vetoes of all rounds: candidate and reason."""

    vetoes: Annotated[dict[str, str], or_]


class CriticOutput(RefinementOutput, total=False):
    """What leaves the loop and shows in streams: the vetoes, too."""

    vetoes: dict[str, str]


# The node


async def critic(state: CriticState, runtime: Runtime[Instruments]) -> CriticState | None:
    """Read which scores are called for, and call for those of candidates that say something."""
    calls = [call for call in state["messages"][-1].tool_calls if call["name"] == score_explanations.name]
    if not calls or not state.get("history"):  # the first call is for the representative, to have a beginning
        return None
    candidates = calls[0]["args"]["explanations"]
    llm, usage = runtime.context.llm_for("refinement"), runtime.context.usage
    try:
        reasons = await asyncio.gather(*(objection(candidate, llm, usage) for candidate in candidates))
    except ns.LLMError as error:  # without its critic the loop goes on, and the result says so
        return {"failures": [*state.get("failures", []), Failure("critic", str(error))]}
    vetoes = {candidate: reason for candidate, reason in zip(candidates, reasons, strict=True) if reason}
    left = [candidate for candidate in candidates if candidate not in vetoes]
    return {**call_for_scores(left), "vetoes": vetoes} if vetoes else None


async def objection(candidate: str, llm: BaseChatModel | str, usage: Any) -> str:
    """Why a candidate is vague; empty if it is not. The rule costs nothing, so it comes first."""
    fault = rule(candidate)
    if fault or isinstance(llm, str):  # "offline": there is nobody to ask
        return fault
    answer = read_text(await ask(llm, [*EXAMPLES, HumanMessage(candidate)], "critic", usage=usage), "critic")
    return answer if answer.casefold().startswith("vague") else ""


def rule(candidate: str) -> str:
    """Why a candidate is vague, from its words alone; what it quotes is no hedge."""
    if hedge := HEDGES.search(re.sub(r'"[^"]*"', "", candidate)):
        return f'says "{hedge[0]}"'
    listed = len(read(candidate).conditions)
    return f"lists {listed} conditions" if listed > MOST_CONDITIONS else ""


# The graph


def refinement_with_critic(agent: Agent | None = None) -> RefinementGraph:
    """The refinement loop with the critic between `propose` and `tools`."""
    graph = StateGraph(CriticState, context_schema=Instruments, output_schema=CriticOutput)
    agent = agent or RefinementAgent()
    graph.add_node("propose", Propose(agent))  # candidates → tool call
    graph.add_node("critic", critic)  # tool call → tool call with fewer candidates
    graph.add_node("try_out", TryOut(agent))  # texts of the agent's own → tool call, with `config.experiments`
    graph.add_node("tools", ToolNode(TOOLS, awrap_tool_call=fail_in_words))  # tool call → measurements
    graph.add_node("assess", assess)  # measurements → history
    graph.add_edge(START, "propose")
    graph.add_conditional_edges("propose", after_propose, {"tools": "critic", END: END})  # what led to the tools
    graph.add_edge("critic", "tools")
    graph.add_conditional_edges("try_out", after_try_out, ["tools", "propose", END])
    graph.add_edge("tools", "assess")
    graph.add_conditional_edges("assess", next_step, ["try_out", "propose", END])  # five iterations, or converged
    return graph.compile(name="refine")


async def explain(neuron: ns.Neuron, instruments: Instruments) -> tuple[ns.NeuronExplanation, dict[str, str]]:
    """Run the whole graph with this loop, and watch the critic."""
    graph = build_neuron_graph(refinement=refinement_with_critic())
    vetoes: dict[str, str] = {}
    stream = graph.astream({"neuron": neuron}, context=instruments, stream_mode="updates", subgraphs=True)
    async for _, update in stream:
        if update.get("critic"):
            vetoes |= update["critic"].get("vetoes", {})
        if "conclude" in update:
            explanation = update["conclude"]["explanation"]
    return explanation, vetoes


def main(
    subject: str = "smollm2-135m",
    layer: int = 9,
    neuron: int = 740,
    corpus: str = "builtin",
    n_tokens: int = 150_000,
    llm: str = "offline",
    base_url: str | None = None,
) -> None:
    """Explain one neuron, and print what the critic vetoed and the result."""
    unit, config = ns.Neuron(layer, neuron), ns.ExplainConfig(n_tokens=n_tokens)
    instruments = ns.make_instruments(subject, unit, corpus=corpus, llm=llm, base_url=base_url, config=config)
    explanation, vetoes = asyncio.run(explain(unit, instruments))
    print(f"{len(vetoes)} candidates were vetoed:")
    for candidate, reason in vetoes.items():
        print(f"- {visible(reason)}: {visible(candidate)[:80]}…")
    Console().print(TerminalReport(explanation))


if __name__ == "__main__":
    typer.run(main)
