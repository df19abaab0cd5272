"""The sequences worth keeping while a corpus streams by: those in some top list, and a random sample of each split."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable

from neuronscope.corpus.windows import Window
from neuronscope.units import SPLITS, Split

SAMPLE_SIZE = 512
"""Random sequences kept of each split."""


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
        self.windows: dict[int, Window] = {}
        self.n_tokens: Counter[Split] = Counter()
        self.n_sequences: Counter[Split] = Counter()
        self._referenced = referenced
        self._sample_size = sample_size
        self._slack = slack
        self._limit = slack
        self._samples: dict[Split, list[tuple[int, int]]] = {split: [] for split in SPLITS}

    def add(self, window: Window) -> None:
        """Take in a sequence, for the time being."""
        self.windows[window.sequence_id] = window
        self.n_sequences[window.split] += 1
        self.n_tokens[window.split] += len(window.token_ids)
        sample = self._samples[window.split]
        heapq.heappush(sample, (-_hash(window.sequence_id), window.sequence_id))
        if len(sample) > self._sample_size:
            heapq.heappop(sample)

    def sampled(self) -> set[int]:
        """The ids of the random samples of all splits."""
        return {sequence_id for sample in self._samples.values() for _, sequence_id in sample}

    def prune(self) -> None:
        """Forget the sequences that nothing refers to."""
        needed = self._referenced() | self.sampled()
        self.windows = {sequence_id: window for sequence_id, window in self.windows.items() if sequence_id in needed}
        self._limit = 2 * len(self.windows) + self._slack

    def prune_if_large(self) -> None:
        """Prune when the pool has doubled: its size stays within twice what is needed, at a small share of the time."""
        if len(self.windows) > self._limit:
            self.prune()


def _hash(sequence_id: int) -> int:
    return int.from_bytes(hashlib.blake2b(sequence_id.to_bytes(8, "big"), digest_size=8).digest(), "big")
