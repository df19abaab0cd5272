"""A text as the reader compares it with sentences: its tokens, and the words so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from sys import intern
from typing import overload

import numpy as np
from numpy.typing import NDArray

from neuronscope.offline.kinds import kinds_of
from neuronscope.offline.tokens import WORD, content_of

LEFT = 100
"""Characters of the text before a token that are looked at."""


class LeftContexts(Sequence[str]):
    """For each token the text before it, cut out of the whole text when it is asked for."""

    def __init__(self, whole: str, starts: list[int]) -> None:
        self._whole, self._starts = whole, starts

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, position: int) -> str: ...
    @overload
    def __getitem__(self, position: slice) -> list[str]: ...
    def __getitem__(self, position: int | slice) -> str | list[str]:
        if isinstance(position, slice):
            return [self[each] for each in range(*position.indices(len(self)))]
        start = self._starts[position]
        return self._whole[max(start - LEFT, 0) : start]


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """A text's tokens as they are matched: what each is, and the word that it ends so far."""

    folded: list[str]
    """Each token in lower case."""
    contents: list[str]
    """Each token as it is compared, see `content_of`."""
    words: list[str]
    """For each token the word up to its end, in lower case; empty for white space and punctuation."""
    left: Sequence[str]
    """For each token the text before it, in lower case, at most the last 100 characters."""
    continues: list[bool]
    """Whether a token continues a word."""
    capitalised: list[bool]
    """Whether a token begins with a capital letter."""
    kinds: NDArray[np.bool_]
    """Of which of `KINDS` a token is, `(n_tokens, n_kinds)`."""


def text_of(tokens: Sequence[str]) -> Text:
    """A text's tokens as they are matched. Strings that are alike are one object, in whichever text they are."""
    contents, words, continues, capitalised = [], [], [], []
    word = ""
    every = [intern(token.casefold()) for token in tokens]
    for token, folded in zip(tokens, every, strict=True):
        pieces = WORD.findall(folded)
        glued = bool(word) and bool(folded) and (folded[0].isalnum() or folded[0] in "'’")
        ends_in_word = bool(folded) and folded[-1].isalnum()
        contents.append(intern(content_of(token)))
        continues.append(glued)
        capitalised.append(token.strip()[:1].isupper())
        if pieces and ends_in_word:
            word = word + folded if glued and len(pieces) == 1 else pieces[-1]
        elif folded:
            word = ""
        words.append(intern(word) if folded else "")
    starts = [0, *accumulate(map(len, every))][:-1]
    return Text(
        every,
        contents,
        words,
        LeftContexts("".join(every), starts),
        continues,
        capitalised,
        kinds_of(tokens, contents, words, continues),
    )
