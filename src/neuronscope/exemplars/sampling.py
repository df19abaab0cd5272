"""Choosing: which neurons are worth explaining, and which random sequences a held-out set gets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neuronscope.types import Neuron, Split

_SEED_OFFSETS: dict[Split, int] = {"train": 0, "validation": 1, "test": 2, "feedback": 3}


def split_seed(seed: int, split: Split) -> int:
    """The seed with which a split's random sequences are drawn, so that all who ask draw the same ones.

    Feedback joined last and is counted last: the draws of the other splits are those of before.
    """
    return 3 * seed + _SEED_OFFSETS[split]


def strongest(values: NDArray[np.float32], n: int, then: NDArray[np.float32]) -> list[int]:
    """The positions of the n largest values, largest first; ties by the larger `then`, then by the lower position."""
    order: list[int] = np.lexsort((-then, -values))[:n].tolist()
    return order


def draw_neurons(width: int, n: int, layer: int, sign: int, seed: int) -> list[int]:
    """N different neurons of a layer, each as likely as any other; dead ones too, so that they stand for the layer."""
    generator = np.random.default_rng(_number(f"{seed}/neurons/{layer}/{sign}"))
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
