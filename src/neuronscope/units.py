"""The two nouns everything else speaks of: a neuron, and an exemplar of what it does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from neuronscope.arguments import integer
from neuronscope.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Split = Literal["train", "validation", "test"]
"""Every document belongs to exactly one: agents see train, refinement optimises validation, scores are test."""

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True, slots=True, order=True)
class Neuron:
    """One scalar of a model: by default an input coordinate of an MLP's output projection."""

    layer: int
    """Layer number, from 0."""
    index: int
    """Position within the layer, from 0."""
    sign: int = 1
    """+1 studies the neuron's large values, -1 its large negative values."""
    site: str = "mlp"
    """Where the scalar lives; other sites (SAE latents, attention outputs) can join without a new type."""

    def __post_init__(self) -> None:
        for name in ("layer", "index", "sign"):  # as they come out of numpy and pandas
            object.__setattr__(self, name, integer(getattr(self, name), f"A neuron's {name}"))
        if self.sign not in (1, -1):
            raise ConfigurationError(f"A neuron's sign is 1 or -1, not {self.sign!r}.")
        if self.layer < 0 or self.index < 0:
            raise ConfigurationError(f"Layers and neurons count from 0: got layer {self.layer}, index {self.index}.")

    def __str__(self) -> str:
        return f"layer {self.layer}, neuron {self.index} ({'+' if self.sign > 0 else '-'})"


_NAME = re.compile(r"(?P<layer>\d+)/(?:-(?P<negative>\d+)|(?P<index>\d+)(?:/(?P<sign>[+-])1?)?)")


def neuron_named(name: str) -> Neuron | None:
    """`9/740` as a neuron, and `9/740/-` or `9/-740` for its negative side; None if it is no such name."""
    match = _NAME.fullmatch(name.strip())
    if match is None:
        return None
    negative = match["negative"] is not None or match["sign"] == "-"
    return Neuron(int(match["layer"]), int(match["negative"] or match["index"]), -1 if negative else 1)


@dataclass(frozen=True, slots=True, eq=False)
class Exemplar:
    """A sequence with its per-token activations for one neuron and sign.

    `"".join(tokens)` is the text, also where one character spans several tokens.
    """

    tokens: Sequence[str]
    """The text of each token, `seq_len` of them."""
    token_ids: Sequence[int]
    """The subject's ids of the same tokens."""
    activations: NDArray[np.float32]
    """Shape `(seq_len,)`, `max(sign * activation, 0)`: the other sign counts as silent."""
    sequence_id: int
    """The sequence's number within its corpus."""
    source: str
    """Which part of the corpus the document came from."""

    @property
    def text(self) -> str:
        """The sequence as text."""
        return "".join(self.tokens)
