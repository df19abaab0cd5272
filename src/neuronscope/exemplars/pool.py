"""The sequences worth keeping while a corpus streams by: those in some top list, and a random sample of each split."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuronscope.corpus.windows import Window
from neuronscope.types import SPLITS, Split

SAMPLE_SIZE = 512
"""Random sequences kept of each split."""


class Sequence(NamedTuple):
    """A sequence as the pool keeps it: a sixth of what a list of integers takes."""

    token_ids: NDArray[np.int32]
    """The subject's ids, without BOS."""
    split: Split
    """The split of its document."""
    source: str
    """The source of its document."""


class SequencePool:
    """Keeps the token ids of sequences as long as something refers to them.

    The random sample of a split is the sequences whose ids have the smallest hashes: it is uniform, the same in
    whatever order sequences arrive, and samples of parts of a corpus merge into the sample of the whole.
    """

    def __init__(self, referenced: Callable[[], set[int]], sample_size: int = SAMPLE_SIZE, slack: int = 4096) -> None:
        """Start empty.

        Args:
            referenced: tells which sequences the top lists hold now.
            sample_size: random sequences to keep of each split.
            slack: how far the pool may grow past twice its needed size before it is pruned.
        """
        self.sequences: dict[int, Sequence] = {}
        self.n_tokens: Counter[Split] = Counter()
        self.n_sequences: Counter[Split] = Counter()
        self._referenced = referenced
        self._sample_size = sample_size
        self._slack = slack
        self._limit = slack
        self._samples: dict[Split, list[tuple[int, int]]] = {split: [] for split in SPLITS}

    def add(self, window: Window) -> None:
        """Take in a sequence, for the time being."""
        token_ids = np.array(window.token_ids, np.int32)
        self.sequences[window.sequence_id] = Sequence(token_ids, window.split, window.source)
        self.n_sequences[window.split] += 1
        self.n_tokens[window.split] += len(token_ids)
        self._sample(window.sequence_id, window.split)

    def _sample(self, sequence_id: int, split: Split) -> None:
        sample = self._samples[split]
        heapq.heappush(sample, (-_hash(sequence_id), sequence_id))
        if len(sample) > self._sample_size:
            heapq.heappop(sample)

    def merge(self, other: SequencePool) -> None:
        """Take in the sequences of another part of the corpus; prune when all parts are in."""
        self.restore(other.sequences, other.sampled(), other.n_tokens, other.n_sequences)

    def restore(
        self, sequences: dict[int, Sequence], sampled: set[int], n_tokens: Counter[Split], n_sequences: Counter[Split]
    ) -> None:
        """Take in what another pool held; a pool that was empty becomes its equal.

        Args:
            sequences: its sequences by id.
            sampled: the ids of its random samples.
            n_tokens: tokens that it saw, by split.
            n_sequences: sequences that it saw, by split.
        """
        self.sequences |= sequences
        self.n_tokens += n_tokens
        self.n_sequences += n_sequences
        for sequence_id in sampled:
            self._sample(sequence_id, sequences[sequence_id].split)
        self._limit = max(self._limit, 2 * len(self.sequences))

    def sampled(self) -> set[int]:
        """The ids of the random samples of all splits."""
        return {sequence_id for sample in self._samples.values() for _, sequence_id in sample}

    def prune(self) -> None:
        """Forget the sequences that nothing refers to."""
        needed = self._referenced() | self.sampled()
        self.sequences = {number: sequence for number, sequence in self.sequences.items() if number in needed}
        self._limit = 2 * len(self.sequences) + self._slack

    def prune_if_large(self) -> None:
        """Prune when the pool has doubled: its size stays within twice what is needed, at a small share of the time."""
        if len(self.sequences) > self._limit:
            self.prune()


def _hash(sequence_id: int) -> int:
    return int.from_bytes(hashlib.blake2b(sequence_id.to_bytes(8, "big"), digest_size=8).digest(), "big")
