"""Activations token by token that are part of a store, so that explaining needs no model.

One file for each layer, in half precision; `write_activations` writes it.
```
<s>/<split>         float16 (width, k, seq_len)  max(s * a, 0) / 2^exponent at each token, in the order of the list with
                                                 the same name in the layer's own file; 0 behind a sequence's end
<s>/exponent        int16   (width,)             of the unit's maximum: what is stored lies between 0 and 1
sampled/values      float16 (width, tokens)      a / 2^exponent at all tokens of the random samples' sequences, by id;
                                                 0 for the sign that the store lacks
sampled/exponent    int16   (width,)
sampled/ids         int32   (n,)                 these sequences
sampled/starts      int64   (n + 1,)             where each begins
```
A power of two changes no digit, and keeps large activations within half precision's range: of a bfloat16 model what is
read is what was computed, of others it is rounded to 11 bits. Below 2^-14 of the maximum digits are lost, below 2^-24
all of them.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from neuronscope.exemplars.activations import Activations
from neuronscope.exemplars.layout import LayerFile, StoreFiles, activations_file, open_arrays
from neuronscope.types import SPLITS, HookPoint, Neuron


class StoredActivations:
    """One layer's activations; of each neuron they are read as they are asked for.

    Args:
        files: the store's files.
        point: the layer.
        lists: its lists.
        signs: the store's signs.
    """

    def __init__(self, files: StoreFiles, point: HookPoint, lists: LayerFile) -> None:
        self._file = open_arrays(files.path(activations_file(point)))
        self._lists = lists
        self._sampled: NDArray[np.int32] = self._file.get_tensor("sampled/ids")
        self._starts: NDArray[np.int64] = self._file.get_tensor("sampled/starts")

    def ids(self, neuron: Neuron) -> set[int]:
        """The sequences for which the store has this neuron's activations."""
        listed = (self._lists.top(neuron.index, neuron.sign, split)[0].tolist() for split in SPLITS)
        return set(self._sampled.tolist()).union(*listed)

    def get(self, neuron: Neuron, ids: Iterable[int]) -> Activations:
        """Those of some of these sequences, shape `(seq_len,)`: of listed ones 0 behind the end."""
        wanted = set(ids)
        found: Activations = {}
        for split in SPLITS:
            listed, _ = self._lists.top(neuron.index, neuron.sign, split)
            if wanted.intersection(listed.tolist()):
                rows = self._read(f"{neuron.sign:+d}/{split}", f"{neuron.sign:+d}", neuron)
                found |= {i: row for i, row in zip(listed.tolist(), rows, strict=False) if i in wanted}
        rest = sorted((wanted - found.keys()).intersection(self._sampled.tolist()))
        if rest:
            values = np.maximum(neuron.sign * self._read("sampled/values", "sampled", neuron), 0)
            for i, position in zip(rest, self._sampled.searchsorted(rest), strict=True):
                found[i] = values[self._starts[position] : self._starts[position + 1]]
        return found

    def _read(self, name: str, exponent: str, neuron: Neuron) -> NDArray[np.float32]:
        values = self._file.get_slice(name)[neuron.index : neuron.index + 1][0]
        exponents = self._file.get_slice(f"{exponent}/exponent")[neuron.index : neuron.index + 1]
        scaled: NDArray[np.float32] = np.ldexp(values.astype(np.float32), exponents[0])
        return scaled
