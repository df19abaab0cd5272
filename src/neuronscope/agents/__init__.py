"""The four agents; each is a LangGraph node, and an async callable `(state, runtime) -> partial state` alone."""

from neuronscope.agents.clustering import ClusteringAgent
from neuronscope.agents.decomposition import DecompositionAgent
from neuronscope.agents.hypothesis import HypothesisAgent
from neuronscope.agents.refinement import RefinementAgent

__all__ = ["ClusteringAgent", "DecompositionAgent", "HypothesisAgent", "RefinementAgent"]
