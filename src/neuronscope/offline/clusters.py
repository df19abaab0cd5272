"""Which conditions belong together: clusters by meaning, and by form where there is no meaning to compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from neuronscope.llm.embeddings import aembed
from neuronscope.offline.conditions import Condition
from neuronscope.offline.features import Selected

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

MAX_DISTANCE = 0.62
"""Words join a cluster while the average cosine distance to its members stays below this."""
MINIMUM_SHARE = 0.1
"""A cluster that explains less than this share of what all conditions explain is divided among the others, ..."""
COHERENT_SHARE, COHERENT_WORDS = 0.05, 3
"""... unless it is a cluster by meaning: then this share and this many words are enough."""
NEAREST = 3
"""A word is compared with the nearest few members of a cluster."""
MAX_CLUSTERS = 8
"""More clusters than this are not told apart."""


async def cluster_conditions(
    selected: Sequence[Selected], embeddings: Embeddings, explained: float | None = None, agent: str = "hypothesis"
) -> dict[Condition, int]:
    """Cluster conditions; the cluster that explains most is 0, and what is too small for one joins the nearest.

    Args:
        selected: the conditions.
        embeddings: what compares their meanings.
        explained: what modes explain already. Then a cluster that is too small compared with that, too, is left out.
        agent: who asks, for errors.

    Returns:
        The cluster of each condition, by its pattern.

    Raises:
        LLMError: the embeddings cannot be used.
    """
    labels = await _labels([each.condition for each in selected], embeddings, agent)
    gains: dict[str, float] = {}
    for label, each in zip(labels, selected, strict=True):
        gains[label] = gains.get(label, 0.0) + each.gain
    total = sum(gains.values()) + (explained or 0.0)
    ordered = sorted(gains, key=lambda label: -gains[label])
    large = [label for label in ordered if gains[label] >= _needed(label, labels) * total][:MAX_CLUSTERS]
    if explained is None:
        large = large or ordered[:1]
    indices = {label: index for index, label in enumerate(large)}
    found = {
        each.condition.pattern: indices[label] for label, each in zip(labels, selected, strict=True) if label in indices
    }
    if explained is None:
        rest = [each.condition for label, each in zip(labels, selected, strict=True) if label not in indices]
        clusters = [
            [each.condition for label, each in zip(labels, selected, strict=True) if label == one] for one in large
        ]
        nearest = await nearest_cluster(rest, clusters, embeddings, agent)
        found |= {condition.pattern: index for condition, index in zip(rest, nearest, strict=True)}
    return found


def _needed(label: str, labels: Sequence[str]) -> float:
    """The share of the whole that a cluster must explain to stand alone."""
    coherent = label.startswith("word ") and labels.count(label) >= COHERENT_WORDS
    return COHERENT_SHARE if coherent else MINIMUM_SHARE


async def nearest_cluster(
    conditions: Sequence[Condition],
    clusters: Sequence[Sequence[Condition]],
    embeddings: Embeddings,
    agent: str = "refinement",
) -> list[int]:
    """The index of the cluster that each condition fits best: by meaning, else by form, else the first.

    Raises:
        LLMError: the embeddings cannot be used.
    """
    members = [[member for member in cluster if _form(member) == "word"] for cluster in clusters]
    texts = [condition.text for group in [conditions, *members] for condition in group]
    vectors = dict(zip(texts, await aembed(embeddings, texts, agent), strict=True))
    forms = [{_form(member) for member in cluster} for cluster in clusters]

    def nearness(condition: Condition, index: int) -> float:
        if _form(condition) != "word":
            return float(_form(condition) in forms[index])
        cosines = sorted(
            (float(vectors[condition.text] @ vectors[other.text]) for other in members[index]), reverse=True
        )
        return float(np.mean(cosines[:NEAREST])) if cosines else 0.0

    return [max(range(len(clusters)), key=lambda index: nearness(condition, index)) for condition in conditions]


async def _labels(conditions: Sequence[Condition], embeddings: Embeddings, agent: str) -> list[str]:
    labels = [_form(condition) for condition in conditions]
    words = [index for index, label in enumerate(labels) if label == "word"]
    if len(words) > 1:
        from sklearn.cluster import AgglomerativeClustering

        vectors = await aembed(embeddings, [conditions[index].text for index in words], agent)
        clustering = AgglomerativeClustering(
            n_clusters=None, distance_threshold=MAX_DISTANCE, metric="cosine", linkage="average"
        )
        for index, label in zip(words, clustering.fit_predict(vectors), strict=True):
            labels[index] = f"word {label}"
    return labels


def _form(condition: Condition) -> str:
    """The cluster of what has no meaning of its own to compare."""
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
