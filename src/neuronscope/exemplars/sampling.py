"""Choosing: how many sequences are listed, which neurons are worth explaining, what random ones a held-out set gets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from neuronscope.arguments import did_you_mean, integer
from neuronscope.config import ExplainConfig
from neuronscope.errors import ConfigurationError
from neuronscope.interfaces import ExemplarSource, StratifiedSource
from neuronscope.types import MLP, SPLITS, Neuron, Split, Stratum

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
    return draw(rest, n, _name(neuron, split, seed))


def _name(neuron: Neuron, split: Split, seed: int) -> str:
    """Written otherwise it would draw others, and every held-out set would be another one."""
    return f"{seed}/{neuron.site}/{neuron.layer}/{neuron.index}/{neuron.sign}/{split}"


def draw_strata(
    sample: Sequence[int],
    listed: Sequence[int],
    n_sequences: int,
    neuron: Neuron,
    split: Split,
    *,
    top: int,
    ranked: int,
    random: int,
    seed: int,
) -> list[Stratum]:
    """A split in three parts, with what is drawn of each: its sequences then stand for all of the split.

    The first are the neuron's top sequences, all of them; the second the rest of those that are listed; the third all
    others. The draws of the third begin with those of `draw_random`, so that what is predicted on these serves twice.
    A split that has no more sequences than would be drawn is taken whole.

    Args:
        sample: ids drawn from the split without regard to activation.
        listed: ids of the neuron's top sequences of the split, strongest first.
        n_sequences: how many sequences the split has.
        neuron: the neuron; different neurons get different draws.
        split: the split.
        top: how many of the listed ones are the first part.
        ranked: how many to draw of the second.
        random: how many to draw of the third.
        seed: another seed gives another draw.
    """
    if n_sequences <= top + ranked + random:
        ranked = random = n_sequences
    name, others = _name(neuron, split, seed), sorted(set(sample) - set(listed))
    parts = [
        Stratum([int(number) for number in listed[:top]], len(listed[:top])),
        Stratum(draw(listed[top:], ranked, f"{name}/ranked"), len(listed[top:])),
        Stratum(draw(others, random, name), n_sequences - len(listed)),
    ]
    return [part for part in parts if part.size]


def strata_of_test(store: ExemplarSource, neuron: Neuron, config: ExplainConfig) -> list[Stratum]:
    """The parts of the test split that a corpus score is estimated from.

    There are none where the settings ask for none, the source cannot name them, or some part has no sequence to show.
    """
    if not (config.corpus_ranked and config.corpus_random and isinstance(store, StratifiedSource)):
        return []
    parts = store.strata(
        neuron,
        "test",
        top=config.heldout_top,
        ranked=config.corpus_ranked,
        random=max(config.corpus_random, config.heldout_random),
        seed=split_seed(config.seed, "test"),
    )
    return parts if all(part.ids for part in parts) else []


def draw(ids: Sequence[int], n: int, name: str) -> list[int]:
    """Up to n of the ids, each as likely as any other; another name gives another draw."""
    generator = np.random.default_rng(_number(name))
    return [int(i) for i in generator.permutation(np.array(ids, np.int64))[:n]]


def _number(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
