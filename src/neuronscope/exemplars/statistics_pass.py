"""A pass over a corpus, or over a part of it: what was gathered so far, chunk by chunk.

The unit of work is the chunk: `CHUNK_SEQUENCES` consecutive sequences of the corpus. Its batches depend on the chunk
alone, and what it adds merges in any order. So a corpus may be read in one go, continued after any chunk, or divided
among machines by chunks, and the result is the same bit for bit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch

from neuronscope.corpus.windows import Window
from neuronscope.errors import CorpusError
from neuronscope.exemplars.accumulator import LayerAccumulator
from neuronscope.exemplars.activations import batches
from neuronscope.exemplars.pool import Sequence as PooledSequence
from neuronscope.exemplars.pool import SequencePool
from neuronscope.exemplars.sampling import TopK
from neuronscope.exemplars.topk import MAX_ID
from neuronscope.interfaces import Site, Subject
from neuronscope.stopping import check_stopped
from neuronscope.subject.capture import to_device, visit
from neuronscope.subject.sites import register_site, width_of
from neuronscope.types import MLP, SPLITS, HookPoint

CHUNK_SEQUENCES = 512
"""Sequences between two merges into the running lists; within them, sequences of similar length share a batch."""


def chunks(stream: Iterator[Window]) -> Iterator[list[Window]]:
    """Divide a corpus's sequences into chunks; the last may be smaller."""
    while chunk := list(islice(stream, CHUNK_SEQUENCES)):
        yield chunk


class FinishedChunks:
    """Which chunks of a corpus are in: all of its first ones, and some ahead of them where several are worked on."""

    def __init__(self, n_first: int = 0, ahead: Sequence[int] = ()) -> None:
        self._n_first = n_first
        self._ahead = set(ahead)

    @classmethod
    def of(cls, counts: Mapping[str, Any]) -> FinishedChunks:
        """Those that a checkpoint has, by its counts."""
        ahead = counts.get("ahead", [])
        return cls(counts["n_chunks"] - len(ahead), ahead)

    def counts(self) -> dict[str, Any]:
        """What a checkpoint must hold beside the collection's own counts."""
        return {"ahead": sorted(self._ahead)}

    def add(self, numbers: Sequence[int]) -> None:
        """Say that these are in, too."""
        self._ahead.update(numbers)
        while self._n_first in self._ahead:
            self._ahead.remove(self._n_first)
            self._n_first += 1

    def rest(self, stream: Iterator[list[Window]]) -> Iterator[tuple[int, list[Window]]]:
        """The others, with their numbers."""
        done = frozenset(self._ahead)
        first = self._n_first
        return ((i, chunk) for i, chunk in enumerate(stream) if i >= first and i not in done)


