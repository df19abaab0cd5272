"""The Clustering Agent: atoms that say the same thing become one mode (paper, section 2.3 and appendix B)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from neuronscope.agents.distinguishing import in_one_frame, informative_words
from neuronscope.config import FEW_ATOMS
from neuronscope.llm.embeddings import aembed, checked_vectors, resolve_embeddings, unit_length
from neuronscope.metrics.correlation import pearson_rows
from neuronscope.metrics.joint import fit_strengths, joint_prediction
from neuronscope.results import Cluster
from neuronscope.state import HasContext, NeuronState
from neuronscope.types import normalise

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

MIN_CLUSTER_SIZE = 2
"""HDBSCAN's minimum cluster size (paper, appendix B)."""

SAME_CONDITION_COSINE = 0.47
"""Average linkage joins groups of conditions above this cosine: the mean of that of the sentences in one frame and that
of their informative words.

Chosen with MiniLM on half of the conditions of `benchmarks/clustering.py`; `docs/results/clustering.md` says what it
does on the other half. Other embeddings have other scales; OpenAI's lie lower.
"""

SAME_MEANING = 0.55
"""The same where what atoms predict is known: the mean of that cosine and of their predictions' correlation."""

SAME_SCORE, SAME_SCORE_OF_WORDS = 0.02, 0.1
"""Scores on train that differ by less count as equal: the first atom said represents the mode. Those of a language
model's sentences differ by more, since a simulator reads them as well as it can."""

SAME_SENTENCE_COSINE = 0.65
"""The same for whole sentences that begin alike, where only their own vectors are known; chosen in the same way."""

Noise = Literal["drop", "keep"]

_WORD = re.compile(r'"[^"]*"|\S+')


class ClusteringAgent:
    """Reads `atoms`; writes `clusters`, as they were first said, or the largest first; noise last.

    Args:
        embeddings: a LangChain `Embeddings`; a string for `neuronscope.llm.embeddings.resolve_embeddings`; or None for
            those of the run's context.
    """

    role: ClassVar[str] = "clustering"

    def __init__(self, embeddings: Embeddings | str | None = None) -> None:
        self._embeddings = None if embeddings is None else resolve_embeddings(embeddings)

    async def __call__(self, state: NeuronState, runtime: HasContext) -> NeuronState:
        """Embed and cluster the atoms.

        Raises:
            LLMError: the embeddings cannot be had, or cannot be used.
        """
        atoms = state["atoms"]
        if not atoms:
            return {"clusters": []}
        config = runtime.context.config
        embeddings = runtime.context.embeddings if self._embeddings is None else self._embeddings
        exemplars = state.get("exemplars")
        if config.clustering == "evidence" and exemplars is not None and exemplars.of("train"):
            evidence = await _Evidence.of(atoms, state, runtime)
            units = await self._meanings(atoms, embeddings, runtime)
            cosines = (units @ units.T + evidence.agreement()) / 2
            labels = await asyncio.to_thread(
                _density_labels, cosines, config.min_samples, config.few_atoms, are_cosines=True
            )
            if labels is None:
                labels = await asyncio.to_thread(_linkage_labels, cosines, SAME_MEANING)
            labels = evidence.without_noise(labels, config.min_improvement)
            return {"clusters": await asyncio.to_thread(_clusters, atoms, units, labels, config.noise, evidence)}
        units = await aembed(embeddings, atoms, self.role)
        labels = await asyncio.to_thread(_density_labels, units, config.min_samples, config.few_atoms)
        if labels is None:
            cosines = await self._cosines(atoms, embeddings)
            labels = await asyncio.to_thread(_linkage_labels, cosines, SAME_CONDITION_COSINE)
        return {"clusters": await asyncio.to_thread(_clusters, atoms, units, labels, config.noise)}

    async def _meanings(self, atoms: Sequence[str], embeddings: Embeddings, runtime: HasContext) -> NDArray[np.float64]:
        """A vector for the informative words of each atom.

        What is written without a language model is a list of words: then it is the mean of theirs, which many atoms and
        neurons share.
        """
        texts = informative_words(atoms)
        if runtime.context.asks_a_language_model:
            return await aembed(embeddings, texts, self.role)
        words = [[word.strip('"') or word for word in _WORD.findall(text)] or [text] for text in texts]
        distinct = list(dict.fromkeys(word for each in words for word in each))
        vectors = dict(zip(distinct, await aembed(embeddings, distinct, self.role), strict=True))
        return unit_length(np.stack([np.mean([vectors[word] for word in each], axis=0) for each in words]))

    async def _cosines(self, atoms: Sequence[str], embeddings: Embeddings) -> NDArray[np.float64]:
        """How like each other conditions are: the sentences in one frame, and their informative words."""
        texts = [*in_one_frame(atoms), *informative_words(atoms)]
        framed, informative = np.split(await aembed(embeddings, texts, self.role), 2)
        cosines: NDArray[np.float64] = (framed @ framed.T + informative @ informative.T) / 2
        return cosines


