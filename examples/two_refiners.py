"""Two refiners that compete: both propose for each mode, and what scores best is kept, whoever wrote it.

python examples/two_refiners.py                         # statistics, and a rule that shortens
python examples/two_refiners.py openai:gpt-4o           # a chat model, and the same rule
"""

import asyncio
import re
import sys

from langgraph.runtime import Runtime

import neuronscope as ns
from neuronscope.agents import RefinementAgent
from neuronscope.graphs import Instruments, ProposalState, RefinementState, build_neuron_graph


async def shorten(state: ProposalState, runtime: Runtime[Instruments]) -> RefinementState:
    """Propose the sentence of now without one of the things that it quotes."""
    quotes = re.findall(r'"[^"]+"', state["mode"].explanation)
    shorter = [re.sub(rf",? ?{re.escape(quote)}", "", state["mode"].explanation, count=1) for quote in quotes[1:]]
    return {"proposals": {state["mode"].representative: shorter}}


class Competing:
    """Proposes what several refiners propose."""

    def __init__(self, *refiners):
        self.refiners = refiners

    async def __call__(self, state: ProposalState, runtime: Runtime[Instruments]) -> RefinementState:
        """Ask all of them at the same time."""
        answers = await asyncio.gather(*(refiner(state, runtime) for refiner in self.refiners))
        candidates = [text for answer in answers for texts in answer["proposals"].values() for text in texts]
        return {"proposals": {state["mode"].representative: list(dict.fromkeys(candidates))}}


if __name__ == "__main__":
    with ns.Setup(subject="smollm2-135m", llm=sys.argv[1] if sys.argv[1:] else "offline").open(layers=[9]) as lab:
        neuron, graph = ns.Neuron(9, 740), build_neuron_graph(refinement=Competing(RefinementAgent(), shorten))
        print(asyncio.run(graph.ainvoke({"neuron": neuron}, context=lab.instruments(neuron)))["modes"])
