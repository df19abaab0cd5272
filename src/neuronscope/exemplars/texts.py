"""Texts that somebody writes, as exemplars: what a neuron does on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neuronscope.interfaces import Subject
from neuronscope.locks import lock_of
from neuronscope.subject.sites import activations_at
from neuronscope.subject.tokens import token_strings
from neuronscope.types import Exemplar, Neuron

WRITTEN = "written"
"""The source of such an exemplar."""


def exemplars_of(texts: Sequence[str], subject: Subject, neuron: Neuron, n_tokens: int) -> list[Exemplar]:
    """The neuron's activation at the tokens of each text.

    The texts are not trusted: what looks like a special token is read as plain text.

    Args:
        texts: any texts.
        subject: the model.
        neuron: the neuron.
        n_tokens: how many tokens of a text are read.

    Returns:
        One exemplar per text, numbered from 0; it has no tokens where the tokenizer leaves nothing of the text.
    """
    as_text = {"add_special_tokens": False, "split_special_tokens": True}
    with lock_of(subject.tokenizer):
        token_ids = [subject.tokenizer(text, **as_text)["input_ids"][:n_tokens] for text in texts]
    read = [ids for ids in token_ids if ids]
    raw = iter(activations_at(subject, read, [neuron.layer], neuron.site)[neuron.layer] if read else ())
    return [
        Exemplar(
            tokens=token_strings(subject.tokenizer, ids),
            token_ids=ids,
            activations=np.maximum(neuron.sign * next(raw)[:, neuron.index], 0.0) if ids else np.zeros(0, np.float32),
            sequence_id=number,
            source=WRITTEN,
        )
        for number, ids in enumerate(token_ids)
    ]
