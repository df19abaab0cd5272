"""Without a language model."""

from __future__ import annotations

from functools import cache
from typing import Any

from neuronscope.interfaces import Simulator

FORMS = ("hybrid",)


def load(source: str, *, embeddings: Any, llm: Any) -> Simulator:
    """The hybrid simulator; with its own embeddings the one of the process."""
    from neuronscope.simulators.hybrid import HybridSimulator

    return _shared() if embeddings is None else HybridSimulator(embeddings=embeddings)


@cache
def _shared() -> Simulator:
    """Neurons share many words, and a word is embedded once."""
    from neuronscope.simulators.hybrid import HybridSimulator

    return HybridSimulator()
