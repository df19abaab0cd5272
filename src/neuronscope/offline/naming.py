"""What words have in common: the nearest names of categories, by the embeddings that compare meanings anyway."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from neuronscope.llm.embeddings import aembed, unit_length

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

MEMBER = 1.75
"""A word is one of a category if it is nearer to its name than words at large, by so many standard deviations."""
CLEAR = 4.0
"""Nearer than this counts no more, so that one word, itself part of a name, does not decide for all."""
PROFILE = 1.5
"""Names that are nearer to a word than this tell it from other words."""
WORDS_KEPT = 4096
"""Words whose place among the names is remembered: some 50 MB."""
LEAST_MEMBERS = 2
"""One word alone has nothing in common with another."""


class Name(NamedTuple):
    """A category, and which words are of it."""

    text: str
    members: frozenset[str]


@lru_cache(maxsize=1)
def categories() -> tuple[str, ...]:
    """Names of categories of words, "months of the year"."""
    text = files("neuronscope.offline").joinpath("categories.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line)


async def nearest_names(words: Sequence[str], embeddings: Embeddings, n: int, agent: str) -> list[Name]:
    """The categories that fit some words best, the best first; none where they have little in common.

    How near a word is to a name is compared with how near the words are that all the names are made of: some names are
    near to everything.

    Raises:
        LLMError: the embeddings cannot be used.
    """
    if len(words) < LEAST_MEMBERS:
        return []
    names, known = categories(), await _Known.of(embeddings, agent)
    _, nearness = await known.placed(words, embeddings, agent)
    order = np.argsort(-np.minimum(nearness, CLEAR).mean(axis=1), kind="stable")
    found = (
        Name(names[index], frozenset(word for word, z in zip(words, nearness[index], strict=True) if z >= MEMBER))
        for index in order[: 4 * n]
    )
    return [name for name in found if len(name.members) >= LEAST_MEMBERS][:n]


async def word_vectors(words: Sequence[str], embeddings: Embeddings, agent: str) -> NDArray[np.float64]:
    """Vectors of unit length in which words of one category are near: what they are, and which names they are near to.

    Raises:
        LLMError: the embeddings cannot be used.
    """
    known = await _Known.of(embeddings, agent)
    vectors, nearness = await known.placed(words, embeddings, agent)
    profiles = unit_length(np.clip(nearness.T - PROFILE, 0.0, None))
    return unit_length(np.concatenate([unit_length(vectors - known.mean), profiles], axis=1))


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """What does not depend on the words that are compared with names."""

    names: NDArray[np.float64]
    """Shape `(names, dimensions)`."""
    mean: NDArray[np.float64]
    """The mean vector of words at large: of those that all the names are made of."""
    cosine: NDArray[np.float64]
    """Shape `(names, 1)`: how near such words are to each name in the mean, ..."""
    deviation: NDArray[np.float64]
    """... and their standard deviation."""
    words: OrderedDict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=OrderedDict)
    """The vectors of the latest words, and how near they are to each name."""

    @classmethod
    async def of(cls, embeddings: Embeddings, agent: str) -> _Known:
        """By some embeddings, asked once as long as the object lives."""
        with suppress(TypeError):  # not every object can be a key
            if (known := _KNOWN.get(embeddings)) is not None:
                return known
        names = categories()
        at_large = sorted({word for name in names for word in name.split()})
        vectors = await aembed(embeddings, [*names, *at_large], agent)
        cosines = vectors[: len(names)] @ vectors[len(names) :].T
        known = cls(
            vectors[: len(names)],
            vectors[len(names) :].mean(axis=0),
            cosines.mean(axis=1, keepdims=True),
            np.maximum(cosines.std(axis=1, keepdims=True), 1e-6),
        )
        with suppress(TypeError):
            _KNOWN[embeddings] = known
        return known

    async def placed(
        self, words: Sequence[str], embeddings: Embeddings, agent: str
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Vectors of words, and how near they are to names, which is asked of the embeddings where it is not known.

        Returns:
            The vectors, `(words, dimensions)`; and how many standard deviations nearer each is to each name than words
            at large: `(names, words)`.
        """
        found = {word: known for word in words if (known := self.words.get(word)) is not None}
        missing = [word for word in dict.fromkeys(words) if word not in found]
        if missing:
            vectors = await aembed(embeddings, missing, agent)
            nearness = ((self.names @ vectors.T - self.cosine) / self.deviation).T
            new = dict(zip(missing, zip(vectors, nearness, strict=True), strict=True))
            found |= new
            self.words.update(new)
            while len(self.words) > WORDS_KEPT:
                self.words.popitem(last=False)
        return np.stack([found[word][0] for word in words]), np.stack([found[word][1] for word in words], axis=1)


_KNOWN: WeakKeyDictionary[Embeddings, _Known] = WeakKeyDictionary()
