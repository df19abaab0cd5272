"""Which trigger words belong together: families by meaning, and by form where there is no meaning to compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from neuronscope.llm.embeddings import aembed
from neuronscope.offline.english import Condition
from neuronscope.offline.pursuit import Weighted

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

MAX_DISTANCE = 0.62
"""Words join a family while the average cosine distance to its members stays below this."""
MINIMUM_SHARE = 0.4
"""A family that explains less than this share of what all conditions explain joins the largest, ..."""
COHERENT_SHARE, COHERENT_WORDS = 0.12, 3
"""... unless it is a family by meaning: then this share and this many words are enough."""
NEAREST = 3
"""A word is compared with the nearest few members of a family."""
MAX_FAMILIES = 8
"""More families than this are not told apart."""


async def group_into_families(
    found: Sequence[Weighted], embeddings: Embeddings, agent: str = "hypothesis"
) -> dict[Condition, int]:
    """Number the families of conditions, the one that explains most first.

    Returns:
        The family of each condition, keyed by the condition with strength 0.

    Raises:
        LLMError: the embeddings cannot be used.
    """
    labels = await _labels([weighted.condition for weighted in found], embeddings, agent)
    gains: dict[str, float] = {}
    for label, weighted in zip(labels, found, strict=True):
        gains[label] = gains.get(label, 0.0) + weighted.gain
    total = sum(gains.values())
    ordered = sorted(gains, key=lambda label: -gains[label])
    kept = [label for label in ordered if gains[label] >= _needed(label, labels) * total][:MAX_FAMILIES] or ordered[:1]
    numbers = {label: kept.index(label) if label in kept else 0 for label in ordered}
    return {
        replace(weighted.condition, strength=0.0): numbers[label] for label, weighted in zip(labels, found, strict=True)
    }


def _needed(label: str, labels: Sequence[str]) -> float:
    """The share of the whole that a family must explain to stand alone."""
    coherent = label.startswith("word ") and labels.count(label) >= COHERENT_WORDS
    return COHERENT_SHARE if coherent else MINIMUM_SHARE


async def nearest_family(
    conditions: Sequence[Condition],
    families: Sequence[Sequence[Condition]],
    embeddings: Embeddings,
    agent: str = "refinement",
) -> list[int]:
    """Number the family that each condition fits best: by meaning, else by form, else the first.

    Raises:
        LLMError: the embeddings cannot be used.
    """
    members = [[member for member in family if _form(member) == "word"] for family in families]
    texts = [condition.text for group in [conditions, *members] for condition in group]
    vectors = dict(zip(texts, await aembed(embeddings, texts, agent), strict=True))
    forms = [{_form(member) for member in family} for family in families]

    def nearness(condition: Condition, number: int) -> float:
        if _form(condition) != "word":
            return float(_form(condition) in forms[number])
        cosines = sorted(
            (float(vectors[condition.text] @ vectors[other.text]) for other in members[number]), reverse=True
        )
        return float(np.mean(cosines[:NEAREST])) if cosines else 0.0

    return [max(range(len(families)), key=lambda number: nearness(condition, number)) for condition in conditions]


async def _labels(conditions: Sequence[Condition], embeddings: Embeddings, agent: str) -> list[str]:
    labels = [_form(condition) for condition in conditions]
    words = [number for number, label in enumerate(labels) if label == "word"]
    if len(words) > 1:
        from sklearn.cluster import AgglomerativeClustering

        vectors = await aembed(embeddings, [conditions[number].text for number in words], agent)
        clustering = AgglomerativeClustering(
            n_clusters=None, distance_threshold=MAX_DISTANCE, metric="cosine", linkage="average"
        )
        for number, label in zip(words, clustering.fit_predict(vectors), strict=True):
            labels[number] = f"word {label}"
    return labels


def _form(condition: Condition) -> str:
    """The family of what has no meaning of its own to compare."""
    text = condition.text
    if condition.form == "part":
        return "parts"
    if not text:
        return f"after {condition.after[0]}"
    if text.isdigit():
        return "numbers"
    if not text[0].isalpha():
        return "symbols"
    return "word" if len(text) > 2 else "short words"
