"""Drop a node: a graph without decomposition, whose drafts go straight to the clustering.

This is the paper's question of what the Decomposition Agent is for. A draft speaks of all that a neuron does; clusters
of whole drafts are broad, and a neuron with several meanings gets few of them. The script explains a neuron both ways.

    python examples/no_decomposition.py                                     # no language model
    python examples/no_decomposition.py --llm openai:gpt-4o                 # any chat model
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import typer
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from rich.console import Console

import neuronscope as ns
from neuronscope.agents import ClusteringAgent, HypothesisAgent
from neuronscope.display.terminal import TerminalReport
from neuronscope.graphs import (
    Agent,
    Guarded,
    Instruments,
    NeuronGraph,
    NeuronState,
    RefinementState,
    after_hypothesis,
    after_observe,
    build_neuron_graph,
    build_refinement_graph,
    conclude,
    fan_out,
    observe,
)
from neuronscope.session import make_usage_tracker


class ClusterDrafts:
    """The clustering, given drafts where it expects atoms; `atoms` stays out of the state."""

    def __init__(self, clustering: Agent) -> None:
        self.clustering = clustering

    async def __call__(self, state: NeuronState, runtime: Runtime[Instruments]) -> NeuronState:
        """Cluster the drafts."""
        return await self.clustering({**state, "atoms": state["hypotheses"]}, runtime)


def graph_without_decomposition(
    hypothesis: Agent | None = None, clustering: Agent | None = None, refinement: Agent | None = None
) -> NeuronGraph:
    """The graph of `build_neuron_graph`, less one node."""
    graph = StateGraph(NeuronState, context_schema=Instruments)
    graph.add_node("observe", observe)  # neuron → exemplars
    graph.add_node("hypothesis", Guarded("hypothesis", hypothesis or HypothesisAgent()))  # train exemplars → drafts
    graph.add_node("clustering", Guarded("clustering", ClusterDrafts(clustering or ClusteringAgent())))
    graph.add_node("refine", build_refinement_graph(refinement=refinement), input_schema=RefinementState)
    graph.add_node("conclude", conclude)  # modes → explanation
    graph.add_edge(START, "observe")
    graph.add_conditional_edges("observe", after_observe, ["hypothesis", "conclude"])
    graph.add_conditional_edges(  # the edge that led to decomposition leads past it
        "hypothesis", after_hypothesis, {"decomposition": "clustering", "conclude": "conclude"}
    )
    graph.add_conditional_edges("clustering", fan_out, ["refine", "conclude"])  # one refinement per mode
    graph.add_edge("refine", "conclude")
    graph.add_edge("conclude", END)
    return graph.compile(name="neuron")


async def explain(graph: NeuronGraph, neuron: ns.Neuron, instruments: Instruments) -> ns.NeuronExplanation:
    """Run a graph on one neuron."""
    state = await graph.ainvoke({"neuron": neuron}, context=instruments)
    return state["explanation"]


def main(
    subject: str = "smollm2-135m",
    layer: int = 9,
    neuron: int = 740,
    corpus: str = "builtin",
    n_tokens: int = 150_000,
    llm: str = "offline",
    base_url: str | None = None,
) -> None:
    """Explain one neuron with and without decomposition, and print both results."""
    unit, config = ns.Neuron(layer, neuron), ns.ExplainConfig(n_tokens=n_tokens)
    instruments = ns.make_instruments(subject, unit, corpus=corpus, llm=llm, base_url=base_url, config=config)
    for name, graph in {"without decomposition": graph_without_decomposition(), "whole": build_neuron_graph()}.items():
        counted = replace(instruments, usage=make_usage_tracker(config))  # each run's own cost
        explanation = asyncio.run(explain(graph, unit, counted))
        print(f"The graph {name}: {len(explanation.atoms)} atoms, {explanation.number} modes")
        Console().print(TerminalReport(explanation))


if __name__ == "__main__":
    typer.run(main)
