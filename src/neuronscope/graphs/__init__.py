"""The graphs, their nodes and their states, for running as they are and for composing your own."""

from neuronscope.graphs.conclude import conclude
from neuronscope.graphs.edit import Editor
from neuronscope.graphs.explainer import Scored, score_explainer
from neuronscope.graphs.neuron import (
    NeuronGraph,
    after_clustering,
    after_observe,
    after_refine,
    agent_failed,
    build_neuron_graph,
    neuron_graph_builder,
)
from neuronscope.graphs.observe import observe
from neuronscope.graphs.probe import Prober
from neuronscope.graphs.reconcile import reconcile
from neuronscope.graphs.refine import (
    Agent,
    RefinementGraph,
    RefinementInput,
    RefinementOutput,
    Tools,
    begin,
    build_refinement_graph,
    next_or_edit,
    next_step,
    refinement_graph_builder,
)
from neuronscope.graphs.stream import stream_events
from neuronscope.graphs.threads import beginning_afresh
from neuronscope.graphs.tools import TOOLS, capture_activations, errors_to_messages, score_explanations
from neuronscope.state import Instruments, NeuronState, ProposalState, RefinementState
from neuronscope.types import ExemplarIds

__all__ = [
    "TOOLS",
    "Agent",
    "Editor",
    "ExemplarIds",
    "Instruments",
    "NeuronGraph",
    "NeuronState",
    "Prober",
    "ProposalState",
    "RefinementGraph",
    "RefinementInput",
    "RefinementOutput",
    "RefinementState",
    "Scored",
    "Tools",
    "after_clustering",
    "after_observe",
    "after_refine",
    "agent_failed",
    "begin",
    "beginning_afresh",
    "build_neuron_graph",
    "build_refinement_graph",
    "capture_activations",
    "conclude",
    "errors_to_messages",
    "neuron_graph_builder",
    "next_or_edit",
    "next_step",
    "observe",
    "reconcile",
    "refinement_graph_builder",
    "score_explainer",
    "score_explanations",
    "stream_events",
]
