"""A text as conditions see it: its tokens, the words they belong to, and what stands to their left."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

CONTEXT_WORDS = 12
"""A token's left context for the semantic channel: this many words, the token's own last."""
CONTEXT_STRIDE = 4
"""Left contexts are embedded at every fourth word: they change slowly, and embedding is what costs."""

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
"""A word within a text."""
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|_+|[^\w\s]|\n+")


@dataclass(frozen=True, slots=True, eq=False)
class TokenFeatures:
    """What can be compared with an explanation, computed once per exemplar."""

    text: str
    """The whole text, case folded."""
    starts: list[int]
    """Where each token begins in `text`."""
    ends: list[int]
    """Where each token ends in `text`."""
    contents: list[str]
    """Each token as it is compared, see `content_of`."""
    continues: NDArray[np.bool_]
    """Whether a token continues the word that the token before it began."""
    capitalised: NDArray[np.bool_]
    """Whether a token begins with a capital letter."""
    words: list[str]
    """The distinct words of the text, in order of appearance."""
    word_of: NDArray[np.int64]
    """For each token, the index of its word in `words`; -1 for none (white space, punctuation)."""
    contexts: list[str]
    """Left contexts that are embedded."""
    context_of: NDArray[np.int64]
    """For each token, the index of its left context in `contexts`."""
    positions: dict[str, list[int]]
    """Token content to the positions where it stands."""

    def preceded_by(self, position: int, before: str) -> bool:
        """Whether a text stands directly before a token, see `ends_with`."""
        return ends_with(self.text[: self.starts[position]], before)

    def spans(self, phrase: str) -> list[tuple[int, int]]:
        """The first and last token of each occurrence of a phrase, as whole words."""
        bounded = re.escape(phrase)
        if phrase[:1].isalnum():
            bounded = rf"(?<!\w){bounded}"
        if phrase[-1:].isalnum():
            bounded = rf"{bounded}(?!\w)"
        found = []
        for match in re.finditer(bounded, self.text):
            first = int(np.searchsorted(self.ends, match.start(), side="right"))
            last = int(np.searchsorted(self.starts, match.end(), side="left")) - 1
            if first <= last:
                found.append((first, last))
        return found


def content_of(text: str) -> str:
    """What tokens are compared by: lower case, no spaces around it; white space alone is kept."""
    folded = text.casefold()
    return folded.strip(" ") or folded


def ends_with(left: str, before: str) -> bool:
    """Whether a left context ends with a text; a leading hyphen lets it begin in the middle of a word."""
    inside = len(before) > 1 and before[0] == "-" and before[1].isalpha()
    wanted = before[1:] if inside else before
    trimmed = left if wanted.isspace() else left.rstrip(" ")
    if not trimmed.endswith(wanted):
        return False
    outer = trimmed[: len(trimmed) - len(wanted)]
    return inside or not (wanted[:1].isalpha() and outer[-1:].isalpha())


def is_of_kind(name: str, content: str, is_capitalised: bool) -> bool:
    """Whether a token is of a kind that `english` knows by name."""
    if name == "numbers":
        return content.isdigit()
    if name == "line breaks":
        return "\n" in content
    if name == "punctuation":
        return bool(content.strip()) and not any(character.isalnum() for character in content)
    return is_capitalised


def token_features(tokens: Sequence[str]) -> TokenFeatures:
    """The features of a sequence of tokens, those of the latest texts remembered: the neurons of a layer share text."""
    return _features_of(tuple(tokens))


@lru_cache(maxsize=4096)
def _features_of(tokens: tuple[str, ...]) -> TokenFeatures:
    folded = [token.casefold() for token in tokens]
    ends = np.cumsum([len(token) for token in folded]).tolist()
    starts = [0, *ends[:-1]]
    text = "".join(folded)
    contents = [content_of(token) for token in tokens]
    positions: dict[str, list[int]] = defaultdict(list)
    for position, content in enumerate(contents):
        positions[content].append(position)
    words: dict[str, int] = {}
    word_of = np.full(len(tokens), -1, dtype=np.int64)
    contexts: list[str] = []
    context_of = np.zeros(len(tokens), dtype=np.int64)
    begins: list[int] = []
    found = list(_WORD.finditer(text))
    ordinal = 0
    for position in range(len(tokens)):
        while ordinal + 1 < len(found) and found[ordinal + 1].start() < ends[position]:
            ordinal += 1
        if found and found[ordinal].start() < ends[position] and found[ordinal].end() > starts[position]:
            word = found[ordinal].group()
            if word[0].isalnum():
                word_of[position] = words.setdefault(word, len(words))
            begins.append(found[ordinal].start())
        else:
            begins.append(ends[position])
        context_of[position] = ordinal // CONTEXT_STRIDE
    for last in range(0, max(len(found), 1), CONTEXT_STRIDE):
        window = found[max(0, last + 1 - CONTEXT_WORDS) : last + 1]
        contexts.append(text[window[0].start() : window[-1].end()] if window else "")
    inside = np.array([begin < start for begin, start in zip(begins, starts, strict=True)], dtype=np.bool_)
    return TokenFeatures(
        text=text,
        starts=starts,
        ends=ends,
        contents=contents,
        continues=inside & (word_of >= 0),
        capitalised=np.array([token.strip()[:1].isupper() for token in tokens], dtype=np.bool_),
        words=list(words),
        word_of=word_of,
        contexts=contexts,
        context_of=context_of,
        positions=dict(positions),
    )
