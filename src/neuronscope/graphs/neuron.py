"""The whole graph: from one neuron to its modes, each with a held-out score."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import Checkpointer, Send

from neuronscope.errors import NeuronScopeError
from neuronscope.graphs.conclude import conclude as default_conclude
from neuronscope.graphs.observe import observe as default_observe
from neuronscope.graphs.refine import Agent, build_refinement_graph
from neuronscope.graphs.stream import announced
from neuronscope.graphs.threads import beginning_afresh
from neuronscope.results import Failure, Mode
from neuronscope.state import Instruments, NeuronState, RefinementState

NeuronGraph = CompiledStateGraph[NeuronState, Instruments, Any, Any]


class Guarded:
    """An agent whose errors of ours become a failure, so that the graph can conclude; other exceptions surface."""

    def __init__(self, name: str, agent: Agent) -> None:
        self.name = name
        self.agent = agent

    async def __call__(self, state: NeuronState, runtime: Runtime[Instruments]) -> NeuronState:
        """Return the agent's update, or the failure."""
        try:
            update: NeuronState = await self.agent(state, runtime)
        except NeuronScopeError as error:
            return {"failures": [Failure(agent=self.name, message=str(error))]}
        return update


async def after_observe(state: NeuronState) -> Literal["hypothesis", "conclude"]:
    """A neuron that nothing in the train documents activates has nothing to draft from."""
    return "hypothesis" if state["exemplars"].train else "conclude"


async def after_hypothesis(state: NeuronState) -> Literal["decomposition", "conclude"]:
    """Without drafts, because the agent failed, there is nothing to split."""
    return "decomposition" if _has_written("hypothesis", "hypotheses", state) else "conclude"


async def after_decomposition(state: NeuronState) -> Literal["clustering", "conclude"]:
    """Without atoms, because the agent failed, there is nothing to cluster."""
    return "clustering" if _has_written("decomposition", "atoms", state) else "conclude"


def _has_written(agent: str, key: Literal["hypotheses", "atoms"], state: NeuronState) -> bool:
    """Whether the state has what an agent should write; a new neuron of a thread begins with an empty list of it."""
    failed = any(failure.agent == agent for failure in state.get("failures", []))
    return key in state and (bool(state[key]) or not failed)


async def fan_out(state: NeuronState, runtime: Runtime[Instruments]) -> list[Send] | Literal["conclude"]:
    """Send every mode to a refinement of its own, the largest clusters first; with no mode there is nothing to refine.

    What is sent holds no test sequences: refinement cannot touch them.
    """
    clusters = sorted(
        (cluster for cluster in state.get("clusters", []) if not cluster.noise), key=lambda cluster: -len(cluster.atoms)
    )[: runtime.context.config.max_modes]
    siblings = [cluster.representative for cluster in clusters]
    exemplars = replace(state["exemplars"], test=[], test_random=[])
    modes = [Mode(explanation=cluster.representative, atoms=cluster.atoms, siblings=siblings) for cluster in clusters]
    sent = [RefinementState(neuron=state["neuron"], exemplars=exemplars, mode=mode) for mode in modes]
    return [Send("refine", refinement) for refinement in sent] or "conclude"


def build_neuron_graph(
    *,
    observe: Agent | None = None,
    hypothesis: Agent | None = None,
    decomposition: Agent | None = None,
    clustering: Agent | None = None,
    refinement: Agent | CompiledStateGraph[Any, Any, Any, Any] | None = None,
    conclude: Agent | None = None,
    checkpointer: Checkpointer = None,
) -> NeuronGraph:
    """Build the graph that explains one neuron: `await graph.ainvoke({"neuron": neuron}, context=Instruments(...))`.

    Every node is an async callable `(state, runtime) -> partial state`; None is the default, which takes its LLM from
    the context. An agent that fails with an error of ours ends the graph at `conclude`, with the status "partial".

    Args:
        observe: writes `exemplars`.
        hypothesis: writes `hypotheses`.
        decomposition: writes `atoms`.
        clustering: writes `clusters`.
        refinement: an agent that writes `candidates`, or a whole loop: a compiled graph, as `build_refinement_graph`
            makes it.
        conclude: writes `explanation`.
        checkpointer: LangGraph's. A new input begins afresh, also in a thread that has had one before.
    """
    from neuronscope import agents

    if not isinstance(refinement, CompiledStateGraph):
        refinement = build_refinement_graph(refinement=refinement)
    hypothesis = Guarded("hypothesis", hypothesis or agents.HypothesisAgent())
    decomposition = Guarded("decomposition", decomposition or agents.DecompositionAgent())
    clustering = Guarded("clustering", clustering or agents.ClusteringAgent())

    graph = StateGraph(NeuronState, context_schema=Instruments)
    graph.add_node("observe", announced("observe", observe or default_observe))  # neuron → exemplars
    graph.add_node("hypothesis", announced("hypothesis", hypothesis))  # train exemplars → drafts
    graph.add_node("decomposition", announced("decomposition", decomposition))  # drafts → atoms
    graph.add_node("clustering", announced("clustering", clustering))  # atoms → clusters
    refine = announced("refine", refinement)  # one mode → the same mode, refined
    graph.add_node("refine", refine, input_schema=RefinementState)
    graph.add_node("conclude", announced("conclude", conclude or default_conclude))  # modes → explanation
    graph.add_edge(START, "observe")
    graph.add_conditional_edges("observe", after_observe, ["hypothesis", "conclude"])  # a dead neuron is done
    graph.add_conditional_edges("hypothesis", after_hypothesis, ["decomposition", "conclude"])
    graph.add_conditional_edges("decomposition", after_decomposition, ["clustering", "conclude"])
    graph.add_conditional_edges("clustering", fan_out, ["refine", "conclude"])  # one refinement per mode
    graph.add_edge("refine", "conclude")
    graph.add_edge("conclude", END)
    return beginning_afresh(graph.compile(checkpointer=checkpointer, name="neuron"))
