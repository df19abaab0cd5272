"""A key of one's own in the state: remarks that any node adds to, from the first to the last.

python examples/own_key.py
"""

import asyncio
from operator import add
from typing import Annotated

from langgraph.runtime import Runtime

import neuronscope as ns
from neuronscope.agents import HypothesisAgent
from neuronscope.graphs import Instruments, NeuronState, conclude, neuron_graph_builder


class RemarkState(NeuronState, total=False):
    """The graph's state, with remarks."""

    remarks: Annotated[list[str], add]


class Remarking:
    """The same node, which also remarks on what it has written."""

    def __init__(self, node, key):
        self.node, self.key = node, key

    async def __call__(self, state: RemarkState, runtime: Runtime[Instruments]) -> RemarkState:
        """Run the node."""
        update = await self.node(state, runtime)
        return {**update, "remarks": [f"{self.key}: {str(update[self.key])[:60]}"]}


def graph_with_remarks(hypothesis=None, **agents):
    hypothesis = Remarking(hypothesis or HypothesisAgent(), "hypotheses")
    builder = neuron_graph_builder(
        state=RemarkState, hypothesis=hypothesis, conclude=Remarking(conclude, "explanation"), **agents
    )
    return builder.compile(name="neuron")


if __name__ == "__main__":
    with ns.Setup(subject="smollm2-135m", llm="offline").open(layers=[9]) as lab:
        neuron = ns.Neuron(9, 740)
        print(asyncio.run(graph_with_remarks().ainvoke({"neuron": neuron}, context=lab.instruments(neuron)))["remarks"])
