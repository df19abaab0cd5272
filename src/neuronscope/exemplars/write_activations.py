"""Writing activations token by token into a new store; `stored_activations` says what goes where, and reads it.

Which sequences the lists hold is known at the end of the pass over the corpus. So those sequences go through the model
once more, all layers in the same passes, and each batch is written at once to where it belongs: files that are mapped
into memory, so that the disk's cache and not this process holds them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from neuronscope.exemplars.accumulator import LayerAccumulator
from neuronscope.exemplars.activations import batches
from neuronscope.exemplars.layout import activations_file
from neuronscope.exemplars.pool import SequencePool
from neuronscope.exemplars.topk import unpack
from neuronscope.interfaces import Subject
from neuronscope.stopping import check_stopped
from neuronscope.subject.capture import visit
from neuronscope.types import SPLITS, HookPoint, Split

_DTYPES: dict[str, Any] = {"F16": np.float16, "I16": np.int16, "I32": np.int32, "I64": np.int64}
_ZEROS = bytes(1 << 20)


def write_activations(
    folder: Path,
    subject: Subject,
    layers: Iterable[LayerAccumulator],
    pool: SequencePool,
    seq_len: int,
    batch_tokens: int,
    advance: Callable[[int], None] = lambda tokens: None,
) -> None:
    """Run the sequences of a pruned pool once more, and write the activations of those that each list holds.

    Args:
        folder: the store's folder, in the making.
        subject: the model.
        layers: the lists.
        pool: the sequences.
        seq_len: tokens of a full sequence.
        batch_tokens: tokens of a forward pass, padding included.
        advance: called with each batch's number of tokens.
    """
    files = {layer.point: _LayerWriter(folder, layer, pool, seq_len) for layer in layers}
    token_ids = {i: sequence.token_ids.tolist() for i, sequence in pool.sequences.items()}
    for batch in batches(token_ids, batch_tokens):
        check_stopped()
        rows = _Batch(batch, [len(token_ids[i]) for i in batch], [pool.sequences[i].split for i in batch])

        def write(point: HookPoint, activations: torch.Tensor, rows: _Batch = rows) -> None:
            files[point].write(rows, activations)

        visit(subject, [token_ids[i] for i in batch], list(files), write)
        advance(sum(rows.lengths))
    for file in files.values():
        file.close()


class _Batch(NamedTuple):
    """The sequences of a batch."""

    ids: Sequence[int]
    lengths: Sequence[int]
    splits: Sequence[Split]


class _Positions:
    """Where in a list of `(width, k)` ids each sequence stands."""

    def __init__(self, ids: NDArray[np.int32]) -> None:
        self.k = ids.shape[1]
        self._order = ids.ravel().argsort(kind="stable").astype(np.int32)
        self._sorted = ids.ravel()[self._order]

    def of(self, ids: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """For each position that one of the sequences has: which of them it is, and the position in the flat list."""
        first, end = (self._sorted.searchsorted(np.array(ids, np.int32), side) for side in ("left", "right"))
        which = np.repeat(np.arange(len(ids)), end - first)
        found = [self._order[a:b] for a, b in zip(first, end, strict=True)]
        return which, np.concatenate([np.empty(0, np.int32), *found])


class _LayerWriter:
    """One layer's file, while the batches come in."""

    def __init__(self, folder: Path, layer: LayerAccumulator, pool: SequencePool, seq_len: int) -> None:
        self._signs = tuple(layer.signs)
        self._seq_len = seq_len
        self._positions: dict[tuple[int, Split], _Positions] = {}
        shapes: dict[str, tuple[str, tuple[int, ...]]] = {}
        maxima = {sign: statistics.maximum.cpu().numpy() for sign, statistics in layer.signs.items()}
        for sign, statistics in layer.signs.items():
            for split, keys in statistics.top.items():
                _, ids = unpack(keys, layer.top_k[split])
                self._positions[sign, split] = _Positions(ids.cpu().numpy())
                shapes[f"{sign:+d}/{split}"] = "F16", (layer.width, layer.top_k[split], seq_len)
            shapes[f"{sign:+d}/exponent"] = "I16", (layer.width,)
        sampled = sorted(pool.sampled())
        starts = np.cumsum([0, *(len(pool.sequences[i].token_ids) for i in sampled)])
        shapes |= {
            "sampled/values": ("F16", (layer.width, int(starts[-1]))),
            "sampled/exponent": ("I16", (layer.width,)),
            "sampled/ids": ("I32", (len(sampled),)),
            "sampled/starts": ("I64", (len(starts),)),
        }
        self._arrays = _create(folder / activations_file(layer.point), shapes)
        self._start_of = dict(zip(sampled, starts.tolist(), strict=False))
        self._exponents = {f"{sign:+d}": np.frexp(maximum)[1] for sign, maximum in maxima.items()}
        self._exponents["sampled"] = np.frexp(np.max(list(maxima.values()), axis=0))[1]
        for name, exponents in self._exponents.items():
            self._arrays[f"{name}/exponent"][:] = exponents
        self._arrays["sampled/ids"][:] = sampled
        self._arrays["sampled/starts"][:] = starts

    def write(self, rows: _Batch, activations: torch.Tensor) -> None:
        """Take in a batch, of shape `(batch, longest, width)`."""
        for split in SPLITS:
            own = [row for row, each in enumerate(rows.splits) if each == split]
            for sign in self._signs if own else ():
                self._write_listed(rows, own, sign, split, activations)
        for row, (sequence_id, length) in enumerate(zip(rows.ids, rows.lengths, strict=True)):
            if sequence_id in self._start_of:
                self._write_sampled(sequence_id, activations[row, :length].float().cpu().numpy())

    def _write_listed(
        self, rows: _Batch, own: Sequence[int], sign: int, split: Split, activations: torch.Tensor
    ) -> None:
        positions = self._positions[sign, split]
        which, slots = positions.of([rows.ids[row] for row in own])
        chosen, units = np.array(own)[which], slots // positions.k
        index = (torch.from_numpy(each).to(activations.device) for each in (chosen, units.astype(np.int64)))
        values = _scaled(_each_at(activations, *index), self._exponents[f"{sign:+d}"][units, None], sign)
        longest = values.shape[1]
        values[np.arange(longest) >= np.array(rows.lengths)[chosen, None]] = 0
        self._arrays[f"{sign:+d}/{split}"].reshape(-1, self._seq_len)[slots, :longest] = values

    def _write_sampled(self, sequence_id: int, values: NDArray[np.float32]) -> None:
        start = self._start_of[sequence_id]
        least, most = (-np.inf if -1 in self._signs else 0), (np.inf if 1 in self._signs else 0)
        scaled = np.ldexp(values.clip(least, most), -self._exponents["sampled"]).astype(np.float16)
        self._arrays["sampled/values"][:, start : start + len(values)] = scaled.T

    def close(self) -> None:
        """Have the file written."""
        for array in self._arrays.values():
            array.flush()
        self._arrays.clear()


