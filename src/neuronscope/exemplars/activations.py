"""Per-token activations: computed on demand by the subject, in batches, and kept for good.

A store keeps no per-token activations of its own: of millions, a few thousand are ever looked at. Those of one neuron
and sign lie in `activations/layer-<n>/<index><sign>.safetensors`: `ids` int32 (n,), `starts` int64 (n+1,) and `values`
float32, `max(sign * activation, 0)` of all tokens in turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from neuronscope.files import write_atomically
from neuronscope.protocols import Subject
from neuronscope.units import Neuron

Activations = dict[int, NDArray[np.float32]]
"""Per-token activations by sequence id."""

BATCH_TOKENS = 2048
"""Tokens of a batch, padding included: enough to keep a processor busy, little enough for its memory."""


def compute(subject: Subject, sequences: Mapping[int, Sequence[int]], neuron: Neuron) -> Activations:
    """Run the subject on token ids by sequence id; only the neuron's layer is captured."""
    from neuronscope.subject.capture import capture

    found: Activations = {}
    for batch in batches(sequences, BATCH_TOKENS):
        captured, _ = capture(subject, [sequences[sequence_id] for sequence_id in batch], [neuron.layer])
        values = (captured[neuron.layer][:, :, neuron.index].float() * neuron.sign).clamp(min=0).cpu().numpy()
        for sequence_id, row in zip(batch, values, strict=True):
            found[sequence_id] = row[: len(sequences[sequence_id])].copy()
    return found


def batches(sequences: Mapping[int, Sequence[int]], n_tokens: int) -> Iterator[list[int]]:
    """Group sequences of similar length, longest first, so that a batch has about `n_tokens` with little padding."""
    ordered = sorted(sequences, key=lambda sequence_id: (-len(sequences[sequence_id]), sequence_id))
    while ordered:
        size = max(1, n_tokens // max(1, len(sequences[ordered[0]])))
        yield ordered[:size]
        ordered = ordered[size:]


class ActivationCache:
    """The activations computed so far, in memory and on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[Neuron, Activations] = {}

    def get(self, neuron: Neuron) -> Activations:
        """What is known of a neuron, by sequence id."""
        if neuron not in self._known:
            self._known[neuron] = self._read(neuron)
        return self._known[neuron]

    def add(self, neuron: Neuron, found: Activations) -> None:
        """Keep more of a neuron's activations, beside what other processes have kept in the meantime."""
        known = self.get(neuron)
        known.update(self._read(neuron))
        known.update(found)
        ids = sorted(known)
        arrays: dict[str, NDArray[np.generic]] = {
            "ids": np.array(ids, np.int32),
            "starts": np.cumsum([0, *(len(known[i]) for i in ids)], dtype=np.int64),
            "values": np.concatenate([known[i] for i in ids]),
        }
        write_atomically(self._path(neuron), save(arrays))

    def _read(self, neuron: Neuron) -> Activations:
        try:
            arrays = load(self._path(neuron).read_bytes())
            rows = np.split(arrays["values"], arrays["starts"][1:-1])
            return dict(zip(arrays["ids"].tolist(), rows, strict=True))
        except (OSError, SafetensorError, KeyError, ValueError):
            return {}  # absent or unreadable: it is only a cache, and is computed and written again

    def _path(self, neuron: Neuron) -> Path:
        return self._folder / f"layer-{neuron.layer}" / f"{neuron.index}{'+' if neuron.sign > 0 else '-'}.safetensors"
