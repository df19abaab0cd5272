"""From documents to sequences: fixed windows of tokens, each with its document's split and source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from neuronscope.corpus.documents import Document, split_of
from neuronscope.corpus.encoding import encode
from neuronscope.units import Split

MIN_TOKENS = 4
"""A document with fewer tokens has too little context to say anything, and is left out."""
MIN_TAIL = 16
"""What is left of a document after its full windows is kept as a short sequence from this many tokens on."""

_BATCH_DOCUMENTS = 256
_BATCH_CHARACTERS = 200_000


@dataclass(frozen=True, slots=True)
class Window:
    """One sequence of a corpus, not yet seen by a model."""

    sequence_id: int
    """Its running number in the corpus, whatever the split."""
    token_ids: list[int]
    """At most `seq_len` ids, without the model's BOS."""
    split: Split
    """The split of its document."""
    source: str
    """The source of its document."""


def windows(
    documents: Iterable[Document],
    tokenizer: Any,
    seq_len: int = 64,
    n_tokens: int | None = None,
    leading: Sequence[int] | None = None,
) -> Iterator[Window]:
    """Cut documents into sequences of `seq_len` tokens.

    A document shorter than that is one short sequence; the tail of a longer one is kept if it has `MIN_TAIL` tokens.
    Conversations go through the tokenizer's chat template, if it has one; see `neuronscope.corpus.encoding`.

    Args:
        documents: the documents, in the corpus's order.
        tokenizer: the subject's transformers tokenizer.
        seq_len: tokens of a full sequence.
        n_tokens: stop after the document that brings the total to this many tokens; None reads everything.
        leading: what the subject puts in front of every sequence; None is what the tokenizer does.
    """
    sequence_id = total = 0
    for batch in _batches(documents):
        for document, token_ids in zip(batch, encode(batch, tokenizer, leading), strict=True):
            for piece in _cut(token_ids, seq_len):
                yield Window(sequence_id, piece, split_of(document.text), document.source)
                sequence_id += 1
                total += len(piece)
            if n_tokens is not None and total >= n_tokens:
                return


def _cut(token_ids: list[int], seq_len: int) -> Iterator[list[int]]:
    for start in range(0, len(token_ids), seq_len):
        piece = token_ids[start : start + seq_len]
        smallest = MIN_TOKENS if start == 0 else MIN_TAIL
        if len(piece) >= min(smallest, seq_len):
            yield piece


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Groups that are worth a call of the tokenizer, and small enough for memory."""
    batch: list[Document] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document.text)
        if len(batch) == _BATCH_DOCUMENTS or characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
