"""What the subject's neuron does on texts that were written for an explanation, and on texts that were not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from neuronscope.corpus.documents import Document
from neuronscope.corpus.encoding import encode
from neuronscope.interfaces import Subject
from neuronscope.subject.sites import activations_at
from neuronscope.types import Neuron

CONTROL_TEXTS = 50
"""Sequences of the corpus that written texts are compared with, where the store can draw them."""

Rows = Sequence[NDArray[np.floating[Any]]]
"""Per text, the activations of its tokens, shape `(tokens,)`."""


@runtime_checkable
class SamplesSequences(Protocol):
    """A source that can draw sequences for no neuron in particular, as an `ExemplarStore` can."""

    def sample_ids(self, split: str, n: int, seed: int) -> list[int]:
        """Ids of sequences drawn from the whole split."""


class Compared(NamedTuple):
    """Written texts beside control texts, each pair over as many first tokens as both have."""

    wins: NDArray[np.float64]
    """Shape `(written, control)`: 1 where the written text has the larger mean activation, 0.5 for a tie, else 0."""
    written: NDArray[np.float64]
    """Shape `(written,)`: each text's mean activation, averaged over its pairs."""
    control: NDArray[np.float64]
    """Shape `(control,)`: the same for the control texts."""


def activations(subject: Subject, neuron: Neuron, texts: Sequence[str], n_tokens: int) -> list[NDArray[np.float32]]:
    """The neuron's activation at the tokens of each text, the other sign counted as 0.

    The texts are not trusted: what looks like a special token is read as plain text.

    Args:
        subject: the model.
        neuron: the neuron.
        texts: any texts; those without a token are left out.
        n_tokens: how many tokens of a text are read.
    """
    encoded = encode([Document(text, "written") for text in texts], subject.tokenizer)
    token_ids = [ids[:n_tokens] for ids in encoded if ids]
    if not token_ids:
        return []
    raw = activations_at(subject, token_ids, [neuron.layer], neuron.site)[neuron.layer]
    return [np.maximum(neuron.sign * row[:, neuron.index], 0.0) for row in raw]


def compare(written: Rows, control: Rows) -> Compared:
    """Compare every written text with every control text, over as many first tokens as both have.

    Few tokens of a text activate a neuron. So the mean over the 64 tokens of a window is larger, more often than not,
    than that over the 25 of a sentence of the same kind, although their expectations are the same.
    """
    means = np.zeros((2, len(written), len(control)))
    for i, text in enumerate(written):
        for j, other in enumerate(control):
            length = min(len(text), len(other))
            means[:, i, j] = float(text[:length].mean()), float(other[:length].mean())
    wins = (means[0] > means[1]) + 0.5 * (means[0] == means[1])
    if not means.size:
        return Compared(wins, np.zeros(len(written)), np.zeros(len(control)))
    return Compared(wins, means[0].mean(axis=1), means[1].mean(axis=0))