def _each_at(activations: torch.Tensor, rows: torch.Tensor, units: torch.Tensor) -> NDArray[np.float32]:
    """One unit's activations along one row each, shape `(n, longest)`."""
    found: NDArray[np.float32] = activations[rows, :, units].float().cpu().numpy()
    return found


def _scaled(values: NDArray[np.float32], exponents: NDArray[np.int32], sign: int) -> NDArray[np.float16]:
    return np.ldexp(np.maximum(sign * values, 0), -exponents).astype(np.float16)


def _create(path: Path, shapes: Mapping[str, tuple[str, tuple[int, ...]]]) -> dict[str, Any]:
    """A safetensors file full of zeros, and its arrays, which are written where the file is.

    Raises:
        OSError: there is no room for it.
    """
    header: dict[str, Any] = {}
    end = 0
    for name, (kind, shape) in sorted(shapes.items(), key=lambda each: -_size(each[1][0])):  # aligned by itself
        start, end = end, end + prod(shape) * _size(kind)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.flush()
        _reserve(file.fileno(), len(text) + 8, end)
    return {
        name: np.memmap(path, _DTYPES[kind], "r+", 8 + len(text) + header[name]["data_offsets"][0], shape)
        for name, (kind, shape) in shapes.items()
    }


def _size(kind: str) -> int:
    return int(np.dtype(_DTYPES[kind]).itemsize)


def _reserve(descriptor: int, offset: int, size: int) -> None:
    """Room on the disk: of a mapped file, a disk that is full would be a crash and no error."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, offset, max(size, 1))
        return
    with os.fdopen(os.dup(descriptor), "wb") as file:
        for start in range(0, size, len(_ZEROS)):
            file.write(_ZEROS[: size - start])
