"""The whole graph: from one neuron to its modes, each with a held-out score."""

from __future__ import annotations

from typing import Any, Literal

from langgraph.errors import NodeError
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Checkpointer, Command

from neuronscope.errors import NeuronScopeError
from neuronscope.graphs.checkpoints import knowing_our_types
from neuronscope.graphs.conclude import conclude as default_conclude
from neuronscope.graphs.observe import observe as default_observe
from neuronscope.graphs.refine import Agent, build_refinement_graph
from neuronscope.graphs.threads import beginning_afresh
from neuronscope.results import Failure
from neuronscope.state import Instruments, NeuronState

NeuronGraph = CompiledStateGraph[NeuronState, Instruments, Any, Any]


async def agent_failed(state: NeuronState, error: NodeError) -> Command[Any]:
    """An agent that fails with an error of ours ends the graph at `conclude`; any other exception surfaces as a bug."""
    if not isinstance(error.error, NeuronScopeError):
        raise error.error
    return Command(update={"failures": [Failure(error.node, str(error.error))]}, goto="conclude")


async def after_observe(state: NeuronState) -> Literal["hypothesis", "conclude"]:
    """A neuron that nothing in the train documents activates gives no hypothesis."""
    return "hypothesis" if state["exemplars"].train else "conclude"


async def after_clustering(state: NeuronState) -> Literal["refine", "conclude"]:
    """Without a cluster there is nothing to refine."""
    return "refine" if any(not cluster.noise for cluster in state.get("clusters", [])) else "conclude"


async def after_refine(state: NeuronState) -> Literal["hypothesis", "conclude"]:
    """What no mode explains gets a second hypothesis."""
    return "hypothesis" if state.get("unexplained") else "conclude"


def neuron_graph_builder(
    *,
    observe: Agent | None = None,
    hypothesis: Agent | None = None,
    decomposition: Agent | None = None,
    clustering: Agent | None = None,
    refinement: Agent | CompiledStateGraph[Any, Any, Any, Any] | None = None,
    conclude: Agent | None = None,
    state: type[NeuronState] = NeuronState,
) -> StateGraph[NeuronState, Instruments, Any, Any]:
    """The uncompiled graph that explains one neuron, to be changed: its nodes have the names of these arguments.

    Every node is an async callable `(state, runtime) -> partial state`; None is the default, which takes its LLM from
    the context. An agent that fails with an error of ours ends the graph at `conclude`, with the status "partial".

    Args:
        observe: writes `exemplars`.
        hypothesis: writes `hypotheses`.
        decomposition: writes `atoms`.
        clustering: writes `clusters`.
        refinement: an agent that proposes for one mode (see `refinement_graph_builder`), or a whole loop: a compiled
            graph, as `build_refinement_graph` makes it.
        conclude: writes `explanation`.
        state: the state, where it has keys of your own beside those of `NeuronState`.
    """
    from neuronscope import agents

    if not isinstance(refinement, CompiledStateGraph):
        refinement = build_refinement_graph(refinement=refinement)
    graph = StateGraph(state, context_schema=Instruments)
    failing: Any = {"error_handler": agent_failed}
    graph.add_node("observe", observe or default_observe)  # neuron → exemplars
    graph.add_node("hypothesis", hypothesis or agents.HypothesisAgent(), **failing)  # train exemplars → hypotheses
    graph.add_node("decomposition", decomposition or agents.DecompositionAgent(), **failing)  # hypotheses → atoms
    graph.add_node("clustering", clustering or agents.ClusteringAgent(), **failing)  # atoms → clusters
    graph.add_node("refine", refinement)  # clusters → modes
    graph.add_node("conclude", conclude or default_conclude)  # modes → explanation
    graph.add_edge(START, "observe")
    graph.add_conditional_edges("observe", after_observe, ["hypothesis", "conclude"])  # a dead neuron is done
    graph.add_edge("hypothesis", "decomposition")
    graph.add_edge("decomposition", "clustering")
    graph.add_conditional_edges("clustering", after_clustering, ["refine", "conclude"])
    graph.add_conditional_edges("refine", after_refine, ["hypothesis", "conclude"])  # back at most once
    graph.add_edge("conclude", END)
    return graph


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

    Args:
        observe: as for `neuron_graph_builder`, and so are the others.
        hypothesis: likewise.
        decomposition: likewise.
        clustering: likewise.
        refinement: likewise.
        conclude: likewise.
        checkpointer: LangGraph's.
    """
    graph = neuron_graph_builder(
        observe=observe,
        hypothesis=hypothesis,
        decomposition=decomposition,
        clustering=clustering,
        refinement=refinement,
        conclude=conclude,
    )
    return beginning_afresh(graph.compile(checkpointer=knowing_our_types(checkpointer), name="neuron"))
