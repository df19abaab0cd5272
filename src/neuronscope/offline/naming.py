"""What words have in common: the nearest names of categories, by the embeddings that compare meanings anyway."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

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
    names = categories()
    vectors, n_names = await _embedded(words, embeddings, agent)
    nearness = _nearness(vectors, n_names, len(words))
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
    vectors, n_names = await _embedded(words, embeddings, agent)
    at_large = vectors[n_names : len(vectors) - len(words)].mean(axis=0)
    centred = unit_length(vectors[len(vectors) - len(words) :] - at_large)
    profiles = unit_length(np.clip(_nearness(vectors, n_names, len(words)).T - PROFILE, 0.0, None))
    return unit_length(np.concatenate([centred, profiles], axis=1))


async def _embedded(words: Sequence[str], embeddings: Embeddings, agent: str) -> tuple[NDArray[np.float64], int]:
    """The vectors of all names, of the words these are made of, and of some words; and how many names there are."""
    names = categories()
    at_large = sorted({word for name in names for word in name.split()})
    return await aembed(embeddings, [*names, *at_large, *words], agent), len(names)


def _nearness(vectors: NDArray[np.float64], n_names: int, n_words: int) -> NDArray[np.float64]:
    """How many standard deviations nearer each word is to each name than words at large: `(names, words)`."""
    cosines = vectors[:n_names] @ vectors[n_names:].T
    at_large, own = cosines[:, :-n_words], cosines[:, -n_words:]
    deviation = np.maximum(at_large.std(axis=1, keepdims=True), 1e-6)
    found: NDArray[np.float64] = (own - at_large.mean(axis=1, keepdims=True)) / deviation
    return found
