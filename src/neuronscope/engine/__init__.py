"""Where the work runs: here, or on the machines of a Ray cluster."""

from neuronscope.engine.local import run
from neuronscope.engine.ray import RayEngine

__all__ = ["RayEngine", "run"]
