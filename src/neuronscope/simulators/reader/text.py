"""A text as the reader compares it with sentences: its tokens, the words so far, and vectors of words."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuronscope.offline.tokens import content_of
from neuronscope.simulators.reader.sentence import WORD

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """A text's tokens as they are matched: what each is, and the word that it ends so far."""

    folded: list[str]
    """Each token in lower case."""
    contents: list[str]
    """Each token as it is compared, see `content_of`."""
    words: list[str]
    """For each token the word up to its end, in lower case; empty for white space and punctuation."""
    left: list[str]
    """For each token the text before it, in lower case, at most the last 100 characters."""
    continues: list[bool]
    """Whether a token continues a word."""
    capitalised: list[bool]
    """Whether a token begins with a capital letter."""


def text_of(tokens: Sequence[str]) -> Text:
    """A text's tokens as they are matched."""
    contents, words, left, continues, capitalised = [], [], [], [], []
    before, word = "", ""
    every = [token.casefold() for token in tokens]
    for token, folded in zip(tokens, every, strict=True):
        pieces = WORD.findall(folded)
        glued = bool(word) and bool(folded) and (folded[0].isalnum() or folded[0] in "'’")
        ends_in_word = bool(folded) and folded[-1].isalnum()
        contents.append(content_of(token))
        continues.append(glued)
        capitalised.append(token.strip()[:1].isupper())
        left.append(before[-100:])
        if pieces and ends_in_word:
            word = word + folded if glued and len(pieces) == 1 else pieces[-1]
        elif folded:
            word = ""
        words.append(word if folded else "")
        before += folded
    return Text(every, contents, words, left, continues, capitalised)


class Vectors:
    """MiniLM's vectors of words and short phrases, the latest remembered."""

    def __init__(self, capacity: int = 60_000) -> None:
        self._vectors: OrderedDict[str, Array] = OrderedDict()
        self._capacity = capacity

    def remember(self, texts: Iterable[str]) -> None:
        """Embed what is not known yet, in one batch."""
        from neuronscope.llm.embeddings import embed, resolve_embeddings

        missing = list(dict.fromkeys(text for text in texts if text and text not in self._vectors))
        if missing:
            vectors = embed(resolve_embeddings("minilm"), missing, "the reader").astype(np.float32)
            self._vectors.update(zip(missing, vectors, strict=True))
        while len(self._vectors) > max(self._capacity, len(missing)):
            self._vectors.popitem(last=False)

    def stack(self, texts: Sequence[str]) -> Array:
        """The vectors of texts, zeros for an empty one."""
        self.remember(texts)
        zero = np.zeros(384, dtype=np.float32)
        return np.stack([self._vectors[text] if text else zero for text in texts])
