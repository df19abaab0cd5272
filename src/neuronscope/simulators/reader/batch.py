"""The tokens of several texts at once, as arrays: what a sentence is compared with, prepared once for all sentences.

Strings are coded as numbers: whatever depends on a token's string alone is decided once for each distinct string.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from neuronscope.offline.conditions import Condition
from neuronscope.offline.kinds import KINDS
from neuronscope.offline.text import Text
from neuronscope.offline.tokens import WORD, ends_with, is_of_kind
from neuronscope.simulators.reader.sentence import PROBES, stem
from neuronscope.simulators.reader.vectors import Vectors

Array = NDArray[np.float32]
Flags = NDArray[np.bool_]
Positions = NDArray[np.intp]

TRAIL = 8
"""Words up to a token that are compared with a phrase."""


class Coded:
    """A string for each token, as the number of a distinct string.

    Args:
        strings: one for each token.
    """

    def __init__(self, strings: Iterable[str]) -> None:
        self.index: dict[str, int] = {}
        """The number of each distinct string."""
        codes = [self.index.setdefault(string, len(self.index)) for string in strings]
        self.codes: NDArray[np.int32] = np.array(codes, dtype=np.int32)
        """For each token, the number of its string."""

    def positions(self, string: str) -> Positions:
        """The tokens that have a string."""
        code = self.index.get(string)
        return np.flatnonzero(self.codes == code) if code is not None else np.zeros(0, dtype=np.intp)

    def among(self, strings: Iterable[str]) -> Flags:
        """For each token, whether its string is one of these."""
        chosen = np.zeros(len(self.index), dtype=np.bool_)
        chosen[[self.index[string] for string in strings if string in self.index]] = True
        return chosen[self.codes]

    def where(self, test: Callable[[str], Any]) -> Flags:
        """For each token, whether its string passes a test."""
        passed = np.fromiter((bool(test(string)) for string in self.index), dtype=np.bool_, count=len(self.index))
        return passed[self.codes]

    def of(self, values: NDArray[Any]) -> NDArray[Any]:
        """For each token its string's value, of one value for each distinct string."""
        return values[self.codes]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """The tokens of several texts, one after the other. Arrays have a value for each token, unless they say more."""

    texts: tuple[Text, ...]
    text_of: NDArray[np.intp]
    """The number of its text."""
    first: NDArray[np.intp]
    """The position of its text's first token."""
    spans: tuple[tuple[int, int], ...]
    """Where each text begins and ends."""
    words: Coded
    """The word up to a token's end; empty for white space and punctuation."""
    contents: Coded
    stems: Coded
    lasts: Coded
    """The last word before a token's own."""
    endings: dict[str, list[str]]
    """Distinct tokens without the spaces at their ends, by their last character, and those of spaces alone."""
    ended: Coded
    """Those that `endings` lists."""
    continues: Flags
    capitalised: Flags
    seen: Flags
    """Whether the same word so far was there before."""
    start: NDArray[np.intp]
    """The position of the token that its word begins with."""
    has_word_before: Flags
    """Whether a word stands directly before its word."""
    probed: Array
    """What the probes tell, `(n_tokens, n_probes)`."""
    vectors: Array
    """Of each distinct word, `(n_words, 384)`."""
    corrected: Array
    """The same as `Kinship` compares them."""
    has_word: Flags
    symbol: Flags
    """Whether it has characters, but neither letters nor digits."""
    digits: Flags
    of_kinds: Flags
    """Of which of `KINDS` it is, `(n_tokens, n_kinds)`."""
    before: NDArray[np.intp]
    """The position of the last token before its word that is no space, -1 for none."""
    classes: dict[re.Pattern[str], Flags] = field(default_factory=dict)
    """Which tokens are of a class that was asked for."""
    kinds: dict[str, Flags] = field(default_factory=dict)
    """Which tokens are of a kind that was asked for."""
    followed: dict[str, Flags] = field(default_factory=dict)
    """Which tokens stand after a text that was asked for."""
    matches: dict[Condition, Positions] = field(default_factory=dict)
    """Where conditions that were asked for apply, by pattern."""
    trails: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """The last words up to a token that was asked for."""

    def __len__(self) -> int:
        return len(self.first)

    def left(self, position: int) -> str:
        """The text before a token."""
        left: str = self.texts[self.text_of[position]].left[position - self.first[position]]
        return left

    def folded(self, position: int) -> str:
        """A token in lower case."""
        token: str = self.texts[self.text_of[position]].folded[position - self.first[position]]
        return token

    def previous(self, values: NDArray[Any]) -> NDArray[Any]:
        """For each token the value of the one before it in its text, 0 for a text's first."""
        moved = np.zeros_like(values)
        moved[1:] = values[:-1]
        moved[np.arange(len(self)) == self.first] = 0
        return moved

    def ending_in(self, wanted: str) -> Flags:
        """Tokens where a text may end, as far as these tokens themselves tell: spaces, or one end of it or more."""
        tails = self.endings.get(wanted[-1:], [])
        return self.ended.among([*(t for t in tails if t.endswith(wanted) or wanted.endswith(t)), ""])

    def after(self, wanted: str) -> Flags:
        """Tokens that stand directly after a text, see `ends_with`."""
        if wanted not in self.followed:
            possible = np.ones(len(self), dtype=np.bool_)
            if not wanted.isspace():
                possible[1:] = self.ending_in(wanted[1:] or wanted if wanted[:1] == "-" else wanted)[:-1]
            found = np.zeros(len(self), dtype=np.bool_)
            for position in np.flatnonzero(possible).tolist():
                found[position] = ends_with(self.left(position), wanted)
            self.followed[wanted] = found
        return self.followed[wanted]

    def of_class(self, pattern: re.Pattern[str]) -> Flags:
        """Tokens whose content or word a pattern matches."""
        if pattern not in self.classes:
            words = self.words.where(lambda word: word and pattern.match(word))
            self.classes[pattern] = words | self.contents.where(pattern.match)
        return self.classes[pattern]

    def of_kind(self, name: str) -> Flags:
        """Tokens of a kind that `english` knows by name."""
        if name not in self.kinds:
            capital = self.contents.where(lambda content: is_of_kind(name, content, True))
            small = self.contents.where(lambda content: is_of_kind(name, content, False))
            self.kinds[name] = np.where(self.capitalised, capital, small)
        return self.kinds[name]

    def trail(self, position: int) -> tuple[str, ...]:
        """The last words up to a token, its own as it is so far."""
        if position not in self.trails:
            text, at = self.texts[self.text_of[position]], position - self.first[position]
            words = [*WORD.findall(text.left[at]), text.words[at]][-TRAIL:]
            if text.continues[at] and len(words) > 1:
                del words[-2]
            self.trails[position] = tuple(words)
        return self.trails[position]


