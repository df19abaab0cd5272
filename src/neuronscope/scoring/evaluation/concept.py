"""What the subject's neuron does on texts that were written for an explanation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neuronscope.corpus.documents import Document
from neuronscope.corpus.encoding import encode
from neuronscope.protocols import Subject
from neuronscope.units import Neuron


def mean_activations(subject: Subject, neuron: Neuron, texts: Sequence[str], n_tokens: int) -> NDArray[np.float64]:
    """The neuron's mean activation over the tokens of each text, the other sign counted as 0.

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
        return np.zeros(0)
    raw = subject.activations(token_ids, [neuron.layer])[neuron.layer]
    return np.array([np.maximum(neuron.sign * row[:, neuron.index], 0.0).mean() for row in raw], dtype=np.float64)
