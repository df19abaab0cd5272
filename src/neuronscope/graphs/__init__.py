"""The graphs, their nodes and their states, for running as they are and for composing your own."""

from neuronscope.graphs.conclude import conclude
from neuronscope.graphs.neuron import (
    Guarded,
    NeuronGraph,
    after_decomposition,
    after_hypothesis,
    after_observe,
    build_neuron_graph,
    fan_out,
)
from neuronscope.graphs.observe import observe
from neuronscope.graphs.probe import TryOut
from neuronscope.graphs.refine import (
    Agent,
    Propose,
    RefinementGraph,
    RefinementOutput,
    after_propose,
    after_try_out,
    assess,
    build_refinement_graph,
    call_for_scores,
    next_step,
)
from neuronscope.graphs.stream import announced, stream_events
from neuronscope.graphs.threads import beginning_afresh
from neuronscope.graphs.tools import TOOLS, capture_activations, fail_in_words, score_explanations
from neuronscope.state import Instruments, NeuronState, RefinementState
from neuronscope.types import ExemplarIds

__all__ = [
    "TOOLS",
    "Agent",
    "ExemplarIds",
    "Guarded",
    "Instruments",
    "NeuronGraph",
    "NeuronState",
    "Propose",
    "RefinementGraph",
    "RefinementOutput",
    "RefinementState",
    "TryOut",
    "after_decomposition",
    "after_hypothesis",
    "after_observe",
    "after_propose",
    "after_try_out",
    "announced",
    "assess",
    "beginning_afresh",
    "build_neuron_graph",
    "build_refinement_graph",
    "call_for_scores",
    "capture_activations",
    "conclude",
    "fail_in_words",
    "fan_out",
    "next_step",
    "observe",
    "score_explanations",
    "stream_events",
]
