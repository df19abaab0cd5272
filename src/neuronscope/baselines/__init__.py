"""What explanations are held against, scored by the same scorer on the same exemplars."""

from neuronscope.baselines.token_lookup import TokenLookup

__all__ = ["TokenLookup"]
