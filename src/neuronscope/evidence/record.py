"""What a neuron's evidence consists of. All activations are on the scale 0-10, where 10 is the neuron's largest."""

from __future__ import annotations

from dataclasses import dataclass

from neuronscope.types import Exemplar

ACTIVE = 1.0
"""A token counts as one on which the neuron is active from this activation on."""


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One token in its left context."""

    before: str
    """The end of the text before it."""
    token: str
    """The token."""
    after: str
    """The rest of the word, where the token is a part of one; nothing else of what comes after."""
    activation: float
    """What the neuron did there."""


@dataclass(frozen=True, slots=True)
class TokenRow:
    """All occurrences of one token in the neuron's top train texts."""

    token: str
    """The token, with the space in front that belongs to it."""
    occurrences: int
    """How often it occurs."""
    active: int
    """In how many of these the neuron is active."""
    mean: float
    """Mean activation over all of them."""
    largest: float
    """Largest activation."""
    strongest: tuple[Occurrence, ...]
    """Those with the largest activations, in different contexts."""
    weakest: tuple[Occurrence, ...]
    """Those with the smallest, where these are far below the largest."""
    look_alikes: tuple[str, ...]
    """Tokens that look like it and on which the neuron is inactive throughout."""


@dataclass(frozen=True, slots=True)
class RandomTexts:
    """What the neuron does on train texts that were drawn without regard to it."""

    texts: int
    """How many texts."""
    tokens: int
    """Their tokens."""
    active: int
    """On how many of these it is active."""
    strongest: tuple[Occurrence, ...]
    """The strongest occurrences, one of each token."""


@dataclass(frozen=True, slots=True)
class VocabularyTokens:
    """Every token of the vocabulary, alone behind the beginning of a text."""

    size: int
    """How many tokens were tried."""
    strongest: tuple[tuple[str, float], ...]
    """The tokens with the largest activations; these may exceed 10."""
    quantiles: tuple[tuple[float, float], ...]
    """Shares of the vocabulary, and the activation below which they stay."""


@dataclass(frozen=True, slots=True)
class LookBack:
    """How much of what stands before a peak the neuron needs for it."""

    peak: Occurrence
    """The peak, with all of its context."""
    by_length: tuple[tuple[int, float], ...]
    """Activations with the context cut to so many tokens."""
    needed: int
    """The shortest of these contexts that has nearly the effect of the longest."""
    decisive: str
    """The token within the needed context whose loss costs most; empty where none matters, or none is needed."""
    without: float | None
    """The activation with the needed context, that token left out; None where there is no such token."""


@dataclass(frozen=True, slots=True)
class OutputTokens:
    """What the unit says: its write direction through the final norm and the unembedding."""

    promoted: tuple[str, ...]
    """The tokens that become most likely, most of all first."""
    suppressed: tuple[str, ...]
    """The tokens that become least likely, least of all first."""


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Everything that is shown of a neuron. What could not be measured is None or empty, and is not shown."""

    maximum: float
    """The activation that is 10 on the scale."""
    n_texts: int
    """How many top train texts the table is made from."""
    tokens: tuple[TokenRow, ...]
    """The tokens of these texts on which most of the activation falls, most of all first."""
    excerpts: tuple[Exemplar, ...]
    """Train texts of all ranks, strongest first, no peak token too often: a dominant meaning must not hide others."""
    random: RandomTexts | None = None
    """What it does on ordinary text."""
    vocabulary: VocabularyTokens | None = None
    """What it does on single tokens."""
    look_back: tuple[LookBack, ...] = ()
    """How far it looks back from some peaks on different tokens."""
    output_tokens: OutputTokens | None = None
    """What it does to the model's next token."""
