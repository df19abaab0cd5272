"""The tables of the documentation, and the baselines that they are held against."""

from neuronscope.experiments.baselines import TokenLookup

__all__ = ["TokenLookup"]
