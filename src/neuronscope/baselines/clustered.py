"""Clustered exemplars: a description of each group of texts, without splitting or refinement (PRISM).

1. Draw exemplars evenly over the ranks of the neuron's top train sequences.
2. Embed their texts, the activating tokens marked, and group them by k-means.
3. Describe each group by one request with its strongest exemplars.

Kopf et al. 2025, "Capturing Polysemanticity with PRISM" (arXiv 2506.15538), and lkopf/prism.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neuronscope.agents.highlighting import choose_marks, highlight, highlight_threshold, marked_runs, visible
from neuronscope.agents.role import succeeded
from neuronscope.arguments import integer
from neuronscope.baselines.registry import baseline
from neuronscope.baselines.single_pass import write_sentence
from neuronscope.interfaces import Explained
from neuronscope.llm.embeddings import aembed, unit_length
from neuronscope.text import distinct

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from neuronscope.state import Instruments
    from neuronscope.types import Exemplar, ExemplarIds, Neuron

LISTED = 400
"""Top train sequences that are drawn from: what a store lists by default."""
DRAWN = 100
"""How many are drawn, evenly over their ranks."""
SHOWN = 20
"""The strongest of a group that its description is written from (`MAX_CLUSTER_SIZE` there)."""


@baseline("clustered")
class Clustered:
    """One description for each of k groups of exemplars.

    Args:
        k: how many groups; fewer where there are not so many texts.
    """

    def __init__(self, k: int = 5) -> None:
        self.k = integer(k, "k", least=1)

    @property
    def name(self) -> str:
        """With the number of groups, if that is not PRISM's."""
        return "clustered" if self.k == 5 else f"clustered:{self.k}"

    async def explain(self, neuron: Neuron, exemplars: ExemplarIds, instruments: Instruments) -> Explained:
        """Group the exemplars and describe each group.

        Raises:
            LLMError: the embeddings cannot be used, or no description could be written.
        """
        listed = await asyncio.to_thread(instruments.store.exemplars, neuron, "train", LISTED)
        active = [each for each in listed if each.activations.max(initial=0.0) > 0]
        drawn = active[:: max(1, len(active) // DRAWN)][:DRAWN]
        groups = await _groups(drawn, self.k, instruments.embeddings, instruments.config.seed)
        llm = instruments.llm_for("hypothesis")
        if isinstance(llm, str):
            return Explained(sentences=await _offline(groups, neuron, exemplars, instruments))
        requests = (write_sentence(llm, "clustered", drawn, group[:SHOWN], instruments) for group in groups)
        outcomes = await asyncio.gather(*requests, return_exceptions=True)
        sentences, failures = succeeded(outcomes, "clustered")
        return Explained(sentences=distinct(sentences), failures=failures)


async def _groups(exemplars: Sequence[Exemplar], k: int, embeddings: Embeddings, seed: int) -> list[list[Exemplar]]:
    """The exemplars in up to k groups, the largest first, each with its strongest first."""
    threshold = highlight_threshold(exemplars)
    marks = choose_marks((visible(each.text) for each in exemplars), marked_runs(exemplars, threshold))
    texts = [highlight(each, threshold, marks) for each in exemplars]
    vectors = unit_length(await aembed(embeddings, texts, "clustered"))
    labels = await asyncio.to_thread(_k_means, vectors, k, seed)
    groups = [[each for each, own in zip(exemplars, labels, strict=True) if own == label] for label in set(labels)]
    return sorted(groups, key=lambda group: -len(group))


def _k_means(vectors: NDArray[np.float64], k: int, seed: int) -> list[int]:
    from sklearn.cluster import KMeans

    n_clusters = min(k, len(np.unique(vectors, axis=0)))
    labels: list[int] = KMeans(n_clusters, n_init=10, random_state=seed).fit_predict(vectors).tolist()
    return labels


async def _offline(
    groups: Sequence[Sequence[Exemplar]], neuron: Neuron, exemplars: ExemplarIds, instruments: Instruments
) -> list[str]:
    """For each group a sentence of the conditions that explain most in it, compared with random sequences."""
    from neuronscope.offline.agents import HYPOTHESIS_CONDITIONS, RANDOM_EXEMPLARS
    from neuronscope.offline.features import Features
    from neuronscope.offline.sentences import sentence

    store, seed = instruments.store, instruments.config.seed
    others = await asyncio.to_thread(store.random_sequences, neuron, "train", RANDOM_EXEMPLARS, seed)

    def describe(group: Sequence[Exemplar]) -> str:
        features = Features.of([*group[:SHOWN], *others], exemplars.maximum)
        selected = features.matching_pursuit(HYPOTHESIS_CONDITIONS, None, [])
        return sentence([each.condition for each in selected]) if selected else ""

    sentences = [await asyncio.to_thread(describe, group) for group in groups]
    return distinct(list(filter(None, sentences)))
