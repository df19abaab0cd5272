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
_GROUP = 8
N_BINS = _DEPTH + 1
"""Counters of a neuron: from the bin of a quarter of its maximum to that of the maximum."""


def empty_counts(width: int, device: torch.device | None = None) -> torch.Tensor:
    """Counters of shape `(width, N_BINS)`, all zero."""
    return torch.zeros((width, N_BINS), dtype=torch.int64, device=device)


def lowest_bin(maximum: torch.Tensor) -> torch.Tensor:
    """The number of the bin with a quarter of each maximum (float32), int32; at least 1, so that zeros never count."""
    return ((maximum.contiguous().view(torch.int32) >> _SHIFT) - _DEPTH).clamp_(min=1)


def rebase(counts: torch.Tensor, old_lowest: torch.Tensor, new_lowest: torch.Tensor) -> None:
    """Let the counts begin at higher bins; what lies below is forgotten."""
    steps = (new_lowest - old_lowest).to(torch.int64)
    if counts.device.type != "cpu":
        counts.copy_(_shifted(counts, steps))
        return
    rows = steps.nonzero().flatten()  # few, after the first batches
    if len(rows):
        counts[rows] = _shifted(counts[rows], steps[rows])


def _shifted(counts: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    columns = torch.arange(N_BINS, device=counts.device) + steps[:, None]
    return torch.nn.functional.pad(counts, (0, 1)).gather(1, columns.clamp_(max=N_BINS))


def grouped_extremes(activations: torch.Tensor, sign: int) -> torch.Tensor:
    """The largest (sign +1) or smallest (-1) activation in each group of up to `_GROUP` tokens of a sequence.

    Group g of G has the tokens g, g + G, g + 2G, ... So a reduction runs along memory.

    Args:
        activations: shape `(batch, longest, width)`.
        sign: of which sign.

    Returns:
        Shape `(batch, G, width)`.
    """
    longest = activations.shape[1]
    n_groups = -(-longest // _GROUP)
    extremes = activations[:, :n_groups].clone()
    larger = torch.maximum if sign > 0 else torch.minimum
    for start in range(n_groups, longest, n_groups):
        part = activations[:, start : start + n_groups]
        place = extremes[:, : part.shape[1]]
        larger(place, part, out=place)
    return extremes


def count(
    activations: torch.Tensor, groups: torch.Tensor, sign: int, lowest: torch.Tensor, counts: torch.Tensor
) -> None:
    """Count tokens by bin.

    Args:
        activations: shape `(batch, longest, width)`, raw, 0 where there is no token; bfloat16, float16 or float32,
            neurons side by side in memory.
        groups: their `grouped_extremes` of this sign.
        sign: of which sign.
        lowest: shape `(width,)`: the `lowest_bin` of the maximum of all tokens so far, these included.
        counts: shape `(width, N_BINS)`, beginning at `lowest`; added to.
    """
    if activations.device.type == "cpu":
        _count_sparse(activations, groups, sign, lowest, counts)
    else:
        _count_dense(activations, sign, lowest, counts)


def _count_sparse(
    activations: torch.Tensor, groups: torch.Tensor, sign: int, lowest: torch.Tensor, counts: torch.Tensor
) -> None:
    """Find the few groups, and in them the few tokens, above the lowest bin; for processors."""
    edges = _sortable((lowest << _SHIFT).view(torch.float32).to(activations.dtype) * sign, sign)
    width = len(edges)
    cells, neurons = np.divmod(np.flatnonzero(_sortable(groups, sign) >= edges), width)
    tokens = _tokens_of(_sortable(activations, sign), groups.shape[1], cells, neurons)
    which = np.flatnonzero(tokens >= edges[neurons])
    owners = neurons[which % max(1, len(neurons))]
    signed = tokens.ravel()[which].view(f"i{tokens.itemsize}")
    found = torch.from_numpy(signed).view(activations.dtype).float().abs_().view(torch.int32)
    bins = (found >> _SHIFT).numpy() - lowest.numpy()[owners]
    places = owners * N_BINS + np.minimum(bins, _DEPTH)  # more than that is no number, which is refused later
    amounts = np.bincount(places[bins >= 0], minlength=width * N_BINS)
    counts += torch.from_numpy(amounts).view(width, N_BINS)


def _sortable(values: torch.Tensor, sign: int) -> NDArray[Any]:
    """Floats as integers that sort like the magnitudes of the sign, all of the other sign below.

    Positive floats sort like their bits, as signed integers; negative ones sort by magnitude like their bits, as
    unsigned ones. Comparing integers is several times as fast as comparing bfloat16.
    """
    signed = values.view(torch.int32 if values.dtype == torch.float32 else torch.int16).numpy()
    return signed if sign > 0 else signed.view(f"u{signed.itemsize}")


def _tokens_of(
    values: NDArray[Any], n_groups: int, cells: NDArray[np.int64], neurons: NDArray[np.int64]
) -> NDArray[Any]:
    """Values of the tokens of some groups for some neurons, `(tokens of a group, groups)`; 0 behind the end.

    The rows of `values`, `(batch, longest, width)`, may be apart in memory.
    """
    batch, longest, width = values.shape
    by_row, by_token = (stride // values.itemsize for stride in values.strides[:2])
    flat = np.lib.stride_tricks.as_strided(
        values, ((batch - 1) * by_row + (longest - 1) * by_token + width,), (values.itemsize,), writeable=False
    )
    firsts = (np.arange(batch)[:, None] * by_row + np.arange(n_groups) * by_token).ravel()
    steps = np.arange(0, longest, n_groups)[:, None]
    places = firsts[cells] + neurons + steps * by_token
    if longest % n_groups == 0:
        return flat[places]  # type: ignore[no-any-return]
    inside = cells % n_groups + steps < longest
    return np.where(inside, flat[np.where(inside, places, 0)], values.dtype.type(0))


def _count_dense(activations: torch.Tensor, sign: int, lowest: torch.Tensor, counts: torch.Tensor) -> None:
    """Send every token to a counter, most of them to one that is thrown away; nothing waits for the device.

    Memory traffic decides the time. So bfloat16, whose bits are the upper ones of float32, is never made longer.
    """
    if activations.dtype == torch.bfloat16:
        bits, shift = activations.view(torch.int16), _SHIFT - 16
    else:
        bits, shift = activations.float().view(torch.int32), _SHIFT
    if sign < 0:
        bits = bits ^ torch.iinfo(bits.dtype).min  # the other sign's floats become negative integers
    bins = (bits >> shift).sub_(lowest.to(bits.dtype)).clamp_(-1, _DEPTH)
    own = N_BINS + 1
    places = bins + torch.arange(1, len(lowest) * own, own, device=bins.device)
    found = torch.zeros((len(lowest), own), dtype=counts.dtype, device=counts.device)
    one = torch.ones(1, dtype=counts.dtype, device=counts.device)
    found.view(-1).scatter_add_(0, places.flatten(), one.expand(places.numel()))
    counts += found[:, 1:]
