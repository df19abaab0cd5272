"""How a store lies on disk, format 4, and how its layers are read: mapped into memory, without the model or torch.

`docs/stores.md` says the same for people who read stores with other tools.
```
<store>/
  store.json                      {"format": 4, "info": {...}, "files": {...}, "digest": "..."}: subject, site, corpus
                                  and settings, which are `ExemplarStore.info`; size and digest of each file below,
                                  and a digest of all this
  <site>-<n>.safetensors          of layer n, per sign s in "+1", "-1" and split in train, feedback, validation, test:
                                    <s>/frequency, <s>/mean, <s>/maximum   float32 (width,)
                                    <s>/<split>/activations                float32 (width, k), strongest first, else 0
                                    <s>/<split>/sequences                  int32   (width, k), sequence ids, else -1
  <site>-<n>.kept.safetensors     these sequences' activations token by token, if asked for (see `stored_activations`)
  sequences.parquet               the sequences that some list or random sample refers to (see `sequences`)
  activations/                    per-token activations that were computed later, a cache (see `activations`)
```
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from neuronscope.digests import digest_of_file, digest_of_json
from neuronscope.errors import StoreError
from neuronscope.types import HookPoint, Split

FORMAT = 4
"""Version of the layout; a store of another one is refused."""
INFO_FILE = "store.json"
SEQUENCES_FILE = "sequences.parquet"
CHECKED_AT_ONCE = 1 << 20
"""Bytes of a file up to which its content is compared when a store is opened; that of a larger one when it is first
read."""
_REMEDY = "Delete the store and collect again, or copy the file again from where it is whole."


class FileRecord(NamedTuple):
    """What a file of a store was when it was written."""

    size: int
    """In bytes."""
    xxh3: str
    """The digest of its content, 128 bits."""


class Description(NamedTuple):
    """What `store.json` says."""

    info: dict[str, Any]
    """What the store was made of."""
    files: dict[str, FileRecord]
    """By their names."""

    def to_json(self) -> str:
        """The file's content."""
        return json.dumps(
            {"format": FORMAT, "info": self.info, "files": _as_objects(self.files), "digest": self.digest()},
            ensure_ascii=False,
            indent=1,
        )

    def digest(self) -> str:
        """Of all of it."""
        return digest_of_json([self.info, _as_objects(self.files)])


def _as_objects(files: Mapping[str, FileRecord]) -> dict[str, dict[str, Any]]:
    return {name: record._asdict() for name, record in files.items()}


def describe(folder: Path, info: Mapping[str, Any]) -> Description:
    """The description of the files that are in a folder."""
    files = {file.name: FileRecord(file.stat().st_size, digest_of_file(file)) for file in sorted(folder.iterdir())}
    return Description(json.loads(json.dumps(info)), files)


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
        raise StoreError(_of_another_format(folder, version, info))
    try:
        files = {
            str(name): FileRecord(int(each["size"]), str(each["xxh3"])) for name, each in document["files"].items()
        }
        description = Description(info, files)
    except (AttributeError, KeyError, TypeError, ValueError):
        description = None
    if description is None or document.get("digest") != description.digest():
        raise StoreError(
            f"The store in {folder} is damaged: store.json is not what was written. Delete the store and collect again."
        )
    return description


def _of_another_format(folder: Path, version: object, info: object) -> str:
    found = (
        f"The store in {folder} has format {version!r}, by its {INFO_FILE}; this version of neuronscope reads format "
        f"{FORMAT}. "
    )
    if type(version) is not int or version > FORMAT:
        return found + "Use the version that made it, or collect again."
    return found + (
        "0.1, or a later state of it, has made it, with three splits and no sites; the feedback split needs sequences "
        f"that it does not hold, so it cannot be converted. Collect again{_command(info)}: that makes a new store, and "
        "this folder can be deleted. Or read it with the version that made it."
    )