class Collection:
    """What a pass has gathered."""

    def __init__(
        self,
        subject: Subject,
        layers: Sequence[int],
        signs: Sequence[int],
        top_k: TopK,
        batch_tokens: int,
        site: str | Site = MLP,
    ) -> None:
        """Start empty.

        Args:
            subject: the model.
            layers: layer numbers, from 0.
            signs: 1, -1 or both.
            top_k: sequences per neuron and sign, of every split or of each.
            batch_tokens: tokens of a forward pass, padding included.
            site: where the units are, by its name; or the site itself, which a worker on another machine then knows.
        """
        if not isinstance(site, str):
            register_site(site)
            site = site.name
        self.subject = subject
        points = [HookPoint(layer, site) for layer in layers]
        self.accumulators = {point: LayerAccumulator(point, width_of(subject, point), signs, top_k) for point in points}
        self.pool = SequencePool(self._referenced)
        self.source_tokens: Counter[str] = Counter()
        self.n_chunks = 0
        """How many chunks are in."""
        self._batch_tokens = batch_tokens

    def _referenced(self) -> set[int]:
        """The sequences in any layer's lists; one layer at a time, since all layers' sets at once would fill memory."""
        found: set[int] = set()
        for layer in self.accumulators.values():
            found |= layer.referenced()
        return found

    def add_chunk(self, chunk: Sequence[Window], advance: Callable[[int], None] = lambda tokens: None) -> None:
        """Run a chunk through the subject and keep what its neurons do.

        Args:
            chunk: the sequences.
            advance: called with each batch's number of tokens.

        Raises:
            CorpusError: the corpus has more sequences than a store can number.
        """
        if max((window.sequence_id for window in chunk), default=0) > MAX_ID:
            raise CorpusError(
                f"The corpus has more than {MAX_ID + 1:,} sequences, which is all that a store can number. "
                "Collect from fewer tokens (n_tokens=...) or in longer sequences (seq_len=...)."
            )
        for window in chunk:
            self.pool.add(window)
            self.source_tokens[window.source] += len(window.token_ids)
        by_id = {window.sequence_id: window for window in chunk}
        order: list[int] = []
        for batch in batches({i: window.token_ids for i, window in by_id.items()}, self._batch_tokens):
            check_stopped()
            self._add_batch([by_id[i].token_ids for i in batch])
            order += batch
            advance(sum(len(by_id[i].token_ids) for i in batch))
        for layer in self.accumulators.values():
            layer.close_chunk(order, [by_id[i].split for i in order])
        self.pool.prune_if_large()
        self.n_chunks += 1

    def _add_batch(self, token_ids: list[list[int]]) -> None:
        lengths = torch.tensor([len(sequence) for sequence in token_ids])
        padding = torch.arange(int(lengths.max())) >= lengths[:, None] if lengths.min() < lengths.max() else None

        def add(point: HookPoint, activations: torch.Tensor) -> None:
            nonlocal padding
            if padding is not None and padding.device != activations.device:
                padding = to_device(padding, activations.device)
            self.accumulators[point].add_batch(activations, padding)

        visit(self.subject, token_ids, list(self.accumulators), add)

    def merge(self, other: Collection) -> None:
        """Take in what was gathered from other chunks of the same corpus."""
        for point, accumulator in self.accumulators.items():
            accumulator.merge(other.accumulators[point])
        self.pool.merge(other.pool)
        self.source_tokens += other.source_tokens
        self.n_chunks += other.n_chunks
        self.pool.prune_if_large()

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Everything gathered, as arrays by name and as JSON; `restore` takes it back."""
        arrays = {
            f"{point.file_name}/{sign:+d}/{name}": array
            for point, accumulator in self.accumulators.items()
            for sign, statistics in accumulator.signs.items()
            for name, array in statistics.arrays().items()
        }
        sequences = self.pool.sequences
        sources = sorted(self.source_tokens)
        number = {source: i for i, source in enumerate(sources)}
        rows = [(i, SPLITS.index(each.split), number[each.source]) for i, each in sequences.items()]
        tokens = [each.token_ids for each in sequences.values()]
        arrays["pool/rows"] = torch.tensor(rows, dtype=torch.int64).reshape(-1, 3)
        arrays["pool/lengths"] = torch.tensor([len(each) for each in tokens], dtype=torch.int64)
        arrays["pool/token_ids"] = torch.from_numpy(np.concatenate([np.empty(0, np.int32), *tokens]))
        arrays["pool/sampled"] = torch.tensor(sorted(self.pool.sampled()), dtype=torch.int64)
        counts = {
            "n_chunks": self.n_chunks,
            "sources": sources,
            "source_tokens": self.source_tokens,
            "n_tokens": self.pool.n_tokens,
            "n_sequences": self.pool.n_sequences,
        }
        return arrays, counts

    def restore(self, arrays: Mapping[str, torch.Tensor], counts: Mapping[str, Any]) -> None:
        """Go on from what `state` returned; this collection must be empty."""
        for point, accumulator in self.accumulators.items():
            for sign, statistics in accumulator.signs.items():
                prefix = f"{point.file_name}/{sign:+d}/"
                own = {name.removeprefix(prefix): each for name, each in arrays.items() if name.startswith(prefix)}
                statistics.restore(own)
        tokens = np.split(arrays["pool/token_ids"].numpy(), arrays["pool/lengths"].cumsum(0)[:-1].numpy())
        sequences = {
            i: PooledSequence(token_ids, SPLITS[split], counts["sources"][source])
            for (i, split, source), token_ids in zip(arrays["pool/rows"].tolist(), tokens, strict=True)
        }
        sampled = set(arrays["pool/sampled"].tolist())
        self.pool.restore(sequences, sampled, Counter(counts["n_tokens"]), Counter(counts["n_sequences"]))
        self.source_tokens = Counter(counts["source_tokens"])
        self.n_chunks = int(counts["n_chunks"])
