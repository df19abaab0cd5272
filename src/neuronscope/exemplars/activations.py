"""Per-token activations: computed on demand by the subject, in batches, and cached on disk.

A store has no per-token activations of its own unless they were asked for (see `stored_activations`): of millions, a
few thousand are ever looked at. Those of one neuron lie in
`activations/<site>-<n>/<its file name>.safetensors`: `ids` int32 (n,), `starts` int64 (n+1,) and `values`
float32, `max(sign * activation, 0)` of all tokens in turn; `digest` uint8, of these. A file that is
damaged, or cannot be written, costs another forward pass and nothing else.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from neuronscope.digests import digest
from neuronscope.errors import ConfigurationError
from neuronscope.interfaces import Subject
from neuronscope.io import write_atomically
from neuronscope.locks import Lock
from neuronscope.stopping import check_stopped
from neuronscope.types import HookPoint, Neuron

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

Activations = dict[int, NDArray[np.float32]]
"""Per-token activations by sequence id."""

IN_MEMORY = 2**26
"""Activations that are held in memory, 256 MB of them; of neurons not asked about for long they are read again."""
BATCH_TOKENS = 2048
"""Tokens of a batch, padding included: enough to keep a processor busy, little enough for its memory."""


def compute(
    subject: Subject, sequences: Mapping[int, Sequence[int]], wanted: Mapping[Neuron, Collection[int]]
) -> dict[Neuron, Activations]:
    """Run each sequence once, as deep as the deepest neuron that wants it.

    Args:
        subject: the model.
        sequences: token ids by sequence id, of every sequence that is wanted.
        wanted: for each neuron, the ids of the sequences on which its activations are wanted.
    """
    takers: dict[int, list[Neuron]] = {}
    for neuron, ids in wanted.items():
        for sequence_id in ids:
            takers.setdefault(sequence_id, []).append(neuron)
    depths: dict[int, dict[int, Sequence[int]]] = {}
    for sequence_id, neurons in takers.items():
        deepest = max(neuron.layer for neuron in neurons)
        depths.setdefault(deepest, {})[sequence_id] = sequences[sequence_id]
    found = {neuron: _allocate(ids, sequences) for neuron, ids in wanted.items()}
    for group in depths.values():
        for batch in batches(group, BATCH_TOKENS):
            check_stopped()
            _compute_batch(subject, batch, sequences, takers, found)
    return found


def _allocate(ids: Collection[int], sequences: Mapping[int, Sequence[int]]) -> Activations:
    """Where a neuron's activations will go.

    It is there before the forward passes begin: thousands of small arrays that are made between their large ones, and
    stay, would break up the memory that these need, which then grows to many times what is in use.
    """
    lengths = [len(sequences[sequence_id]) for sequence_id in ids]
    parts = np.split(np.zeros(sum(lengths), np.float32), np.cumsum(lengths)[:-1]) if lengths else []
    return dict(zip(ids, parts, strict=True))


def _compute_batch(
    subject: Subject,
    batch: Sequence[int],
    sequences: Mapping[int, Sequence[int]],
    takers: Mapping[int, Sequence[Neuron]],
    found: Mapping[Neuron, Activations],
) -> None:
    from neuronscope.subject.capture import visit

    def copy(point: HookPoint, activations: torch.Tensor) -> None:
        for row, sequence_id in enumerate(batch):
            for neuron in takers[sequence_id]:
                if neuron.hook_point == point:
                    own = activations[row, : len(sequences[sequence_id]), neuron.index]
                    found[neuron][sequence_id][:] = (own.float() * neuron.sign).clamp(min=0).cpu().numpy()

    points = sorted({neuron.hook_point for sequence_id in batch for neuron in takers[sequence_id]})
    visit(subject, [sequences[sequence_id] for sequence_id in batch], points, copy)


def batches(sequences: Mapping[int, Sequence[int]], n_tokens: int) -> Iterator[list[int]]:
    """Group sequences of similar length, longest first, so that a batch has about `n_tokens` with little padding."""
    ordered = sorted(sequences, key=lambda sequence_id: (-len(sequences[sequence_id]), sequence_id))
    start = 0
    while start < len(ordered):
        size = max(1, n_tokens // max(1, len(sequences[ordered[start]])))
        yield ordered[start : start + size]
        start += size


class ActivationCache:
    """The activations computed so far: on disk, and in memory those of the neurons that were asked about last.

    Args:
        folder: where they are written.
        capacity: how many are held in memory, unless they cannot be written.
    """

    def __init__(self, folder: Path, capacity: int = IN_MEMORY) -> None:
        self._folder = folder
        self._capacity = capacity
        self._known: OrderedDict[Neuron, Activations] = OrderedDict()
        self._sizes: dict[Neuron, int] = {}
        self._can_be_written = True
        self._one_at_a_time = Lock()

    def get(self, neuron: Neuron) -> Activations:
        """What is known of a neuron, by sequence id."""
        with self._one_at_a_time:
            if (known := self._known.get(neuron)) is None:
                known = self._read(neuron)
                self._hold(neuron, known)
            self._known.move_to_end(neuron)
            return known

    def add(self, neuron: Neuron, found: Activations) -> None:
        """Add to a neuron's cached activations, and to what other processes have added in the meantime."""
        with self._one_at_a_time:
            known = self.get(neuron) | self._read(neuron) | found
            self._write(neuron, known)
            self._hold(neuron, known)

    def _hold(self, neuron: Neuron, known: Activations) -> None:
        self._known[neuron] = known
        self._known.move_to_end(neuron)
        self._sizes[neuron] = sum(map(len, known.values()))
        while self._can_be_written and len(self._known) > 1 and sum(self._sizes.values()) > self._capacity:
            del self._sizes[self._known.popitem(last=False)[0]]

    def _write(self, neuron: Neuron, known: Activations) -> None:
        ids = sorted(known)
        arrays: dict[str, NDArray[np.generic]] = {
            "ids": np.array(ids, np.int32),
            "starts": np.cumsum([0, *(len(known[i]) for i in ids)], dtype=np.int64),
            "values": np.concatenate([known[i] for i in ids]),
        }
        arrays["digest"] = _digest(arrays)
        if self._can_be_written:
            try:
                write_atomically(self._path(neuron), save(arrays))
            except ConfigurationError as error:  # a store on a read-only disk, say
                self._can_be_written = False
                logger.warning("Activations are kept in memory only. %s", error)

    def _read(self, neuron: Neuron) -> Activations:
        path = self._path(neuron)
        try:
            arrays = load(path.read_bytes())
            if not np.array_equal(arrays.pop("digest"), _digest(arrays)):
                raise ValueError("its content is not what was written")
            rows = np.split(arrays["values"], arrays["starts"][1:-1])
            return dict(zip(arrays["ids"].tolist(), rows, strict=True))
        except FileNotFoundError:
            return {}
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            logger.warning("The activations in %s cannot be used (%s); they are computed again.", path, error)
            return {}

    def _path(self, neuron: Neuron) -> Path:
        return self._folder / neuron.hook_point.file_name / f"{neuron.file_name}.safetensors"


def _digest(arrays: Mapping[str, NDArray[np.generic]]) -> NDArray[np.uint8]:
    parts = [part for name, array in sorted(arrays.items()) for part in (name.encode(), array.tobytes())]
    return np.frombuffer(bytes.fromhex(digest(parts)), np.uint8)
