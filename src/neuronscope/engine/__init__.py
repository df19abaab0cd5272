"""Where explanations run."""

from neuronscope.engine.local import run

__all__ = ["run"]
