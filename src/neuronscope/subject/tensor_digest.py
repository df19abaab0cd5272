"""Digests of tensors: by their bits in order, wherever they lie."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from neuronscope.digests import digest, name_of

_WORDS = 1 << 22
"""Words of a tensor on a GPU that are summed up at once."""
_MULTIPLIER = -7046029254386353131
"""The golden ratio in 64 bits, an odd number: another position, another factor."""

_on_device: Any = WeakTensorKeyDictionary()
"""Of tensors on a GPU: their sum there, and the digest that belongs to it."""


def digest_of_tensor(tensor: torch.Tensor) -> str:
    """Dtype, shape and bits: another value, or the same in another order, gives another digest.

    On a processor every bit is read each time, at the speed of its memory. A tensor on a GPU is copied here once;
    afterwards a sum that the GPU computes tells whether it has changed.
    """
    head = f"{tensor.dtype} {tuple(tensor.shape)}"
    if hasattr(tensor, "__tensor_flatten__"):  # a subclass around others, as quantised ones are
        names, settings = tensor.__tensor_flatten__()
        return name_of([head, str(settings), *(digest_of_tensor(getattr(tensor, name)) for name in names)])
    if tensor.is_meta:
        return head
    tensor_bits = bits_of(tensor)
    if tensor.device.type != "cuda":
        return f"{head} {digest([tensor_bits.cpu().numpy().data])}"
    total = sum_of_words(tensor_bits)
    known = _on_device.get(tensor)
    if known is None or known[0] != total:
        known = (total, f"{head} {digest([tensor_bits.cpu().numpy().data])}")
        _on_device[tensor] = known
    return str(known[1])


def bits_of(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor's bytes in order, without a copy where they lie in order."""
    plain = tensor.detach() if tensor.layout is torch.strided else tensor.detach().to_dense()
    plain = plain.int_repr() if plain.is_quantized else plain
    return plain.contiguous().flatten().view(torch.uint8)


def sum_of_words(data: torch.Tensor) -> int:
    """A sum over all 64-bit words, each mixed with its position; it waits for the GPU once."""
    if len(data) % 8 or data.storage_offset() % 8:
        data = torch.nn.functional.pad(data, (0, -len(data) % 8))
    words, sums = data.view(torch.int64), []
    for start in range(0, len(words), _WORDS):
        part = words[start : start + _WORDS]
        mixed = part ^ (torch.arange(start + 1, start + 1 + len(part), device=part.device) * _MULTIPLIER)
        sums.append((mixed * ((mixed >> 32) ^ _MULTIPLIER)).sum())
    return int(torch.stack(sums).sum()) if sums else 0
