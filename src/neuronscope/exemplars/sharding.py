"""Collecting on several machines: this process reads and tokenizes, workers run the subject, this process merges.

A shard is some consecutive chunks. A worker gathers it as a collection of its own and sends that back; merging is exact
in any order, so shards may be done anywhere, by anyone, again if they must, and the store is the same bit for bit. That
the text is read here, once, makes it so: every sequence has its number, and duplicates are found, before the work is
divided.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from neuronscope.cluster import RayEngine, places, spread
from neuronscope.corpus.windows import Window
from neuronscope.exemplars.portable import portable
from neuronscope.exemplars.statistics_pass import Collection
from neuronscope.interfaces import Subject

NumberedChunk = tuple[int, list[Window]]
"""A chunk and its number in the corpus."""

SHARD_SECONDS = 30.0
"""How long a task takes, about: what is lost with its worker."""
OPENING_SHARE = 0.1
"""Shards are made longer where tasks would load the subject for more than this share of the time."""
MERGING_SHARE = 0.5
"""Shards are made longer where this process would be busy with merging for more than this share of the time."""
_MAX_CHUNKS = 1024


def gather_on_ray(
    engine: RayEngine,
    start: Callable[[Subject], Collection],
    collection: Collection,
    unfinished: Iterator[NumberedChunk],
    done: Callable[[Sequence[int]], None],
    advance: Callable[[int], None],
) -> None:
    """Gather chunks on a Ray cluster and merge them into a collection.

    Args:
        engine: the cluster, and what each worker claims.
        start: an empty collection with the same settings.
        collection: takes in what the workers gather; its subject is what they load or are sent.
        unfinished: the chunks; drawn as workers need them.
        done: told the numbers of a shard's chunks when they are in.
        advance: told how many tokens a shard had.

    Raises:
        ConfigurationError: Ray is missing, cannot be reached, has no room for a worker, or keeps losing them.
        SubjectError: a worker cannot load the subject, or loads another one.
    """
    sizes = ShardSizes(engine.shard_size)
    opener = partial(_Opened, portable(collection.subject), start)
    for gathered in spread(engine, opener, _gather, sizes.divide(unfinished)):
        began = time.monotonic()
        part = start(collection.subject)
        part.restore({name: torch.tensor(array) for name, array in gathered.arrays.items()}, gathered.counts)
        collection.merge(part)
        advance(part.source_tokens.total())
        done(gathered.numbers)
        merging = places(engine) * (time.monotonic() - began)
        sizes.measure(gathered.seconds / len(gathered.numbers), gathered.opening_seconds, merging)


class _Opened:
    """What a worker gathers with."""

    def __init__(self, load: Callable[[str], Subject], start: Callable[[Subject], Collection], device: str) -> None:
        began = time.monotonic()
        self.subject = load(device)
        self.start = start
        self.seconds = time.monotonic() - began
        """How long it took to load the subject; 0 once that has been said."""


class _Gathered(NamedTuple):
    """What a worker sends back."""

    numbers: list[int]
    """The numbers of its chunks."""
    arrays: dict[str, NDArray[Any]]
    """With `counts`, the state of its collection."""
    counts: dict[str, Any]
    seconds: float
    """How long it took."""
    opening_seconds: float
    """How long the subject took to load for it; 0 where it was there."""


def _gather(opened: _Opened, shard: list[NumberedChunk]) -> _Gathered:
    """Run a shard through the subject; in a worker."""
    began = time.monotonic()
    opening, opened.seconds = opened.seconds, 0.0
    collection = opened.start(opened.subject)
    for _, chunk in shard:
        collection.add_chunk(chunk)
    collection.pool.prune()
    tensors, counts = collection.state()
    arrays = {name: np.asarray(tensor.cpu()) for name, tensor in tensors.items()}
    return _Gathered([number for number, _ in shard], arrays, counts, time.monotonic() - began, opening)


class ShardSizes:
    """Divides chunks into shards: short at first, then of the length in time that the last shards suggest.

    Args:
        fixed: chunks of every shard; None goes by time.
    """

    def __init__(self, fixed: int | None) -> None:
        self._fixed = fixed
        self._n_chunks = fixed or 1

    def divide(self, chunks: Iterator[NumberedChunk]) -> Iterator[list[NumberedChunk]]:
        """Consecutive chunks, some at a time."""
        while shard := list(islice(chunks, self._n_chunks)):
            yield shard

    def measure(self, seconds_per_chunk: float, opening_seconds: float, merging_seconds: float) -> None:
        """Say how long the last shard took, and to merge as many as are worked on at a time."""
        if self._fixed is None:
            seconds = max(SHARD_SECONDS, opening_seconds / OPENING_SHARE, merging_seconds / MERGING_SHARE)
            self._n_chunks = round(min(max(1.0, seconds / max(seconds_per_chunk, 1e-6)), _MAX_CHUNKS))
