"""A batch's statistics on processors: each activation is read twice, in compiled loops.

The same on a GPU is in `accumulator` and `frequency`, in torch's operations; counts and maxima are equal bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from neuronscope.exemplars import frequency, topk

SIGNS = (1, -1)
"""The signs, in the order of the arrays here: both are always looked at."""


class Summary(NamedTuple):
    """What the first reading of a batch finds; the largest magnitude of a sign is 0 where there is none."""

    maxima: torch.Tensor
    """Shape `(2, batch, width)`, in the activations' dtype: each sequence's largest magnitude by sign."""
    maximum: torch.Tensor
    """Shape `(2, width)`, float32: the largest of all sequences; no finite number if any activation is none."""
    sums: torch.Tensor
    """Shape `(2, width)`, float32: over all tokens, of values and of magnitudes."""


class Batch:
    """The activations of a batch of sequences.

    Args:
        activations: shape `(batch, longest, width)`; only read.
        lengths: shape `(batch,)`: how many tokens each sequence has, the first ones of its row.
    """

    def __init__(self, activations: torch.Tensor, lengths: NDArray[np.int64]) -> None:
        activations = _readable(activations)
        bits, self._widen = _bits(activations)
        size, longest, width = bits.shape
        by_row, by_token = (stride // bits.itemsize for stride in bits.strides[:2])
        extent = (size - 1) * by_row + (longest - 1) * by_token + width if bits.size else 0
        flat = np.lib.stride_tricks.as_strided(bits, (extent,), (bits.itemsize,), writeable=False)
        sign_bit = bits.dtype.type(np.iinfo(bits.dtype).min)
        self._reading = (flat, sign_bit, self._widen, by_row, by_token, lengths)
        self._dtype = activations.dtype
        self._bits = bits.dtype
        self._size = size
        self._width = width

    def summarize(self) -> Summary:
        """Read it for the first time."""
        from neuronscope.exemplars import compiled

        maxima = np.zeros((len(SIGNS), self._size, self._width), self._bits)
        sums = np.zeros((2, self._width), np.float32)
        compiled.summarize(*self._reading, maxima, sums)
        maximum = torch.from_numpy(maxima.max(1, initial=0)).view(self._dtype).float()
        return Summary(torch.from_numpy(maxima).view(self._dtype), maximum, torch.from_numpy(sums))

    def count(self, lowest: Mapping[int, torch.Tensor]) -> dict[int, torch.Tensor]:
        """Read it for the second time, and count tokens by bin.

        Args:
            lowest: by sign, shape `(width,)`: the `lowest_bin` of the maximum of all tokens so far, these included,
                all of which must be finite.

        Returns:
            By sign, shape `(width, frequency.N_BINS)`, int32, beginning at `lowest`.
        """
        from neuronscope.exemplars import compiled

        beginnings = np.full((len(SIGNS), self._width), frequency.NO_BIN)
        for sign, bins in lowest.items():
            beginnings[SIGNS.index(sign)] = bins.numpy()
        edges = (beginnings << frequency.SHIFT >> self._widen).astype(self._bits)
        counts = np.zeros((len(SIGNS), self._width, frequency.N_BINS), np.int32)
        offsets = np.arange(0, counts.size, frequency.N_BINS).reshape(len(SIGNS), self._width) - beginnings
        compiled.count(*self._reading, frequency.SHIFT, edges, offsets.T.ravel(), counts.reshape(-1))
        return {sign: torch.from_numpy(counts[SIGNS.index(sign)]) for sign in lowest}


def insert(keys: torch.Tensor, maxima: torch.Tensor, sequence_ids: torch.Tensor, k: int) -> torch.Tensor:
    """The same as `topk.insert`, several times as fast on lists that are full: few sequences get into these.

    Args:
        keys: shape `(width, up to k)`: the lists.
        maxima: shape `(sequences, width)`: each sequence's largest activation; only positive ones count.
        sequence_ids: shape `(sequences,)`.
        k: how many to keep.
    """
    if keys.shape[1] < k:
        return topk.insert(keys, maxima, sequence_ids, k)
    from neuronscope.exemplars import compiled

    bits, widen = _bits(_readable(maxima))
    heaps = keys.numpy().copy()
    compiled.insert(heaps, bits, widen, topk.lower_halves(sequence_ids).numpy())
    return torch.from_numpy(heaps)


def _readable(values: torch.Tensor) -> torch.Tensor:
    """The values in a dtype that the loops can read, neurons side by side in memory."""
    if values.dtype not in (torch.bfloat16, torch.float32) or values.stride(-1) != 1:
        return values.float().contiguous()
    return values


def _bits(values: torch.Tensor) -> tuple[NDArray[Any], int]:
    """Their bits, and how far these are to be shifted for a float32."""
    if values.dtype == torch.bfloat16:
        return values.view(torch.int16).numpy(), 16
    return values.view(torch.int32).numpy(), 0