@dataclass(frozen=True, slots=True, eq=False)
class _Evidence:
    """What atoms predict on train exemplars; without a language model, on every second of them."""

    predicted: NDArray[np.float64]
    """Shape `(atoms, tokens)`."""
    actual: NDArray[np.float64]
    """Shape `(tokens,)`, on the same scale."""
    scores: NDArray[np.float64]
    """Pearson's r of each atom; 0 where it has none."""
    same_score: float
    """Scores that differ by less count as equal."""

    @classmethod
    async def of(cls, atoms: Sequence[str], state: NeuronState, runtime: HasContext) -> _Evidence:
        scorer, neuron, ids = runtime.context.scorer, state["neuron"], state["exemplars"]
        asks = runtime.context.asks_a_language_model
        sequences = ids.of("train") if asks else ids.of("train")[::2]
        predicted = (await scorer.pooled(neuron, atoms, sequences)).astype(np.float64)
        truth = await scorer.ground_truth(neuron, sequences)
        scores = [one.value or 0.0 for one in pearson_rows(predicted, truth)]
        same = SAME_SCORE_OF_WORDS if asks else SAME_SCORE
        return cls(predicted, normalise(truth, ids.maximum), np.array(scores), same)

    def representative(self, members: NDArray[np.int64]) -> int:
        """The place of the first member whose score is as good as the best, in steps of `same_score`."""
        return int(np.floor(self.scores[members] / self.same_score).argmax())

    def agreement(self) -> NDArray[np.float64]:
        """Pearson's r of each two predictions; 0 for those that are the same everywhere, 1 with themselves."""
        centred = self.predicted - self.predicted.mean(axis=1, keepdims=True)
        lengths = np.linalg.norm(centred, axis=1, keepdims=True)
        units = np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > 1e-9)
        found: NDArray[np.float64] = units @ units.T
        np.fill_diagonal(found, 1.0)
        return found

    def without_noise(self, labels: NDArray[np.int64], least_gain: float) -> NDArray[np.int64]:
        """The labels, with a cluster of its own for noise that explains what no cluster's best atom explains."""
        labels = labels.copy()
        chosen = [int(members[self.scores[members].argmax()]) for members in _members(labels)]
        reached = self._together(chosen)
        for index in sorted(np.flatnonzero(labels < 0), key=lambda index: -self.scores[index]):
            with_it = self._together([*chosen, int(index)])
            if with_it - reached >= least_gain:
                chosen, reached = [*chosen, int(index)], with_it
                labels[index] = labels.max() + 1
        return labels

    def _together(self, chosen: Sequence[int]) -> float:
        """Pearson's r of some atoms together, each by its strength."""
        if not chosen:
            return 0.0
        rows = self.predicted[list(chosen)]
        together = joint_prediction(rows, fit_strengths(rows, self.actual))
        return pearson_rows(together[None], self.actual)[0].value or 0.0


def cluster_atoms(
    atoms: Sequence[str],
    vectors: NDArray[np.float64],
    *,
    min_samples: int | None = 1,
    noise: Noise = "drop",
    few_atoms: int = FEW_ATOMS,
) -> list[Cluster]:
    """Group atoms by meaning with HDBSCAN on unit-length embeddings.

    Where there are few atoms, or HDBSCAN finds no cluster at all, they are grouped by average linkage: groups are
    joined while the mean cosine between their members is above `SAME_SENTENCE_COSINE`. (`ClusteringAgent`, which can
    embed more than the sentences as they are, compares what differs between them.) There is no noise then; an atom that
    is like no other is a cluster of its own. `allow_single_cluster` is never set: it makes one cluster of random
    vectors.

    Args:
        atoms: the conditions.
        vectors: shape `(n_atoms, dimensions)`, one embedding for each.
        min_samples: HDBSCAN's parameter; None is the library's default, `MIN_CLUSTER_SIZE`.
        noise: "drop" puts the atoms without a cluster into one last cluster marked `noise`; "keep" makes each of them
            a cluster of its own.
        few_atoms: up to this many atoms are not given to HDBSCAN.

    Returns:
        The largest cluster first, those of equal size by their first atom; noise last.

    Raises:
        LLMError: the vectors are not one for each atom, of one length and with finite numbers that are not all zero.
    """
    if not atoms:
        return []
    units = checked_vectors(vectors, atoms, "clustering: the embedding of the atoms")
    labels = _density_labels(units, min_samples, few_atoms)
    if labels is None:
        labels = _linkage_labels(units @ units.T, SAME_SENTENCE_COSINE)
    return _clusters(atoms, units, labels, noise)


