"""Simulators predict a neuron's activations from an explanation and the tokens alone."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from neuronscope.simulators.base import resolve_simulator

if TYPE_CHECKING:
    from neuronscope.simulators.chat import ChatSimulator
    from neuronscope.simulators.hybrid import HybridSimulator

__all__ = ["ChatSimulator", "HybridSimulator", "resolve_simulator"]


def __getattr__(name: str) -> Any:
    """Load a simulator on first use."""
    if name == "ChatSimulator":
        return import_module("neuronscope.simulators.chat").ChatSimulator
    if name == "HybridSimulator":
        return import_module("neuronscope.simulators.hybrid").HybridSimulator
    raise AttributeError(f"module 'neuronscope.simulators' has no attribute {name!r}")
