"""What words have in common: the nearest names of categories, by the embeddings that compare meanings anyway."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuronscope.llm.embeddings import aembed

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

MEMBER = 1.75
"""A word is one of a category if it is nearer to its name than words at large, by so many standard deviations."""
CLEAR = 4.0
"""Nearer than this counts no more, so that one word, itself part of a name, does not decide for all."""
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
    at_large = sorted({word for name in names for word in name.split()})
    vectors = await aembed(embeddings, [*names, *at_large, *words], agent)
    nearness = _nearness(vectors, len(names), len(words))
    order = np.argsort(-np.minimum(nearness, CLEAR).mean(axis=1), kind="stable")
    found = (
        Name(names[index], frozenset(word for word, z in zip(words, nearness[index], strict=True) if z >= MEMBER))
        for index in order[: 4 * n]
    )
    return [name for name in found if len(name.members) >= LEAST_MEMBERS][:n]


def _nearness(vectors: NDArray[np.float64], n_names: int, n_words: int) -> NDArray[np.float64]:
    """How many standard deviations nearer each word is to each name than words at large: `(names, words)`."""
    cosines = vectors[:n_names] @ vectors[n_names:].T
    at_large, own = cosines[:, :-n_words], cosines[:, -n_words:]
    deviation = np.maximum(at_large.std(axis=1, keepdims=True), 1e-6)
    found: NDArray[np.float64] = (own - at_large.mean(axis=1, keepdims=True)) / deviation
    return found
