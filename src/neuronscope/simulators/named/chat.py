"""Any chat model: it names the activating tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neuronscope.interfaces import Simulator

FORMS = ("chat", "chat:<llm>")


def load(source: str, *, embeddings: Any, llm: Any) -> Simulator:
    """The chat simulator with the model named, or the run's own; of several that of "simulator" or "refinement"."""
    from neuronscope.simulators.chat import ChatSimulator

    if isinstance(llm, Mapping):
        llm = llm.get("simulator", llm.get("refinement", llm.get("default")))
    return ChatSimulator(source or ("offline" if llm is None else llm))
