"""What explanations are compared with: an `Explainer` each, scored as `explain_neuron` is, on the same exemplars."""

from neuronscope.baselines.best_of_k import BestOfK
from neuronscope.baselines.single_pass import SinglePass
from neuronscope.baselines.token_lookup import LookupTable, TokenLookup

__all__ = ["BestOfK", "LookupTable", "SinglePass", "TokenLookup"]