def principal_points(units: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Coordinates of all atoms on their two principal components; 0 on a component that does not exist."""
    centred = units - units.mean(axis=0)
    coordinates = np.zeros((len(units), 2))
    if np.abs(centred).max(initial=0.0) > 1e-9:
        from sklearn.decomposition import PCA

        n_components = min(2, *units.shape)
        coordinates[:, :n_components] = PCA(n_components, svd_solver="full").fit_transform(units)
    return [(float(x), float(y)) for x, y in coordinates]


def _density_labels(
    units: NDArray[np.float64], min_samples: int | None, few_atoms: int, *, are_cosines: bool = False
) -> NDArray[np.int64] | None:
    """HDBSCAN's cluster number for each atom, -1 for noise; None if there are few, or everything is noise.

    Args:
        units: vectors; or how like each other the atoms are.
        min_samples: HDBSCAN's parameter.
        few_atoms: up to this many atoms are not given to HDBSCAN.
        are_cosines: which of the two `units` are.
    """
    if len(units) <= few_atoms or len(units) < MIN_CLUSTER_SIZE:
        return None
    from hdbscan import HDBSCAN

    metric, points = ("precomputed", np.maximum(1 - units, 0.0)) if are_cosines else ("euclidean", units)
    clusterer = HDBSCAN(min_cluster_size=MIN_CLUSTER_SIZE, min_samples=min_samples, metric=metric, core_dist_n_jobs=1)
    labels: NDArray[np.int64] = clusterer.fit_predict(points).astype(np.int64)
    return labels if (labels >= 0).any() else None


def _linkage_labels(cosines: NDArray[np.float64], threshold: float) -> NDArray[np.int64]:
    """A group number for each atom, by average linkage: groups are joined above this mean cosine."""
    if len(cosines) < MIN_CLUSTER_SIZE:
        return np.zeros(len(cosines), dtype=np.int64)
    from sklearn.cluster import AgglomerativeClustering

    linkage = AgglomerativeClustering(
        n_clusters=None, distance_threshold=1 - threshold, metric="precomputed", linkage="average"
    )
    labels: NDArray[np.int64] = linkage.fit_predict(np.maximum(1 - cosines, 0.0)).astype(np.int64)
    return labels


def _members(labels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The indices of each label's atoms; noise is left out."""
    return [np.flatnonzero(labels == label) for label in range(labels.max(initial=-1) + 1)]


def _clusters(
    atoms: Sequence[str],
    units: NDArray[np.float64],
    labels: NDArray[np.int64],
    noise: Noise,
    evidence: _Evidence | None = None,
) -> list[Cluster]:
    """The groups as clusters; noise last, or each of it a cluster.

    With evidence they come as they were first said, since hypotheses begin with what explains most, and a group's
    representative is the atom with the best score. Else the largest comes first, and what is nearest the centroid
    represents it.
    """
    points = principal_points(units)
    stray = np.flatnonzero(labels < 0)
    groups = _members(labels)
    if noise == "keep":
        groups += [np.array([index]) for index in stray]
    groups.sort(key=lambda members: (-len(members) if evidence is None else 0, members[0]))
    clusters = [_cluster(members, atoms, units, points, evidence) for members in groups]
    if noise == "drop" and len(stray):
        clusters.append(_cluster(stray, atoms, units, points, evidence, noise=True))
    return clusters


def _cluster(
    members: NDArray[np.int64],
    atoms: Sequence[str],
    units: NDArray[np.float64],
    points: list[tuple[float, float]],
    evidence: _Evidence | None,
    noise: bool = False,
) -> Cluster:
    if evidence is None:
        closeness = np.round(units[members] @ units[members].sum(axis=0), 9)  # equal atoms tie, and the first wins
        best = members[int(np.argmax(closeness))]
    else:
        best = members[evidence.representative(members)]
    return Cluster(
        atoms=[atoms[index] for index in members],
        representative=atoms[best],
        points=[points[index] for index in members],
        noise=noise,
    )
