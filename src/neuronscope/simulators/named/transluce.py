"""Transluce's fine-tuned simulator, the paper's, and any checkpoint of that form."""

from __future__ import annotations

from typing import Any

from neuronscope.interfaces import Simulator
from neuronscope.simulators.shared import load_shared

FORMS = ("transluce", "transluce:<folder or Hugging Face id>")


def load(source: str, *, embeddings: Any, llm: Any) -> Simulator:
    """The fine-tuned simulator of this checkpoint."""
    from neuronscope.simulators.finetuned import TRANSLUCE, FinetunedSimulator

    return load_shared(FinetunedSimulator, source or TRANSLUCE)
