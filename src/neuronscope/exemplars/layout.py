"""How a store lies on disk, format 2, and how its layers are read: mapped into memory, without the model or torch.

`docs/stores.md` says the same for people who read stores with other tools.
```
<store>/
  store.json               {"format": 2, "info": {...}}: subject, corpus and settings; `ExemplarStore.info`
  layer-<n>.safetensors    per sign s in "+1", "-1" and split in train, validation, test:
                             <s>/frequency, <s>/mean, <s>/maximum   float32 (width,)
                             <s>/<split>/activations                float32 (width, top_k), strongest first, else 0
                             <s>/<split>/sequences                  int32   (width, top_k), sequence ids, else -1
  sequences.parquet        the sequences that some list or random sample refers to (see `sequences`)
  activations/             per-token activations that were asked for, added later (see `activations`)
```
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from neuronscope.errors import StoreError
from neuronscope.units import Split

FORMAT = 2
"""Version of the layout; a store of another one is refused."""
INFO_FILE = "store.json"
SEQUENCES_FILE = "sequences.parquet"


def read_info(folder: Path) -> dict[str, Any]:
    """Read `store.json`.

    Raises:
        StoreError: there is no store in this folder, or one of another format.
    """
    try:
        document = json.loads((folder / INFO_FILE).read_text("utf-8"))
        version, info = document["format"], document["info"]
    except OSError as error:
        raise StoreError(
            f"There is no exemplar store in {folder}: {error.strerror}. Make one with collect_exemplars."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"The store in {folder} is damaged: store.json cannot be read. Delete it and collect again."
        ) from error
    if version != FORMAT:
        raise StoreError(
            f"The store in {folder} has format {version!r}; this version of neuronscope reads format {FORMAT}. "
            "Collect again, or use the version that made it."
        )
    return dict(info)


def layer_file(layer: int) -> str:
    """The name of a layer's file."""
    return f"layer-{layer}.safetensors"


class LayerFile:
    """One layer's arrays; rows are read as they are asked for."""

    def __init__(self, folder: Path, layer: int) -> None:
        self._file = _open(folder / layer_file(layer))

    def statistic(self, name: str, sign: int) -> NDArray[np.float32]:
        """`frequency`, `mean` or `maximum` of all neurons, shape `(width,)`."""
        array: NDArray[np.float32] = self._file.get_tensor(f"{sign:+d}/{name}")
        return array

    def top(self, index: int, sign: int, split: Split) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Ids and largest activations of one neuron's top sequences, strongest first, without empty places."""
        ids = self._file.get_slice(f"{sign:+d}/{split}/sequences")[index : index + 1][0]
        activations = self._file.get_slice(f"{sign:+d}/{split}/activations")[index : index + 1][0]
        return ids[ids >= 0], activations[ids >= 0]


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="numpy")
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"The store's file {path} cannot be read ({error}). Delete the store and collect again."
        ) from error
