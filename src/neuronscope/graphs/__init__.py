"""The graphs, their nodes and their states, for running as they are and for composing your own."""

from neuronscope.graphs.conclude import conclude
from neuronscope.graphs.neuron import (
    NeuronGraph,
    after_clustering,
    after_observe,
    agent_failed,
    build_neuron_graph,
    neuron_graph_builder,
)
from neuronscope.graphs.observe import observe
from neuronscope.graphs.probe import Probe
from neuronscope.graphs.reconcile import reconcile
from neuronscope.graphs.refine import (
    Agent,
    RefinementGraph,
    RefinementInput,
    RefinementOutput,
    Tools,
    begin,
    build_refinement_graph,
    next_step,
    refinement_graph_builder,
)
from neuronscope.graphs.stream import stream_events
from neuronscope.graphs.threads import beginning_afresh
from neuronscope.graphs.tools import TOOLS, capture_activations, errors_to_messages, score_explanations
from neuronscope.graphs.unexplained import after_unexplained, unexplained
from neuronscope.state import Drafts, Instruments, NeuronState, ProposalState, RefinementState
from neuronscope.types import ExemplarIds

__all__ = [
    "TOOLS",
    "Agent",
    "Drafts",
    "ExemplarIds",
    "Instruments",
    "NeuronGraph",
    "NeuronState",
    "Probe",
    "ProposalState",
    "RefinementGraph",
    "RefinementInput",
    "RefinementOutput",
    "RefinementState",
    "Tools",
    "after_clustering",
    "after_observe",
    "after_unexplained",
    "agent_failed",
    "begin",
    "beginning_afresh",
    "build_neuron_graph",
    "build_refinement_graph",
    "capture_activations",
    "conclude",
    "errors_to_messages",
    "neuron_graph_builder",
    "next_step",
    "observe",
    "reconcile",
    "refinement_graph_builder",
    "score_explanations",
    "stream_events",
    "unexplained",
]
