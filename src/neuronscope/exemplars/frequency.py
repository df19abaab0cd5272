"""How often a neuron is active, in one pass: the share of tokens above a quarter of its own maximum.

Neurons of gated MLPs are positive on about half of all tokens, so "more than zero" says nothing. What an explainer and
a simulator are shown is the activation relative to the neuron's maximum, on a scale of 0 to 10: a token counts from
2.5 on that scale, `THRESHOLD`. Higher up the count rests on a handful of tokens (at half of the maximum, a thousandth
of them); lower down it measures the noise around zero (at a tenth, one token in fifteen counts for any neuron).

The maximum is known only at the end. So tokens are counted in bins of logarithmic width, fine enough to cut at the
threshold afterwards: a bin is all floats that share sign, exponent and the first four bits of the mantissa, 16 bins
per octave. Only bins from a quarter of the running maximum upwards can still matter; what falls below is forgotten.
Every token is counted, and the counts depend on the tokens alone, not on their order or division: they merge.

**Bin error.** The cut is made at the lower edge of the bin that contains a quarter of the maximum, so the effective
threshold lies between 0.235 (= 0.25 x 16/17) and 0.25 of the maximum.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

THRESHOLD = 0.25
"""A token counts as active from this share of the neuron's maximum."""
_MANTISSA_BITS = 4
_SHIFT = 23 - _MANTISSA_BITS
_OCTAVES = 2
_DEPTH = _OCTAVES << _MANTISSA_BITS
N_BINS = _DEPTH + 1
"""Counters of a neuron: from the bin of a quarter of its maximum to that of the maximum."""


def empty_counts(width: int, device: torch.device | None = None) -> torch.Tensor:
    """Counters of shape `(width, N_BINS)`, all zero."""
    return torch.zeros((width, N_BINS), dtype=torch.int64, device=device)


def lowest_bin(maximum: torch.Tensor) -> torch.Tensor:
    """The number of the bin with a quarter of each maximum (float32), int32; at least 1, so that zeros never count."""
    return ((maximum.contiguous().view(torch.int32) >> _SHIFT) - _DEPTH).clamp_(min=1)


def rebase(counts: torch.Tensor, old_maximum: torch.Tensor, new_maximum: torch.Tensor) -> torch.Tensor:
    """The same counts, beginning at the lowest bin of a larger maximum; what lies below is forgotten."""
    steps = lowest_bin(new_maximum) - lowest_bin(old_maximum)
    columns = torch.arange(N_BINS, device=counts.device) + steps.to(torch.int64)[:, None]
    return torch.nn.functional.pad(counts, (0, 1)).gather(1, columns.clamp_(max=N_BINS))


def count(activations: torch.Tensor, sign: int, maximum: torch.Tensor) -> torch.Tensor:
    """Count tokens by bin.

    Args:
        activations: shape `(batch, longest, width)`, raw, 0 where there is no token.
        sign: of which sign.
        maximum: shape `(width,)`, float32: of all tokens so far, these included.

    Returns:
        Counters `(width, N_BINS)`, beginning at `lowest_bin(maximum)`.
    """
    if activations.device.type == "cpu":
        return _count_sparse(activations, sign, lowest_bin(maximum))
    return _count_dense(activations, sign, lowest_bin(maximum))


def _count_sparse(activations: torch.Tensor, sign: int, lowest: torch.Tensor) -> torch.Tensor:
    """Find the few tokens above the lowest bin first; for processors.

    Positive floats sort like their bits, as signed integers; negative ones sort by magnitude like their bits, as
    unsigned ones. Comparing integers is several times as fast as comparing bfloat16.
    """
    if activations.dtype not in (torch.bfloat16, torch.float16, torch.float32) or activations.stride(-1) != 1:
        activations = activations.float().contiguous()
    bits = torch.int32 if activations.dtype == torch.float32 else torch.int16
    values, width = activations.view(bits).numpy(), activations.shape[-1]
    edges = (lowest << _SHIFT).view(torch.float32).to(activations.dtype).view(bits).numpy()
    if sign < 0:
        unsigned = np.dtype(f"u{values.itemsize}")
        values = values.view(unsigned)
        edges = edges.view(unsigned) | unsigned.type(1 << (8 * values.itemsize - 1))
    tokens, neurons = np.divmod(np.flatnonzero(values >= edges), width)
    found = torch.from_numpy(_take(values, tokens, neurons).view(f"i{values.itemsize}")).view(activations.dtype)
    bins = (found.float().abs().view(torch.int32) >> _SHIFT).numpy() - lowest.numpy()[neurons]
    cells = neurons * N_BINS + np.minimum(bins, _DEPTH)  # more than that is no number, which is refused later
    return torch.from_numpy(np.bincount(cells[bins >= 0], minlength=width * N_BINS).reshape(width, N_BINS))


def _take(values: NDArray[Any], tokens: NDArray[np.int64], neurons: NDArray[np.int64]) -> NDArray[Any]:
    """Single values of an array `(batch, longest, width)`, whose rows may be apart in memory."""
    batch, longest, width = values.shape
    by_row, by_token = (stride // values.itemsize for stride in values.strides[:2])
    starts = (np.arange(batch)[:, None] * by_row + np.arange(longest) * by_token).ravel()
    extent = int(starts[-1]) + width if len(starts) else 0
    flat = np.lib.stride_tricks.as_strided(values, (extent,), (values.itemsize,), writeable=False)
    taken: NDArray[Any] = flat[starts[tokens] + neurons]
    return taken


def _count_dense(activations: torch.Tensor, sign: int, lowest: torch.Tensor) -> torch.Tensor:
    """Send every token to a counter, most of them with weight 0; nothing waits for the device."""
    width = activations.shape[-1]
    bins = ((activations.float() * sign).clamp_(min=0).view(torch.int32) >> _SHIFT) - lowest
    cells = torch.arange(width, device=bins.device) * N_BINS + bins.clamp(0, _DEPTH)
    counts = empty_counts(width, bins.device)
    counts.view(-1).scatter_add_(0, cells.flatten(), (bins >= 0).flatten().to(torch.int64))
    return counts
