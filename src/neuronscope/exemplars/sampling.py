"""Choosing: how many sequences are listed, which neurons are worth explaining, what random ones a held-out set gets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from neuronscope.arguments import did_you_mean, integer
from neuronscope.errors import ConfigurationError
from neuronscope.types import MLP, SPLITS, Neuron, Split

TopK = int | Mapping[Split, int]
"""How many sequences a list holds: of every split, or of each."""
DEFAULT_TOP_K: dict[Split, int] = {"train": 400, "feedback": 100, "validation": 100, "test": 100}
"""What an agent sees of a neuron comes from train, and more of it than the strongest hundred; of the others it is all
that a held-out set is drawn from."""
_SEED_OFFSETS: dict[Split, int] = {"train": 0, "validation": 1, "test": 2, "feedback": 3}


def by_split(top_k: TopK | None = None) -> dict[Split, int]:
    """How many sequences a list of each split holds; None, and what a mapping does not say, are the default.

    Raises:
        ConfigurationError: a number is none, or below 1, or there is no such split.
    """
    if top_k is None:
        return dict(DEFAULT_TOP_K)
    if not isinstance(top_k, Mapping):
        return dict.fromkeys(SPLITS, integer(top_k, "top_k", least=1))
    for split in top_k:
        if split not in SPLITS:
            hint = did_you_mean(split, SPLITS)
            raise ConfigurationError(f"top_k has no split {split!r}.{hint} The splits are {', '.join(SPLITS)}.")
    given = {split: integer(k, f"top_k of {split}", least=1) for split, k in top_k.items()}
    return {split: given.get(split, DEFAULT_TOP_K[split]) for split in SPLITS}


def at_least(train: int, heldout: int) -> dict[Split, int]:
    """The default, raised where it is not enough for so many train exemplars and so many of each other split."""
    return {split: max(k, train if split == "train" else heldout) for split, k in DEFAULT_TOP_K.items()}


def split_seed(seed: int, split: Split) -> int:
    """The seed with which a split's random sequences are drawn, so that all who ask draw the same ones.

    Feedback joined last and is counted last: the draws of the other splits are those of before.
    """
    return 3 * seed + _SEED_OFFSETS[split]


def strongest(values: NDArray[np.float32], n: int, then: NDArray[np.float32]) -> list[int]:
    """The positions of the n largest values, largest first; ties by the larger `then`, then by the lower position."""
    order: list[int] = np.lexsort((-then, -values))[:n].tolist()
    return order


def draw_neurons(width: int, n: int, layer: int, sign: int, seed: int, site: str = MLP) -> list[int]:
    """N different neurons of a layer, each as likely as any other; dead ones too, so that they stand for the layer."""
    point = f"{layer}" if site == MLP else f"{site}/{layer}"
    generator = np.random.default_rng(_number(f"{seed}/neurons/{point}/{sign}"))
    return [int(i) for i in generator.permutation(width)[:n]]


def draw_random(
    sample: Sequence[int], top: Sequence[int], n_sequences: int, neuron: Neuron, split: Split, n: int, seed: int
) -> list[int]:
    """Draw up to n ids of a split's random sample that are not among the neuron's top ones.

    All stored top sequences are left out. In a split so small that fewer than n would remain, only those top ones
    are left out that belong to the stronger half of the split.

    Args:
        sample: ids drawn from the split without regard to activation.
        top: ids of the neuron's top sequences of the split, strongest first.
        n_sequences: how many sequences the split has.
        neuron: the neuron; different neurons get different draws.
        split: the split.
        n: how many to draw.
        seed: another seed gives another draw.
    """
    rest = sorted(set(sample) - set(top))
    if len(rest) < n:
        rest = sorted(set(sample) - set(top[: n_sequences // 2]))
    # A seed, and no name: written otherwise it would draw others, and every held-out set would be another one.
    return draw(rest, n, f"{seed}/{neuron.site}/{neuron.layer}/{neuron.index}/{neuron.sign}/{split}")


def draw(ids: Sequence[int], n: int, name: str) -> list[int]:
    """Up to n of the ids, each as likely as any other; another name gives another draw."""
    generator = np.random.default_rng(_number(name))
    return [int(i) for i in generator.permutation(np.array(ids, np.int64))[:n]]


def _number(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