def _command(info: object) -> str:
    """What collects the same on the command line, as far as an older store says it."""
    try:
        made: Any = info
        corpus, tokens, seq_len = str(made["corpus"]["name"]), made["requested_tokens"], int(made["seq_len"])
        words = ["neuronscope", "collect", str(made["subject"]["name"]), "--layers", ",".join(made["widths"])]
        words += ["--corpus", "…" if corpus == "texts" else corpus, "--seq-len", str(seq_len)]
        words += [] if tokens is None else ["--n-tokens", str(int(tokens))]
    except (KeyError, TypeError, ValueError):
        return " with collect_exemplars and the same arguments"
    command = shlex.join(words).replace("'…'", "…")
    return f", with `{command}` or collect_exemplars"


class StoreFiles:
    """The files of a store, each compared with what was written before it is read for the first time.

    Their sizes are compared, and the content of the small ones, when a store is opened.

    Args:
        folder: the store's folder.
        records: what was written.
        optional: names of files without which the store still answers; these are looked at when they are read.

    Raises:
        StoreError: a file is missing, or not what was written; the message names it.
    """

    def __init__(self, folder: Path, records: Mapping[str, FileRecord], optional: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self._records = records
        self._checked: set[str] = set()
        for name in records.keys() - set(optional):
            if self._check_size(name).size <= CHECKED_AT_ONCE:
                self.path(name)

    def __contains__(self, name: str) -> bool:
        return name in self._records

    def path(self, name: str) -> Path:
        """Where a file is, which is whole.

        Raises:
            StoreError: it is missing, cannot be read, or has another content.
        """
        path = self.folder / name
        if name not in self._checked:
            record = self._check_size(name)
            try:
                found = digest_of_file(path)
            except OSError as error:
                raise StoreError(_unreadable(path, error)) from error
            if found != record.xxh3:
                raise StoreError(_damaged(path, f"digest {record.xxh3} then, {found} now"))
            self._checked.add(name)
        return path

    def _check_size(self, name: str) -> FileRecord:
        path = self.folder / name
        record = self._records.get(name)
        if record is None:
            raise StoreError(_damaged(path, "store.json does not have it"))
        try:
            size = path.stat().st_size
        except OSError as error:
            raise StoreError(_unreadable(path, error)) from error
        if size != record.size:
            raise StoreError(_damaged(path, f"{record.size:,} bytes then, {size:,} now"))
        return record


def _unreadable(path: Path, error: OSError) -> str:
    return f"The store's file {path} cannot be read ({error.strerror}). {_REMEDY}"


def _damaged(path: Path, how: str) -> str:
    return f"The store's file {path} cannot be read: it is damaged, or not what was written ({how}). {_REMEDY}"


def open_arrays(path: Path) -> Any:
    """Map the arrays of a safetensors file into memory.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        return safe_open(path, framework="numpy")
    except (OSError, SafetensorError) as error:
        raise StoreError(f"The store's file {path} cannot be read ({error}). {_REMEDY}") from error


def layer_file(point: HookPoint) -> str:
    """The name of the file with a layer's statistics and lists."""
    return f"{point.file_name}.safetensors"


def activations_file(point: HookPoint) -> str:
    """The name of the file with the activations of a layer's listed sequences."""
    return f"{point.file_name}.kept.safetensors"


class LayerFile:
    """One layer's arrays; rows are read as they are asked for."""

    def __init__(self, files: StoreFiles, point: HookPoint) -> None:
        self._file = open_arrays(files.path(layer_file(point)))

    def statistic(self, name: str, sign: int) -> NDArray[np.float32]:
        """`frequency`, `mean` or `maximum` of all neurons, shape `(width,)`."""
        array: NDArray[np.float32] = self._file.get_tensor(f"{sign:+d}/{name}")
        return array

    def top(self, index: int, sign: int, split: Split) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Ids and largest activations of one neuron's top sequences, strongest first, without empty positions."""
        ids = self._file.get_slice(f"{sign:+d}/{split}/sequences")[index : index + 1][0]
        activations = self._file.get_slice(f"{sign:+d}/{split}/activations")[index : index + 1][0]
        return ids[ids >= 0], activations[ids >= 0]
