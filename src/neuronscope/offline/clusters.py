"""Which conditions belong together: clusters by meaning, and by form where there is no meaning to compare."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from neuronscope.offline.conditions import Condition
from neuronscope.offline.features import Selected
from neuronscope.offline.naming import nearest_names, word_vectors

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

MAX_DISTANCE = 0.9
"""Words join a cluster while the average cosine distance to its members stays below this."""
MINIMUM_SHARE = 0.1
"""A cluster that explains less than this share of what all conditions explain is divided among the others, ..."""
COHERENT_SHARE, COHERENT_WORDS = 0.05, 3
"""... unless it is one by meaning, or by what many words share: then this share and this many words are enough."""
NEAREST = 3
"""A word is compared with the nearest few members of a cluster."""
NAMES_COMPARED = 3
"""Clusters of words are joined if the name that fits the one best is among so many that fit the other."""
LEAST_NEAR = 0.1
"""A condition that no cluster is nearer to joins none."""
MAX_CLUSTERS = 8
"""More clusters than this are not told apart."""


async def cluster_conditions(
    selected: Sequence[Selected],
    embeddings: Embeddings,
    explained: float | None = None,
    pieces: Collection[str] = (),
    agent: str = "hypothesis",
) -> dict[Condition, int]:
    """Cluster conditions; the cluster that explains most is 0, and what is too small for one joins the nearest.

    Args:
        selected: the conditions.
        embeddings: what compares their meanings.
        explained: what modes explain already. Then a cluster that is too small compared with that, too, is left out.
        pieces: texts that begin longer words, and so have no meaning to compare.
        agent: who asks, for errors.

    Returns:
        The cluster of each condition, by its pattern.

    Raises:
        LLMError: the embeddings cannot be used.
    """
    labels = await _labels([each.condition for each in selected], pieces, embeddings, agent)
    labels = await _of_one_name(labels, selected, embeddings, agent)
    gains: dict[str, float] = {}
    for label, each in zip(labels, selected, strict=True):
        gains[label] = gains.get(label, 0.0) + each.gain
    total = sum(gains.values()) + (explained or 0.0)
    ordered = sorted(gains, key=lambda label: -gains[label])
    large = [label for label in ordered if gains[label] >= _needed(label, labels) * total][:MAX_CLUSTERS]
    indices = {label: index for index, label in enumerate(large)}
    found = {
        each.condition.pattern: indices[label] for label, each in zip(labels, selected, strict=True) if label in indices
    }
    rest = [each for label, each in zip(labels, selected, strict=True) if label not in indices]
    clusters = [[each.condition for label, each in zip(labels, selected, strict=True) if label == one] for one in large]
    near = await _near(rest, clusters, embeddings, agent) if explained is None and clusters else [-1] * len(rest)
    found |= {each.condition.pattern: index for each, index in zip(rest, near, strict=True) if index >= 0}
    strays = [each for each, index in zip(rest, near, strict=True) if index < 0]
    if explained is None and (not large or sum(each.gain for each in strays) >= COHERENT_SHARE * total):
        found |= {each.condition.pattern: len(large) for each in strays}
    return found


async def _of_one_name(
    labels: list[str], selected: Sequence[Selected], embeddings: Embeddings, agent: str
) -> list[str]:
    """The labels, with clusters of words joined that one name fits best."""
    names: dict[str, list[str]] = {}
    joined: dict[str, str] = {}
    for label in dict.fromkeys(labels):
        members = [each.condition.text for one, each in zip(labels, selected, strict=True) if one == label]
        if label.startswith("word "):
            names[label] = [name.text for name in await nearest_names(members, embeddings, NAMES_COMPARED, agent)]
            same = (
                other
                for other, known in names.items()
                if names[label] and known and (known[0] in names[label] or names[label][0] in known)
            )
            joined[label] = next((joined[other] for other in same if other in joined), label)
    return [joined.get(label, label) for label in labels]


async def _near(
    rest: Sequence[Selected], clusters: Sequence[Sequence[Condition]], embeddings: Embeddings, agent: str
) -> list[int]:
    """The cluster that each condition is near to; -1 for none."""
    nearness = await _nearness([each.condition for each in rest], clusters, embeddings, agent)
    return [max(range(len(row)), key=row.__getitem__) if max(row) >= LEAST_NEAR else -1 for row in nearness]


def _needed(label: str, labels: Sequence[str]) -> float:
    """The share of the whole that a cluster must explain to stand alone."""
    is_shared = label.startswith(("kind ", "ending ", "beginning "))
    coherent = label.startswith("word ") and labels.count(label) >= COHERENT_WORDS
    return COHERENT_SHARE if is_shared or coherent else MINIMUM_SHARE


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
    nearness = await _nearness(conditions, clusters, embeddings, agent)
    return [max(range(len(row)), key=row.__getitem__) for row in nearness]


async def _nearness(
    conditions: Sequence[Condition], clusters: Sequence[Sequence[Condition]], embeddings: Embeddings, agent: str
) -> list[list[float]]:
    """How near each condition is to each cluster: by meaning, 1 for words of one form without a meaning, else 0."""
    members = [[member.text for member in cluster if _form(member) == "word"] for cluster in clusters]
    forms = [{_form(member) for member in cluster} for cluster in clusters]
    nearness = [[float(_form(condition) in form) for form in forms] for condition in conditions]
    words = [index for index, condition in enumerate(conditions) if _form(condition) == "word"]
    texts = [*(conditions[index].text for index in words), *(text for group in members for text in group)]
    if not words:
        return nearness
    vectors = await word_vectors(texts, embeddings, agent)
    cosines = vectors[: len(words)] @ vectors[len(words) :].T
    starts = np.cumsum([0, *map(len, members)])
    for row, index in zip(cosines, words, strict=True):
        groups = [row[start:end] for start, end in pairwise(starts)]
        nearness[index] = [float(np.sort(group)[-NEAREST:].mean()) if len(group) else 0.0 for group in groups]
    return nearness


async def _labels(
    conditions: Sequence[Condition], pieces: Collection[str], embeddings: Embeddings, agent: str
) -> list[str]:
    labels = ["begun words" if each.text in pieces and _form(each) == "word" else _form(each) for each in conditions]
    words = [index for index, label in enumerate(labels) if label == "word"]
    if len(words) > 1:
        from sklearn.cluster import AgglomerativeClustering

        vectors = await word_vectors([conditions[index].text for index in words], embeddings, agent)
        clustering = AgglomerativeClustering(
            n_clusters=None, distance_threshold=MAX_DISTANCE, metric="cosine", linkage="average"
        )
        for index, label in zip(words, clustering.fit_predict(vectors), strict=True):
            labels[index] = f"word {label}"
    return labels


def _form(condition: Condition) -> str:
    """The cluster of what has no meaning of its own to compare."""
    text = condition.text
    if condition.form in ("ending", "beginning", "kind"):
        return f"{condition.form} {text}"
    if condition.form == "part":
        return "parts"
    if not text:
        return f"after {condition.after[0]}"
    if text.isdigit():
        return "numbers"
    if not text[0].isalpha():
        return "symbols"
    return "word" if len(text) > 2 else "short words"
