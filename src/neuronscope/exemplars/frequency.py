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

import torch

THRESHOLD = 0.25
"""A token counts as active from this share of the neuron's maximum."""
_MANTISSA_BITS = 4
SHIFT = 23 - _MANTISSA_BITS
"""The bits of a float32 that say nothing of its bin."""
_OCTAVES = 2
_DEPTH = _OCTAVES << _MANTISSA_BITS
N_BINS = _DEPTH + 1
"""Counters of a neuron: from the bin of a quarter of its maximum to that of the maximum."""
NO_BIN = 0x7FFFFFFF >> SHIFT
"""A bin of no finite activation."""


def empty_counts(width: int, device: torch.device | None = None) -> torch.Tensor:
    """Counters of shape `(width, N_BINS)`, all zero."""
    return torch.zeros((width, N_BINS), dtype=torch.int64, device=device)


def lowest_bin(maximum: torch.Tensor) -> torch.Tensor:
    """The number of the bin with a quarter of each maximum (float32), int32; at least 1, so that zeros never count."""
    return ((maximum.contiguous().view(torch.int32) >> SHIFT) - _DEPTH).clamp_(min=1)


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


def count(activations: torch.Tensor, sign: int, lowest: torch.Tensor, counts: torch.Tensor) -> None:
    """Count tokens by bin, on a GPU.

    Every token is sent to a counter, most of them to one that is thrown away; nothing waits for the device. Memory
    traffic decides the time. So bfloat16, whose bits are the upper ones of float32, is never made longer.

    Args:
        activations: shape `(batch, longest, width)`, raw, 0 where there is no token.
        sign: of which sign.
        lowest: shape `(width,)`: the `lowest_bin` of the maximum of all tokens so far, these included.
        counts: shape `(width, N_BINS)`, beginning at `lowest`; added to.
    """
    if activations.dtype == torch.bfloat16:
        bits, shift = activations.view(torch.int16), SHIFT - 16
    else:
        bits, shift = activations.float().view(torch.int32), SHIFT
    if sign < 0:
        bits = bits ^ torch.iinfo(bits.dtype).min  # the other sign's floats become negative integers
    bins = (bits >> shift).sub_(lowest.to(bits.dtype)).clamp_(-1, _DEPTH)
    own = N_BINS + 1
    offsets = bins + torch.arange(1, len(lowest) * own, own, device=bins.device)
    found = torch.zeros((len(lowest), own), dtype=counts.dtype, device=counts.device)
    one = torch.ones(1, dtype=counts.dtype, device=counts.device)
    found.view(-1).scatter_add_(0, offsets.flatten(), one.expand(offsets.numel()))
    counts += found[:, 1:]
