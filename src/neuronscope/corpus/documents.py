"""Documents, conversations among them; the split each belongs to; and a corpus, which is a stream of them.

Text is streamed: nothing but the digests of the documents already seen stays in memory (16 bytes each, some 90 with
what Python adds), so that exact duplicates can be dropped.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from neuronscope.errors import CorpusError
from neuronscope.types import Split

_ENDS: dict[Split, float] = {"train": 0.60, "feedback": 0.70, "validation": 0.85, "test": math.inf}
"""Where in the range of the hash, 0 to 1, each split ends. A document never moves from or to validation and test."""


class Turn(NamedTuple):
    """What one side of a conversation says at once."""

    role: str
    """Who speaks: `"system"`, `"user"`, `"assistant"`, or another role that a chat template knows."""
    content: str
    """The words, untouched."""


@dataclass(frozen=True, slots=True)
class Document:
    """One piece of text: the unit that a split, and every sequence, belongs to."""

    text: str
    """The text itself; of a conversation, its turns with a label before each."""
    source: str
    """Which part of the corpus it came from, such as `"news"`."""
    turns: tuple[Turn, ...] = ()
    """The turns of a conversation: a subject with a chat template reads them, and not `text`."""

    @classmethod
    def conversation(cls, turns: Iterable[tuple[str, str]], source: str) -> Document:
        """A document of turns.

        Its `text` does not depend on any subject, so every subject has the conversation in the same split.

        Args:
            turns: pairs of role and content, in order.
            source: which part of the corpus it came from.
        """
        spoken = tuple(Turn(role, content) for role, content in turns)
        if not any(turn.content.strip() for turn in spoken):
            return cls("", source)
        return cls("\n\n".join(f"{turn.role.capitalize()}: {turn.content}" for turn in spoken), source, spoken)


@dataclass(frozen=True, slots=True)
class Corpus:
    """A stream of documents: no empty ones, no exact duplicates.

    Raises:
        CorpusError: on iteration, if a file cannot be read or no document is left.
    """

    name: str
    """What people call it."""
    read: Callable[[], Iterator[Document]]
    """Starts reading from the beginning."""
    identity: Callable[[], str]
    """Says what is in the corpus; see `key`."""
    n_characters: int | None = None
    """Roughly how much text there is, if known; only progress bars read it."""

    def key(self) -> str:
        """A stable identity: equal for equal content, whatever the path or the time."""
        return self.identity()

    def __iter__(self) -> Iterator[Document]:
        """The documents, in a fixed order."""
        seen: set[bytes] = set()
        for document in self.read():
            document = _readable(document)
            if not document.text.strip():
                continue
            digest = digest_of(document.text)
            if digest in seen:
                continue
            seen.add(digest)
            yield document
        if not seen:
            raise CorpusError(f"The corpus {self.name!r} has no text. Give it at least one document that is not empty.")


def split_of(text: str) -> Split:
    """The split of a document, decided by a hash of its text alone.

    60 % are train, 10 % feedback, 15 % validation and 15 % test. Each source comes out in these shares in expectation,
    without a second pass over a stream.
    """
    fraction = int.from_bytes(digest_of(text)[:8], "big") / 2**64
    return next(split for split, end in _ENDS.items() if fraction < end)


def digest_of(text: str) -> bytes:
    """Sixteen bytes that stand for a text."""
    return hashlib.blake2b(_encodable(text).encode(), digest_size=16).digest()


def _readable(document: Document) -> Document:
    """The document without lone surrogates; nearly always the same object."""
    text = _encodable(document.text)
    if text is document.text:
        return document
    turns = tuple(Turn(_encodable(turn.role), _encodable(turn.content)) for turn in document.turns)
    return Document(text, document.source, turns)


def _encodable(text: str) -> str:
    """The text with lone surrogates replaced, which no tokenizer accepts; nearly always the same object."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
