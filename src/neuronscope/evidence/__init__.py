"""What is shown of a neuron to whoever explains it, gathered once: texts, single tokens, how far it looks back."""

from neuronscope.evidence.gather import EvidenceSource
from neuronscope.evidence.record import (
    Evidence,
    LookBack,
    Occurrence,
    OutputTokens,
    RandomTexts,
    TokenRow,
    VocabularyTokens,
)
from neuronscope.evidence.texts import evidence_of

__all__ = [
    "Evidence",
    "EvidenceSource",
    "LookBack",
    "Occurrence",
    "OutputTokens",
    "RandomTexts",
    "TokenRow",
    "VocabularyTokens",
    "evidence_of",
]
