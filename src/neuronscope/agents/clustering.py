"""The Clustering Agent: atoms that say the same thing become one mode (paper, section 2.3 and appendix B)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from neuronscope.embeddings import resolve_embeddings
from neuronscope.errors import NeuronScopeError
from neuronscope.llm import request_failure
from neuronscope.result import Cluster
from neuronscope.state import HasContext, NeuronState

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

MIN_CLUSTER_SIZE = 2
"""HDBSCAN's minimum cluster size (paper, appendix B)."""

SAME_CONDITION_COSINE = 0.68
"""Where HDBSCAN finds no cluster, atoms whose mean pairwise cosine exceeds this are one mode.

Measured with MiniLM on sentences that all begin "This neuron activates when": ten sets of three paraphrases of one
condition have mean cosines from 0.69 to 0.86 (median 0.80); 2,000 random sets of three unrelated conditions have a
median of 0.51 and a 99th percentile of 0.66. Other embeddings have other scales; OpenAI's lie lower.
"""

Noise = Literal["drop", "keep"]


class ClusteringAgent:
    """Reads `atoms`; writes `clusters`, the largest first and noise last.

    Args:
        embeddings: a LangChain `Embeddings`; a string for `neuronscope.embeddings.resolve_embeddings`; or None for
            those of the run's context.
    """

    role: ClassVar[str] = "clustering"

    def __init__(self, embeddings: Embeddings | str | None = None) -> None:
        self._embeddings = None if embeddings is None else resolve_embeddings(embeddings)

    async def __call__(self, state: NeuronState, runtime: HasContext) -> NeuronState:
        """Embed and cluster the atoms.

        Raises:
            LLMError: the embeddings cannot be had.
        """
        atoms = state["atoms"]
        if not atoms:
            return {"clusters": []}
        config = runtime.context.config
        vectors = await self._embed(atoms, runtime)
        clusters = await asyncio.to_thread(
            cluster_atoms, atoms, vectors, min_samples=config.min_samples, noise=config.noise
        )
        return {"clusters": clusters}

    async def _embed(self, atoms: list[str], runtime: HasContext) -> NDArray[np.float64]:
        embeddings = runtime.context.embeddings if self._embeddings is None else self._embeddings
        try:
            return np.asarray(await embeddings.aembed_documents(atoms), dtype=np.float64)
        except NeuronScopeError:
            raise
        except Exception as error:
            raise request_failure(error, embeddings, self.role) from error


def cluster_atoms(
    atoms: Sequence[str], vectors: NDArray[np.float64], *, min_samples: int | None = 1, noise: Noise = "drop"
) -> list[Cluster]:
    """Group atoms by meaning with HDBSCAN on unit-length embeddings.

    Where HDBSCAN finds no cluster at all, the atoms are one cluster if their mean pairwise cosine exceeds
    `SAME_CONDITION_COSINE`, and one cluster each if not. `allow_single_cluster` is never set: it makes one cluster of
    random vectors. A single atom is a cluster without HDBSCAN.

    Args:
        atoms: the conditions.
        vectors: shape `(n_atoms, dimensions)`, one embedding for each.
        min_samples: HDBSCAN's parameter; None is the library's default, `MIN_CLUSTER_SIZE`.
        noise: "drop" puts the atoms without a cluster into one last cluster marked `noise`; "keep" makes each of them
            a cluster of its own.

    Returns:
        The largest cluster first, those of equal size by their first atom; noise last.
    """
    if not atoms:
        return []
    units = _unit_length(vectors)
    points = principal_points(units)
    labels = _labels(units, min_samples)
    stray = np.flatnonzero(labels < 0)
    groups = [np.flatnonzero(labels == label) for label in range(labels.max() + 1)]
    if noise == "keep":
        groups += [np.array([index]) for index in stray]
    groups.sort(key=lambda members: (-len(members), members[0]))
    clusters = [_cluster(members, atoms, units, points) for members in groups]
    if noise == "drop" and len(stray):
        clusters.append(_cluster(stray, atoms, units, points, noise=True))
    return clusters


def principal_points(units: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Coordinates of all atoms on their two principal components; 0 on a component that does not exist."""
    centred = units - units.mean(axis=0)
    coordinates = np.zeros((len(units), 2))
    if np.abs(centred).max(initial=0.0) > 1e-9:
        from sklearn.decomposition import PCA

        n_components = min(2, *units.shape)
        coordinates[:, :n_components] = PCA(n_components, svd_solver="full").fit_transform(units)
    return [(float(x), float(y)) for x, y in coordinates]


def _labels(units: NDArray[np.float64], min_samples: int | None) -> NDArray[np.int64]:
    """A cluster number for each atom, -1 for noise."""
    n_atoms = len(units)
    if n_atoms < MIN_CLUSTER_SIZE:
        return np.zeros(n_atoms, dtype=np.int64)
    from hdbscan import HDBSCAN

    clusterer = HDBSCAN(min_cluster_size=MIN_CLUSTER_SIZE, min_samples=min_samples, core_dist_n_jobs=1)
    labels: NDArray[np.int64] = clusterer.fit_predict(units).astype(np.int64)
    if (labels >= 0).any():
        return labels
    is_one_condition = _mean_cosine(units) > SAME_CONDITION_COSINE
    return np.zeros(n_atoms, dtype=np.int64) if is_one_condition else np.arange(n_atoms, dtype=np.int64)


def _mean_cosine(units: NDArray[np.float64]) -> float:
    """The mean over all pairs of different atoms."""
    n_atoms = len(units)
    return float(((units @ units.T).sum() - np.square(units).sum()) / (n_atoms * (n_atoms - 1)))


def _cluster(
    members: NDArray[np.int64],
    atoms: Sequence[str],
    units: NDArray[np.float64],
    points: list[tuple[float, float]],
    noise: bool = False,
) -> Cluster:
    closeness = units[members] @ units[members].sum(axis=0)
    nearest = members[int(np.argmax(np.round(closeness, 9)))]  # rounded, so that equal atoms tie and the first wins
    return Cluster(
        atoms=[atoms[index] for index in members],
        representative=atoms[nearest],
        points=[points[index] for index in members],
        noise=noise,
    )


def _unit_length(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1.0)
