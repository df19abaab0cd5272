"""Simulators predict a neuron's activations from an explanation and the tokens alone."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from neuronscope.simulators.registry import resolve_simulator

if TYPE_CHECKING:
    from neuronscope.simulators.chat import ChatSimulator
    from neuronscope.simulators.finetuned import FinetunedSimulator
    from neuronscope.simulators.hybrid import HybridSimulator
    from neuronscope.simulators.prompted import PromptedSimulator

_MODULE_OF = {
    "ChatSimulator": "chat",
    "FinetunedSimulator": "finetuned",
    "HybridSimulator": "hybrid",
    "PromptedSimulator": "prompted",
}

__all__ = [
    "ChatSimulator",
    "FinetunedSimulator",
    "HybridSimulator",
    "PromptedSimulator",
    "resolve_simulator",
]


def __getattr__(name: str) -> Any:
    """Load a simulator on first use."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
