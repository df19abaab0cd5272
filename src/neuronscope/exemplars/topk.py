"""The k largest of a stream, exactly, with ties decided by the lower sequence id.

A positive activation and its sequence id share one 64-bit integer: the float's bits above (positive floats sort like
their bits), the inverted id below. Comparing such keys compares activations first and ids second, so the top k are
the same in whatever order, and however divided, the stream arrives; merging is associative.
"""

from __future__ import annotations

import torch

EMPTY = -1
"""The id at a position of a list that no sequence fills."""
MAX_ID = 2**31 - 1
"""The largest sequence id: stores keep ids in 32 bits, with a sign for `EMPTY`."""


def pack(maxima: torch.Tensor, sequence_ids: torch.Tensor) -> torch.Tensor:
    """Keys of sequences for every neuron.

    Args:
        maxima: shape `(sequences, width)`, each sequence's largest activation; only positive ones count.
        sequence_ids: shape `(sequences,)`, integers from 0 to `MAX_ID`.

    Returns:
        Shape `(width, sequences)`, int64. A key below 2**32 stands for no activation.
    """
    bits = maxima.float().view(torch.int32).clamp(min=0).t().to(torch.int64)  # negative zeros become zeros, too
    return bits.bitwise_left_shift_(32).bitwise_or_(lower_halves(sequence_ids))


def lower_halves(sequence_ids: torch.Tensor) -> torch.Tensor:
    """What keys of these sequences have below the bits of the activation; int64, greater than 0."""
    return sequence_ids.to(torch.int64).bitwise_not().bitwise_and_(0xFFFFFFFF)


def insert(keys: torch.Tensor, maxima: torch.Tensor, sequence_ids: torch.Tensor, k: int) -> torch.Tensor:
    """Merge sequences into lists.

    Args:
        keys: shape `(width, up to k)`: the lists.
        maxima: as for `pack`.
        sequence_ids: as for `pack`.
        k: how many to keep.
    """
    return merge(keys, pack(maxima, sequence_ids), k)


def merge(keys: torch.Tensor, others: torch.Tensor, k: int) -> torch.Tensor:
    """The k largest keys of each row of two arrays of shapes `(width, ...)`; their order is not defined."""
    together = torch.cat([keys, others], dim=1)
    return together.topk(k, dim=1, sorted=False).values if together.shape[1] > k else together


def unpack(keys: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Activations (float32) and sequence ids (int32), strongest first, both of shape `(width, k)`.

    Lists shorter than k are filled with activation 0 and id `EMPTY`.
    """
    ordered = keys.sort(dim=1, descending=True).values
    if ordered.shape[1] < k:
        ordered = torch.nn.functional.pad(ordered, (0, k - ordered.shape[1]))
    values = (ordered >> 32).to(torch.int32).view(torch.float32)
    ids = ordered.bitwise_not().bitwise_and_(0xFFFFFFFF).to(torch.int32)
    return values, torch.where(values > 0, ids, EMPTY)


def sequence_ids(keys: torch.Tensor) -> torch.Tensor:
    """The distinct ids of the sequences that keys refer to."""
    distinct = keys[keys >= 1 << 32].bitwise_not_().bitwise_and_(0xFFFFFFFF)
    unique: torch.Tensor = torch.unique(distinct)
    return unique
