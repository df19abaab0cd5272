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

from neuronscope.cluster import RayEngine, RayWorkers
from neuronscope.corpus.windows import Window
from neuronscope.exemplars.identity import checked_identity, identify
from neuronscope.exemplars.statistics_pass import Collection
from neuronscope.interfaces import Subject
from neuronscope.subject.portable import PortableSubject, portable

NumberedChunk = tuple[int, list[Window]]
"""A chunk and its number in the corpus."""

SHARD_SECONDS = 30.0
"""How long a worker works on a shard, about: what is lost with it, at most twice, as one is in its queue."""
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
    setup = partial(load_same, portable(collection.subject), identify(collection.subject))
    with RayWorkers(engine, setup) as workers:
        for gathered in workers.map(partial(_gather, start), sizes.divide(unfinished)):
            began = time.monotonic()
            part = start(collection.subject)
            part.restore({name: torch.tensor(array) for name, array in gathered.arrays.items()}, gathered.counts)
            collection.merge(part)
            advance(part.source_tokens.total())
            done(gathered.numbers)
            sizes.measure(gathered.seconds / len(gathered.numbers), time.monotonic() - began, len(workers))


def load_same(subject: PortableSubject, expected: dict[str, str], device: str) -> Subject:
    """Load a subject in a worker.

    Args:
        subject: how.
        expected: what `identify` said of it where the work was given out.
        device: a torch device, or `"auto"`.

    Raises:
        SubjectError: it cannot be loaded here, or is not the same; the message names the difference.
    """
    return checked_identity(subject.load(device), expected)


class _Gathered(NamedTuple):
    """What a worker sends back."""

    numbers: list[int]
    """The numbers of its chunks."""
    arrays: dict[str, NDArray[Any]]
    """With `counts`, the state of its collection."""
    counts: dict[str, Any]
    seconds: float
    """How long it took."""


def _gather(start: Callable[[Subject], Collection], subject: Subject, shard: list[NumberedChunk]) -> _Gathered:
    """Run a shard through the subject; in a worker."""
    began = time.monotonic()
    collection = start(subject)
    for _, chunk in shard:
        collection.add_chunk(chunk)
    collection.pool.prune()
    tensors, counts = collection.state()
    arrays = {name: np.asarray(tensor.cpu()) for name, tensor in tensors.items()}
    return _Gathered([number for number, _ in shard], arrays, counts, time.monotonic() - began)


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

    def measure(self, seconds_per_chunk: float, merging_seconds: float, n_workers: int) -> None:
        """Say how long the last shard took."""
        if self._fixed is None:
            seconds = max(SHARD_SECONDS, n_workers * merging_seconds / MERGING_SHARE)
            self._n_chunks = round(min(max(1.0, seconds / max(seconds_per_chunk, 1e-6)), _MAX_CHUNKS))
