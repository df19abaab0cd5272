"""Drop a node: a graph without decomposition, whose hypotheses go straight to the clustering.

This is the paper's question of what the Decomposition Agent is for. A hypothesis speaks of all that a neuron does;
clusters of whole hypotheses are broad, and a neuron with several meanings gets few of them.

    python examples/no_decomposition.py                     # no language model
    python examples/no_decomposition.py openai:gpt-4o       # any chat model
"""

from __future__ import annotations

import asyncio
import sys

from langgraph.runtime import Runtime

import neuronscope as ns
from neuronscope.agents import ClusteringAgent
from neuronscope.graphs import Instruments, NeuronState, build_neuron_graph, neuron_graph_builder


class ClusterHypotheses:
    """The clustering, given hypotheses where it expects atoms; `atoms` stays out of the state."""

    def __init__(self, clustering=None):
        self.clustering = clustering or ClusteringAgent()

    async def __call__(self, state: NeuronState, runtime: Runtime[Instruments]) -> NeuronState:
        """Cluster the hypotheses."""
        return await self.clustering({**state, "atoms": state["hypotheses"]}, runtime)


def graph_without_decomposition(clustering=None, **agents):
    builder = neuron_graph_builder(clustering=ClusterHypotheses(clustering), **agents)
    for name in [name for name in builder.nodes if name.endswith("decomposition")]:  # the node, and its error handler
        del builder.nodes[name]
    builder.edges -= {("hypothesis", "decomposition"), ("decomposition", "clustering")}
    builder.add_edge("hypothesis", "clustering")
    return builder.compile(name="neuron")


async def compare(neuron: ns.Neuron, lab: ns.Session) -> None:
    for name, graph in {"without decomposition": graph_without_decomposition(), "whole": build_neuron_graph()}.items():
        state = await graph.ainvoke({"neuron": neuron}, context=lab.instruments(neuron))
        print(f"The graph {name}: {state['explanation']}", *state["modes"], sep="\n- ")


if __name__ == "__main__":
    with ns.Setup(subject="smollm2-135m", llm=sys.argv[1] if sys.argv[1:] else "offline").open(layers=[9]) as lab:
        asyncio.run(compare(ns.Neuron(9, 740), lab))
