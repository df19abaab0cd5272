"""What one layer's neurons did so far: frequency, mean, maximum and the top sequences, for both signs and all splits.

Its size depends on the layer's width and on k alone. Sequences arrive in chunks: within a chunk only each sequence's
largest activation is kept, and a chunk is merged into the running lists at once. Everything that is kept is the same in
whatever order, and however divided, the chunks arrive, bit for bit: parts of a corpus merge into the whole. Nothing
waits for the device before a chunk is closed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from neuronscope.errors import SubjectError
from neuronscope.exemplars import frequency, processor
from neuronscope.exemplars.sampling import TopK, by_split
from neuronscope.exemplars.topk import insert, merge, sequence_ids
from neuronscope.types import SPLITS, HookPoint, Split

TOTAL_UNIT = 2.0**-20
"""Sums are kept as integers in this unit: adding integers does not depend on the order."""


@dataclass
class SignStatistics:
    """The statistics of one layer for one sign; an activation of the other sign counts as 0."""

    width: int
    """How many neurons the layer has."""
    total: torch.Tensor = field(init=False)
    """Shape `(width,)`, int64: the sum over tokens, each chunk's rounded to `TOTAL_UNIT`."""
    maximum: torch.Tensor = field(init=False)
    """Shape `(width,)`, float32: the largest activation."""
    counts: torch.Tensor = field(init=False)
    """Shape `(width, frequency.N_BINS)`, int64: tokens by activation, from a quarter of the maximum upwards."""
    lowest: torch.Tensor = field(init=False)
    """Shape `(width,)`, int32: the bins with which `counts` begin; they follow from the maxima."""
    top: dict[Split, torch.Tensor] = field(init=False)
    """Keys of the top sequences of each split (see `topk`), of shape `(width, up to k)`."""

    def __post_init__(self) -> None:
        self.total = torch.zeros(self.width, dtype=torch.int64)
        self.maximum = torch.zeros(self.width, dtype=torch.float32)
        self.counts = frequency.empty_counts(self.width)
        self.lowest = frequency.lowest_bin(self.maximum)
        self.top = {split: torch.zeros((self.width, 0), dtype=torch.int64) for split in SPLITS}

    def raise_maximum(self, maximum: torch.Tensor) -> None:
        """Take in larger maxima; counters that they put out of reach are forgotten."""
        device = maximum.device
        self.maximum = torch.maximum(self.maximum.to(device), maximum)
        lowest = frequency.lowest_bin(self.maximum)
        self.counts = self.counts.to(device)
        frequency.rebase(self.counts, self.lowest.to(device), lowest)
        self.lowest = lowest

    def merge(self, other: SignStatistics, top_k: Mapping[Split, int]) -> None:
        """Take in the statistics of another part of the corpus."""
        device = self.maximum.device
        self.raise_maximum(other.maximum.to(device))
        others = other.counts.to(device, copy=True)
        frequency.rebase(others, other.lowest.to(device), self.lowest)
        self.counts = self.counts + others
        self.total = self.total + other.total.to(self.total.device)
        for split, keys in self.top.items():
            self.top[split] = merge(keys, other.top[split].to(keys.device), top_k[split])

    def arrays(self) -> dict[str, torch.Tensor]:
        """Everything it knows, by name; `restore` takes it back."""
        lists = {f"top/{split}": keys for split, keys in self.top.items()}
        return {"total": self.total, "maximum": self.maximum, "counts": self.counts} | lists

    def restore(self, arrays: Mapping[str, torch.Tensor]) -> None:
        """Become what `arrays` described."""
        self.total, self.maximum, self.counts = arrays["total"], arrays["maximum"], arrays["counts"]
        self.lowest = frequency.lowest_bin(self.maximum)
        self.top = {split: arrays[f"top/{split}"] for split in SPLITS}


