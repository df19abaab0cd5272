"""What one layer's neurons did so far: frequency, mean, maximum and the top sequences, for both signs and all splits.

Its size depends on the layer's width and on k alone. Sequences arrive in chunks: within a chunk only each sequence's
largest activation is kept, and a chunk is merged into the running lists at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from neuronscope.errors import SubjectError
from neuronscope.exemplars.topk import merge, pack, sequence_ids
from neuronscope.units import SPLITS, Split


@dataclass
class SignStatistics:
    """The statistics of one layer for one sign; an activation of the other sign counts as 0."""

    width: int
    """How many neurons the layer has."""
    active: torch.Tensor = field(init=False)
    """Shape `(width,)`, int64: on how many tokens the activation was positive."""
    total: torch.Tensor = field(init=False)
    """Shape `(width,)`, float64: the sum over tokens."""
    maximum: torch.Tensor = field(init=False)
    """Shape `(width,)`, float32: the largest activation."""
    top: dict[Split, torch.Tensor] = field(init=False)
    """Keys of the top sequences of each split (see `topk`), of shape `(width, up to k)`."""

    def __post_init__(self) -> None:
        self.active = torch.zeros(self.width, dtype=torch.int64)
        self.total = torch.zeros(self.width, dtype=torch.float64)
        self.maximum = torch.zeros(self.width, dtype=torch.float32)
        self.top = {split: torch.zeros((self.width, 0), dtype=torch.int64) for split in SPLITS}


class LayerAccumulator:
    """Takes in one layer's activations, batch by batch and chunk by chunk."""

    def __init__(self, layer: int, width: int, signs: Sequence[int], top_k: int) -> None:
        self.layer = layer
        self.width = width
        self.top_k = top_k
        self.signs = {sign: SignStatistics(width) for sign in signs}
        self._maxima: dict[int, list[torch.Tensor]] = {sign: [] for sign in signs}
        self._active: dict[int, torch.Tensor] = {}
        self._total: dict[int, torch.Tensor] = {}

    def add_batch(self, activations: torch.Tensor, mask: torch.Tensor | None) -> None:
        """Take in a batch of sequences.

        Args:
            activations: shape `(batch, longest, width)`, raw.
            mask: shape `(batch, longest)`, True at real tokens; None if all are.
        """
        if mask is not None:
            activations = activations.masked_fill(~mask.unsqueeze(-1), 0)
        single = activations.float()
        for sign in self.signs:
            extreme = activations.amax(1) if sign > 0 else activations.amin(1).neg_()
            self._maxima[sign].append(extreme)
            silenced = single.clamp(min=0) if sign > 0 else single.clamp(max=0)
            self._add(self._total, sign, silenced.sum((0, 1)) * sign)
            self._add(self._active, sign, torch.ne(silenced, 0, out=silenced).sum((0, 1)))

    @staticmethod
    def _add(sums: dict[int, torch.Tensor], sign: int, amount: torch.Tensor) -> None:
        sums[sign] = sums[sign].add_(amount) if sign in sums else amount

    def close_chunk(self, ids: Sequence[int], splits: Sequence[Split]) -> None:
        """Merge the chunk into the running statistics.

        Args:
            ids: the ids of the chunk's sequences, in the order in which the batches brought them.
            splits: their splits.

        Raises:
            SubjectError: an activation is infinite or not a number.
        """
        for sign, statistics in self.signs.items():
            maxima = torch.cat(self._maxima[sign])
            self._check_finite(maxima)
            self._maxima[sign].clear()
            statistics.active += self._active.pop(sign).round().to("cpu", torch.int64)
            statistics.total += self._total.pop(sign).cpu().double()
            statistics.maximum = torch.maximum(statistics.maximum, maxima.amax(0).float().cpu())
            self._merge(statistics, maxima, ids, splits)

    def _merge(
        self, statistics: SignStatistics, maxima: torch.Tensor, ids: Sequence[int], splits: Sequence[Split]
    ) -> None:
        # The lists live where the activations are, but not on Apple's devices, which cannot sort 64-bit integers.
        device = torch.device("cpu") if maxima.device.type == "mps" else maxima.device
        keys = pack(maxima.to(device), torch.tensor(ids, device=device))
        for split in SPLITS:
            columns = [column for column, own in enumerate(splits) if own == split]
            if columns:
                chosen = keys if len(columns) == len(ids) else keys[:, torch.tensor(columns, device=device)]
                statistics.top[split] = merge(statistics.top[split].to(device), chosen, self.top_k)

    def _check_finite(self, maxima: torch.Tensor) -> None:
        if not torch.isfinite(maxima).all():
            raise SubjectError(
                f"Layer {self.layer} has activations that are infinite or not a number. "
                "Load the subject with another dtype, such as dtype='float32'."
            )

    def referenced(self) -> set[int]:
        """The ids of all sequences that some neuron's list holds."""
        return {
            int(i)
            for statistics in self.signs.values()
            for keys in statistics.top.values()
            for i in sequence_ids(keys).tolist()
        }
