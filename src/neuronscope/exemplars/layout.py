"""How a store lies on disk, format 1, and how it is read: piece by piece, without the model, and without torch.

```
<store>/
  store.json               {"format": 1, "info": {...}}: subject, corpus and settings; `ExemplarStore.info`
  layer-<n>.safetensors    per sign s in "+1", "-1" and split in train, validation, test:
                             <s>/frequency, <s>/mean, <s>/maximum   float32 (width,)
                             <s>/<split>/activations                float32 (width, top_k), strongest first, else 0
                             <s>/<split>/sequences                  int32   (width, top_k), sequence ids, else -1
  sequences.safetensors    the n sequences that some list or random sample refers to, by ascending id:
                             ids int32 (n,), splits uint8 (n,), sources int32 (n,), sampled bool (n,)
                             token_starts int64 (n+1,)   where each sequence begins among the tokens
                             token_ids    int32 (tokens,)
                             text_ends    int64 (tokens,)  where each token's text ends in `text`
                             text         uint8 (bytes,)   the text of all tokens, UTF-8
  activations/             per-token activations that were asked for, added later (see `activations`)
```
Splits are numbered in the order of `units.SPLITS`, sources in the order of `info["sources"]`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from neuronscope.errors import StoreError
from neuronscope.units import SPLITS, Split

FORMAT = 1
"""Version of the layout; a store of another one is refused."""
INFO_FILE = "store.json"
SEQUENCES_FILE = "sequences.safetensors"


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


class SequenceFile:
    """The sequences of a store: tokens, their text, split and source."""

    def __init__(self, folder: Path) -> None:
        file = _open(folder / SEQUENCES_FILE)
        self._folder = folder
        self._arrays: dict[str, NDArray[Any]] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        self._text = self._arrays["text"].tobytes()

    def sampled(self, split: Split) -> NDArray[np.int32]:
        """Ids of the split's random sample."""
        chosen = self._arrays["sampled"] & (self._arrays["splits"] == SPLITS.index(split))
        ids: NDArray[np.int32] = self._arrays["ids"][chosen]
        return ids

    def token_ids(self, sequence_id: int) -> list[int]:
        """The subject's token ids, without BOS."""
        tokens: list[int] = self._arrays["token_ids"][self._tokens(sequence_id)].tolist()
        return tokens

    def tokens(self, sequence_id: int) -> list[str]:
        """The text of each token."""
        place = self._tokens(sequence_id)
        ends: list[int] = self._arrays["text_ends"][place].tolist()
        first = int(self._arrays["text_ends"][place.start - 1]) if place.start else 0
        return [self._text[start:end].decode() for start, end in zip([first, *ends], ends, strict=False)]

    def source(self, sequence_id: int) -> int:
        """The number of the sequence's source."""
        return int(self._arrays["sources"][self._row(sequence_id)])

    def _tokens(self, sequence_id: int) -> slice:
        row = self._row(sequence_id)
        start, end = self._arrays["token_starts"][row : row + 2].tolist()
        return slice(start, end)

    def _row(self, sequence_id: int) -> int:
        ids = self._arrays["ids"]
        row = int(np.searchsorted(ids, sequence_id))
        if row == len(ids) or ids[row] != sequence_id:
            raise StoreError(
                f"The store in {self._folder} does not hold sequence {sequence_id}: it keeps those of top lists and a "
                "random sample. Ask for ids that exemplars() or random_sequences() gave."
            )
        return row


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="numpy")
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"The store's file {path} cannot be read ({error}). Delete the store and collect again."
        ) from error
