"""Insert a node: a critic that vetoes vague candidates before anything is measured.

python examples/critic.py openai:gpt-4o       # any chat model; without one the critic is a rule
"""

import asyncio
import sys

from langchain_core.messages import HumanMessage

import neuronscope as ns
from neuronscope.graphs import build_neuron_graph, refinement_graph_builder
from neuronscope.llm import ask

PROMPT = "Does this sentence about a neuron say which words it means, or could it mean any? Answer specific or vague.\n"


async def critic(state, runtime):
    """Keep the candidates that the model finds specific; without a model, those that quote something."""

    async def passes(candidate):
        llm, usage = runtime.context.llm_for("refinement"), runtime.context.usage
        if llm == "offline":
            return '"' in candidate
        return "vague" not in (await ask(llm, [HumanMessage(PROMPT + candidate)], "critic", usage=usage)).text.lower()

    return {"proposals": {mode: [one for one in own if await passes(one)] for mode, own in state["proposals"].items()}}


def graph_with_critic(refinement=None, **agents):
    loop = refinement_graph_builder(refinement=refinement).add_node("critic", critic)
    loop.edges.remove(("propose", "tools"))
    loop.add_edge("propose", "critic").add_edge("critic", "tools")
    return build_neuron_graph(refinement=loop.compile(name="refine"), **agents)


if __name__ == "__main__":
    with ns.Setup(subject="smollm2-135m", llm=sys.argv[1] if sys.argv[1:] else "offline").open(layers=[9]) as lab:
        neuron = ns.Neuron(9, 740)
        print(asyncio.run(graph_with_critic().ainvoke({"neuron": neuron}, context=lab.instruments(neuron)))["modes"])