def batch_of(
    texts: Sequence[Text], probed: Sequence[Array], vectors: Vectors, corrected: Callable[[Sequence[str]], Array]
) -> Batch:
    """Texts as one batch.

    Args:
        texts: what each token is.
        probed: for each text, for each token what each of `PROBES` tells of it, a share.
        vectors: of words.
        corrected: from words to vectors as `Kinship` compares them.
    """
    lengths = [len(text.contents) for text in texts]
    offsets = np.cumsum([0, *lengths], dtype=np.intp)[:-1]
    first = np.repeat(offsets, lengths)
    alone = [_alone(text) for text in texts]
    words = Coded(chain.from_iterable(text.words for text in texts))
    contents = Coded(chain.from_iterable(text.contents for text in texts))
    ended = Coded(chain.from_iterable(each.tails for each in alone))
    endings: dict[str, list[str]] = {}
    for tail in ended.index:
        endings.setdefault(tail[-1:], []).append(tail)
    flags = np.concatenate([np.zeros((len(_Alone.FLAGS), 0), np.bool_), *(each.flags for each in alone)], axis=1)
    before = np.concatenate([np.zeros(0, np.intp), *(each.before for each in alone)])
    distinct = list(words.index)
    return Batch(
        texts=tuple(texts),
        text_of=np.repeat(np.arange(len(texts)), lengths),
        first=first,
        spans=tuple(zip(offsets.tolist(), (offsets + lengths).tolist(), strict=True)),
        words=words,
        contents=contents,
        stems=Coded(chain.from_iterable(each.stems for each in alone)),
        lasts=Coded(chain.from_iterable(each.lasts for each in alone)),
        endings=endings,
        ended=ended,
        **dict(zip(_Alone.FLAGS, flags, strict=True)),
        start=first + np.concatenate([np.zeros(0, np.intp), *(each.start for each in alone)]),
        probed=np.concatenate([np.zeros((0, len(PROBES)), dtype=np.float32), *probed]),
        vectors=vectors.stack(distinct),
        corrected=corrected(distinct),
        has_word=words.where(bool),
        symbol=contents.where(lambda content: content and not any(character.isalnum() for character in content)),
        digits=contents.where(str.isdigit),
        of_kinds=np.concatenate([np.zeros((0, len(KINDS)), dtype=np.bool_), *(text.kinds for text in texts)]),
        before=np.where(before < 0, -1, first + before),
    )


def before_words(text: Text) -> list[int]:
    """For each token the last one before its word that is no space, -1 for none."""
    out, last, of_word = [], -1, -1
    for position, content in enumerate(text.contents):
        if not text.continues[position]:
            of_word = last
        out.append(of_word)
        if content.strip(" "):
            last = position
    return out


@dataclass(frozen=True, slots=True, eq=False)
class _Alone:
    """What a `Batch` has of each token of one text; positions are within the text."""

    FLAGS: ClassVar = ("continues", "capitalised", "seen", "has_word_before")

    tails: list[str]
    stems: list[str]
    lasts: list[str]
    start: Positions
    before: Positions
    flags: Flags
    """Shape `(4, n_tokens)`, in the order of `FLAGS`."""


@lru_cache(maxsize=8192)
def _alone(text: Text) -> _Alone:
    lasts, seen, starts, word_before = [], [], [], []
    last, start = "", 0
    known: set[str] = set()
    for position, (content, word) in enumerate(zip(text.contents, text.words, strict=True)):
        begins = not text.continues[position]
        if begins:
            start = position
            if position and text.words[position - 1]:
                last = text.words[position - 1]
        key = word or content
        lasts.append(last)
        seen.append(key in known)
        starts.append(start)
        word_before.append(bool(start and text.words[start - 1]))
        known.add(key)
    return _Alone(
        tails=[folded.rstrip(" ") for folded in text.folded],
        stems=[stem(word) if word else "" for word in text.words],
        lasts=lasts,
        start=np.array(starts, dtype=np.intp),
        before=np.array(before_words(text), dtype=np.intp),
        flags=np.array([text.continues, text.capitalised, seen, word_before], dtype=np.bool_),
    )
