"""A human who approves: the graph waits with each round's candidates, and measures those that are let through.

It uses LangGraph's `interrupt`: the state is kept by a checkpointer, so the answer may come days later, from elsewhere.

    python examples/approval.py
"""

from __future__ import annotations

import asyncio

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.runtime import Runtime
from langgraph.types import Command, interrupt

import neuronscope as ns
from neuronscope.graphs import Instruments, RefinementState, build_neuron_graph, refinement_graph_builder


async def approve(state: RefinementState, runtime: Runtime[Instruments]) -> RefinementState:
    """Hand the candidates out, and go on with what comes back."""
    return {"proposals": interrupt(state["proposals"])}


def graph_with_approval(**agents):
    loop = refinement_graph_builder(refinement=agents.pop("refinement", None))
    loop.add_node("approve", approve)
    loop.edges.remove(("propose", "tools"))
    loop.add_edge("propose", "approve")
    loop.add_edge("approve", "tools")
    return build_neuron_graph(refinement=loop.compile(name="refine"), checkpointer=InMemorySaver(), **agents)


async def explain(neuron: ns.Neuron, lab: ns.Session, ask=input) -> ns.NeuronExplanation:
    graph, thread = graph_with_approval(), {"configurable": {"thread_id": str(neuron)}}
    state = await graph.ainvoke({"neuron": neuron}, thread, context=lab.instruments(neuron))
    while waiting := state.get("__interrupt__"):
        answer = {
            mode: [text for text in candidates if ask(f"{text}\nMeasure this one? [y/n] ") == "y"]
            for mode, candidates in waiting[0].value.items()
        }
        state = await graph.ainvoke(Command(resume=answer), thread, context=lab.instruments(neuron))
    return state["explanation"]


if __name__ == "__main__":
    with ns.Setup(subject="smollm2-135m", llm="offline").open(layers=[9]) as lab:
        print(asyncio.run(explain(ns.Neuron(9, 740), lab)).modes)
