"""A subject whose neurons are a table, for tests of everything that only needs activations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from tokenizers.decoders import Fuse
from transformers import PreTrainedTokenizerFast


def character_tokenizer(alphabet: str) -> PreTrainedTokenizerFast:
    """A transformers tokenizer whose tokens are the letters of `alphabet`."""
    tokenizer = Tokenizer(models.WordLevel({letter: i for i, letter in enumerate(alphabet)}, unk_token=alphabet[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


class TableSubject:
    """Each neuron's activation is a table's entry for the token, whatever the context.

    It counts its forward passes, and the sequences in them.
    """

    def __init__(self, alphabet: str, tables: Sequence[NDArray[np.float32]], fingerprint: str = "planted") -> None:
        self.tokenizer = character_tokenizer(alphabet)
        self.tables = tables
        self.fingerprint = fingerprint
        self.name = "planted"
        self.calls = 0
        self.sequences = 0

    @property
    def n_layers(self) -> int:
        return len(self.tables)

    def width(self, layer: int) -> int:
        return self.tables[layer].shape[1]

    def activations(
        self, token_ids: Sequence[Sequence[int]], layers: Sequence[int]
    ) -> dict[int, list[NDArray[np.float32]]]:
        self.calls += 1
        self.sequences += len(token_ids)
        return {layer: [self.tables[layer][list(sequence)] for sequence in token_ids] for layer in layers}


class InterruptedSubject(TableSubject):
    """Is interrupted at its forward pass of the number `fail_at`."""

    fail_at = -1

    def activations(
        self, token_ids: Sequence[Sequence[int]], layers: Sequence[int]
    ) -> dict[int, list[NDArray[np.float32]]]:
        if self.calls == self.fail_at:
            raise KeyboardInterrupt
        return super().activations(token_ids, layers)
