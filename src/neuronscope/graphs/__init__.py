"""The graphs, their nodes and their states, for running as they are and for composing your own."""

from neuronscope.graphs.conclusion import conclude
from neuronscope.graphs.experimenting import TryOut
from neuronscope.graphs.neuron import (
    Guarded,
    after_decomposition,
    after_hypothesis,
    after_observe,
    build_neuron_graph,
    fan_out,
)
from neuronscope.graphs.observation import observe
from neuronscope.graphs.refinement import (
    Propose,
    after_propose,
    after_try_out,
    assess,
    build_refinement_graph,
    next_step,
)
from neuronscope.graphs.streaming import announced, stream_events
from neuronscope.graphs.tools import capture_activations, score_explanations
from neuronscope.state import ExemplarIds, Instruments, NeuronState, RefinementState

__all__ = [
    "ExemplarIds",
    "Guarded",
    "Instruments",
    "NeuronState",
    "Propose",
    "RefinementState",
    "TryOut",
    "after_decomposition",
    "after_hypothesis",
    "after_observe",
    "after_propose",
    "after_try_out",
    "announced",
    "assess",
    "build_neuron_graph",
    "build_refinement_graph",
    "capture_activations",
    "conclude",
    "fan_out",
    "next_step",
    "observe",
    "score_explanations",
    "stream_events",
]
