"""What explanations are compared with: an `Explainer` each, scored as `explain_neuron` is, on the same exemplars."""

from neuronscope.baselines.best_of_k import BestOfK
from neuronscope.baselines.best_of_n import BestOfN
from neuronscope.baselines.clustered import Clustered
from neuronscope.baselines.experimenter import Experimenter
from neuronscope.baselines.explained import FirstMode, NeuronScope, Unrefined
from neuronscope.baselines.nulls import AnotherNeuron, RandomDescription
from neuronscope.baselines.registry import baseline, named_baselines, resolve_baselines
from neuronscope.baselines.single_pass import SinglePass
from neuronscope.baselines.token_lookup import LookupTable, OwnSizeLookup, TokenLookup
from neuronscope.baselines.written import WrittenSentences

__all__ = [
    "AnotherNeuron",
    "BestOfK",
    "BestOfN",
    "Clustered",
    "Experimenter",
    "FirstMode",
    "LookupTable",
    "NeuronScope",
    "OwnSizeLookup",
    "RandomDescription",
    "SinglePass",
    "TokenLookup",
    "Unrefined",
    "WrittenSentences",
    "baseline",
    "named_baselines",
    "resolve_baselines",
]
