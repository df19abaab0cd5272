"""Any causal language model, with worked examples in its prompt."""

from __future__ import annotations

from typing import Any

from neuronscope.interfaces import Simulator
from neuronscope.simulators.shared import load_shared

FORMS = ("prompted:<model>",)


def load(source: str, *, embeddings: Any, llm: Any) -> Simulator:
    """The prompted simulator of this model."""
    from neuronscope.simulators.prompted import PromptedSimulator

    return load_shared(PromptedSimulator, source)
