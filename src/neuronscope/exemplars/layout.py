"""How a store lies on disk, format 3, and how its layers are read: mapped into memory, without the model or torch.

`docs/stores.md` says the same for people who read stores with other tools.
```
<store>/
  store.json               {"format": 3, "info": {...}, "files": {...}, "digest": "..."}: subject, corpus and settings,
                           which are `ExemplarStore.info`; a digest of each file below, and one of all this
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
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from neuronscope.digests import digest_of_file, digest_of_json
from neuronscope.errors import StoreError
from neuronscope.types import Split

FORMAT = 3
"""Version of the layout; a store of another one is refused."""
INFO_FILE = "store.json"
SEQUENCES_FILE = "sequences.parquet"


class Description(NamedTuple):
    """What `store.json` says."""

    info: dict[str, Any]
    """What the store was made of."""
    digests: dict[str, str]
    """Of each file, by its name."""

    def to_json(self) -> str:
        """The file's content."""
        return json.dumps(
            {"format": FORMAT, "info": self.info, "files": self.digests, "digest": digest_of_json(self)},
            ensure_ascii=False,
            indent=1,
        )


def describe(folder: Path, info: Mapping[str, Any]) -> Description:
    """The description of the files that are in a folder."""
    return Description(
        json.loads(json.dumps(info)), {file.name: digest_of_file(file) for file in sorted(folder.iterdir())}
    )


def read_description(folder: Path) -> Description:
    """Read `store.json`.

    Raises:
        StoreError: there is no store in this folder, or one of another format, or it is damaged.
    """
    try:
        document = json.loads((folder / INFO_FILE).read_text("utf-8"))
        version, info = document["format"], document["info"]
    except OSError as error:
        raise StoreError(
            f"There is no exemplar store in {folder}: {error.strerror}. Make one with collect_exemplars."
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(
            f"The store in {folder} is damaged: store.json cannot be read. Delete it and collect again."
        ) from error
    if version != FORMAT:
        raise StoreError(
            f"The store in {folder} has format {version!r}; this version of neuronscope reads format {FORMAT}. "
            "Collect again, or use the version that made it."
        )
    description = Description(info, document.get("files"))
    if document.get("digest") != digest_of_json(description) or not isinstance(description.digests, dict):
        raise StoreError(
            f"The store in {folder} is damaged: store.json is not what was written. Delete the store and collect again."
        )
    return description


def check_file(path: Path, expected: str | None) -> None:
    """See whether a file of a store is what was written.

    Args:
        path: the file.
        expected: its digest.

    Raises:
        StoreError: it is missing, cannot be read, or has another content.
    """
    try:
        found = digest_of_file(path)
    except OSError as error:
        raise StoreError(
            f"The store's file {path} cannot be read ({error.strerror}). Delete the store and collect again."
        ) from error
    if found != expected:
        raise StoreError(
            f"The store's file {path} cannot be read: it is damaged, or not what was written (digest {expected} then, "
            f"{found} now). Delete the store and collect again, or copy the file again from where it is whole."
        )


def layer_file(layer: int) -> str:
    """The name of a layer's file."""
    return f"layer-{layer}.safetensors"


class LayerFile:
    """One layer's arrays; rows are read as they are asked for."""

    def __init__(self, folder: Path, layer: int, digests: Mapping[str, str]) -> None:
        path = folder / layer_file(layer)
        check_file(path, digests.get(path.name))
        self._file = _open(path)

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
