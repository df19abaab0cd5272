"""From documents to sequences: fixed windows of tokens, each with its document's split and source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from neuronscope.corpus.documents import Document, split_of
from neuronscope.corpus.encoding import encode, encode_in_pieces, own_copy
from neuronscope.types import Split

MIN_TOKENS = 4
"""A document with fewer tokens has too little context to say anything, and is left out."""
MIN_TAIL = 16
"""What is left of a document after its full windows is kept as a short sequence from this many tokens on."""

MAX_REST = 512
"""A document that brings the total to what was asked for is finished only if no more tokens than this are missing."""

_BATCH_DOCUMENTS = 256
_BATCH_CHARACTERS = 200_000
_PIECE_CHARACTERS = 50_000
"""Of a document longer than a batch, about so much is tokenized at once."""


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
        n_tokens: stop after the document that brings the total to this many tokens, or within it where it goes on for
            more than `MAX_REST` tokens; None reads everything.
        leading: what the subject puts in front of every sequence; None is what the tokenizer does.
    """
    tokenizer = own_copy(tokenizer)
    sequence_id = total = 0
    for batch in _batches(documents):
        for document, pieces in zip(batch, _encoded(batch, tokenizer, leading), strict=True):
            split = split_of(document.text)
            for token_ids in _cut(pieces, seq_len):
                yield Window(sequence_id, token_ids, split, document.source)
                sequence_id += 1
                total += len(token_ids)
                if n_tokens is not None and total >= n_tokens + MAX_REST:
                    return
            if n_tokens is not None and total >= n_tokens:
                return


def _encoded(batch: list[Document], tokenizer: Any, leading: Sequence[int] | None) -> list[Iterable[list[int]]]:
    """Each document's token ids, in pieces: all at once, but for a long document, which is a batch of its own."""
    if _is_long(batch[0]):
        return [encode_in_pieces(batch[0], tokenizer, _PIECE_CHARACTERS, leading)]
    return [[token_ids] for token_ids in encode(batch, tokenizer, leading)]


def _cut(pieces: Iterable[list[int]], seq_len: int) -> Iterator[list[int]]:
    rest: list[int] = []
    smallest = MIN_TOKENS
    for piece in pieces:
        rest += piece
        for start in range(0, len(rest) - seq_len + 1, seq_len):
            yield rest[start : start + seq_len]
            smallest = MIN_TAIL
        rest = rest[len(rest) // seq_len * seq_len :]
    if rest and len(rest) >= min(smallest, seq_len):
        yield rest


def _is_long(document: Document) -> bool:
    return len(document.text) > _BATCH_CHARACTERS


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Groups that are worth a call of the tokenizer, and small enough for memory."""
    batch: list[Document] = []
    characters = 0
    for document in documents:
        if _is_long(document):
            yield from [batch, [document]] if batch else [[document]]
            batch, characters = [], 0
            continue
        batch.append(document)
        characters += len(document.text)
        if len(batch) == _BATCH_DOCUMENTS or characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
