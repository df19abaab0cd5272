"""Exemplars: the sequences that make each neuron respond most, collected in one pass over a corpus."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuronscope.exemplars.collect import collect_exemplars
    from neuronscope.exemplars.store import ExemplarStore, open_store

_HOME = {"collect_exemplars": "collect", "ExemplarStore": "store", "open_store": "store"}

__all__ = ["ExemplarStore", "collect_exemplars", "open_store"]


def __getattr__(name: str) -> Any:
    """Load torch only when something is collected."""
    if name not in _HOME:
        raise AttributeError(f"module 'neuronscope.exemplars' has no attribute {name!r}")
    return getattr(import_module(f"neuronscope.exemplars.{_HOME[name]}"), name)