class LayerAccumulator:
    """Takes in one hook point's activations, batch by batch and chunk by chunk.

    Args:
        point: the hook point.
        width: how many units it has.
        signs: 1, -1 or both.
        top_k: how many sequences a list holds, of every split or of each.
    """

    def __init__(self, point: HookPoint, width: int, signs: Sequence[int], top_k: TopK) -> None:
        self.point = point
        self.width = width
        self.top_k = by_split(top_k)
        self.signs = {sign: SignStatistics(width) for sign in signs}
        self._maxima: dict[int, list[torch.Tensor]] = {sign: [] for sign in signs}
        self._sums: torch.Tensor | None = None

    @torch.inference_mode()
    def add_batch(self, activations: torch.Tensor, padding: torch.Tensor | None) -> None:
        """Take in a batch of sequences.

        Args:
            activations: shape `(batch, longest, width)`, raw. Padding may be overwritten.
            padding: shape `(batch, longest)`, True behind the end of each sequence; None if all are of this length.

        Raises:
            SubjectError: an activation is infinite or not a number; on a GPU, `close_chunk` says so.
        """
        if activations.device.type == "cpu":
            self.add_on_processor(activations, padding)
        else:
            self.add_on_device(activations, padding)

    def add_on_processor(self, activations: torch.Tensor, padding: torch.Tensor | None) -> None:
        """`add_batch` in compiled loops, for activations in a processor's memory."""
        size, longest, _ = activations.shape
        lengths = np.full(size, longest) if padding is None else longest - padding.sum(1).numpy()
        batch = processor.Batch(activations, lengths)
        summary = batch.summarize()
        self._check_finite(summary.maximum)
        self._add_sums(summary.sums)
        for number, sign in enumerate(processor.SIGNS):
            if sign in self.signs:
                self._maxima[sign].append(summary.maxima[number])
                self.signs[sign].raise_maximum(summary.maximum[number])
        counts = batch.count({sign: statistics.lowest for sign, statistics in self.signs.items()})
        for sign, statistics in self.signs.items():
            statistics.counts += counts[sign]

    def add_on_device(self, activations: torch.Tensor, padding: torch.Tensor | None) -> None:
        """`add_batch` in torch's operations, for activations on any device."""
        if activations.dtype not in (torch.bfloat16, torch.float16, torch.float32):
            activations = activations.float()
        if padding is not None:
            activations.masked_fill_(padding.unsqueeze(-1), 0)
        for sign, statistics in self.signs.items():
            extremes = activations.amax(1) if sign > 0 else activations.amin(1).neg_()
            self._maxima[sign].append(extremes)
            statistics.raise_maximum(extremes.amax(0).float())
            frequency.count(activations, sign, statistics.lowest, statistics.counts)
        # Of both signs, from those of values and of magnitudes. A sequence's are rounded to the model's dtype.
        amounts = (activations.sum(1), activations.abs().sum(1))
        self._add_sums(torch.stack([each.sum(0, dtype=torch.float32) for each in amounts]))

    def _add_sums(self, sums: torch.Tensor) -> None:
        self._sums = sums if self._sums is None else self._sums + sums

    @torch.inference_mode()
    def close_chunk(self, ids: Sequence[int], splits: Sequence[Split]) -> None:
        """Merge the chunk into the running statistics.

        Args:
            ids: the ids of the chunk's sequences, in the order in which the batches brought them.
            splits: their splits.

        Raises:
            SubjectError: an activation of the chunk is infinite or not a number.
        """
        if self._sums is None:
            return
        values, magnitudes = self._sums.cpu().double()
        self._sums = None
        for sign, statistics in self.signs.items():
            maxima = torch.cat(self._maxima[sign])
            if maxima.device.type != "cpu":
                self._check_finite(maxima)
            self._maxima[sign].clear()
            total = ((magnitudes + sign * values) / 2).clamp_(min=0) / TOTAL_UNIT
            statistics.total = statistics.total.cpu() + total.round_().to(torch.int64)
            self._merge(statistics, maxima, ids, splits)

    def _merge(
        self, statistics: SignStatistics, maxima: torch.Tensor, ids: Sequence[int], splits: Sequence[Split]
    ) -> None:
        # The lists live where the activations are, but not on Apple's devices, which cannot sort 64-bit integers.
        device = torch.device("cpu") if maxima.device.type == "mps" else maxima.device
        maxima, numbers = maxima.to(device), torch.tensor(ids, device=device)
        for split in SPLITS:
            rows = [row for row, own in enumerate(splits) if own == split]
            if rows:
                chosen = torch.tensor(rows, device=device)
                add = processor.insert if device.type == "cpu" else insert
                statistics.top[split] = add(
                    statistics.top[split].to(device), maxima.index_select(0, chosen), numbers[chosen], self.top_k[split]
                )

    def _check_finite(self, maxima: torch.Tensor) -> None:
        if not torch.isfinite(maxima).all():
            raise SubjectError(
                f"{self.point} has activations that are infinite or not a number. "
                "Load the subject with another dtype, such as dtype='float32'."
            )

    @torch.inference_mode()
    def merge(self, other: LayerAccumulator) -> None:
        """Take in what another accumulator of the same layer gathered from other chunks."""
        for sign, statistics in self.signs.items():
            statistics.merge(other.signs[sign], self.top_k)

    def referenced(self) -> set[int]:
        """The ids of all sequences that some neuron's list holds."""
        return {
            int(i)
            for statistics in self.signs.values()
            for keys in statistics.top.values()
            for i in sequence_ids(keys).tolist()
        }
