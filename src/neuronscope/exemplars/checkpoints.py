"""Checkpoints of a collection: one file beside the store to be, replaced as a whole, at a small share of the time.

```
<root>/<store>.partial/
  checkpoint.safetensors   what is gathered after some chunk; its metadata "state" is JSON, with the counts, the key and
                           a digest of the rest
```
When it is written depends on the clock; what the finished store holds does not. The folder goes when the store is
there. Several processes that collect the same store take turns in replacing it: either's is as good.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from neuronscope.digests import digest
from neuronscope.errors import StoreError
from neuronscope.exemplars.partial_store import sweep
from neuronscope.io import OTHER_PLACE, writing

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

INTERVAL = 60.0
"""Seconds of work between two checkpoints, at least: what a kill can cost."""
MAX_SHARE = 0.01
"""Writing checkpoints takes at most this share of the time: large ones are written less often."""
_FILE = "checkpoint.safetensors"
_STALE = 600.0


class Checkpoints:
    """The checkpoint of one collection.

    Args:
        folder: where it lies; made when there is something to write.
        key: what the collection is of; a checkpoint of something else is not taken up.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any]) -> None:
        self.folder = folder
        self.seconds = 0.0
        """Time spent on writing."""
        self._key = dict(key)
        self._next = time.monotonic() + INTERVAL

    def load(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """The last checkpoint's arrays and counts; None if there is none that can be used."""
        self._sweep()
        path = self.folder / _FILE
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                state = json.loads(file.metadata()["state"])
                if state["key"] != json.loads(json.dumps(self._key)):
                    logger.info("The checkpoint in %s is of other settings; starting afresh.", self.folder)
                    return None
                arrays = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
                if state["digest"] != _digest(arrays, state["counts"]):
                    raise ValueError("its content is not what was written")
                return arrays, state["counts"]
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
            logger.warning("The checkpoint in %s cannot be read (%s); starting afresh.", self.folder, error)
            return None

    def due(self) -> bool:
        """Whether it is time for the next one."""
        return time.monotonic() >= self._next

    def save(self, arrays: Mapping[str, torch.Tensor], counts: Mapping[str, Any]) -> None:
        """Replace the checkpoint.

        Raises:
            StoreError: it cannot be written.
        """
        from safetensors.torch import save_file

        start = time.monotonic()
        temporary = self.folder / f"{uuid.uuid4().hex}.tmp"  # a folder: safetensors puts temporary files beside its own
        own = {name: array.cpu().contiguous() for name, array in arrays.items()}
        own_counts = json.loads(json.dumps(counts))
        state = json.dumps({"key": self._key, "counts": own_counts, "digest": _digest(own, own_counts)})
        remedy = f"{OTHER_PLACE}; the same call goes on from the checkpoint before, if there is one."
        with writing(self.folder / _FILE, SafetensorError, kind=StoreError, remedy=remedy):
            temporary.mkdir(parents=True)
            try:
                save_file(own, temporary / _FILE, {"state": state})
                (temporary / _FILE).replace(self.folder / _FILE)
            except (OSError, SafetensorError):
                if temporary.exists():
                    raise
                # Another process has just finished the same, and cleared up.
                logger.info("A checkpoint in %s was cleared away while it was written.", self.folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        now = time.monotonic()
        self.seconds += now - start
        self._next = now + max(INTERVAL, (now - start) / MAX_SHARE)

    def clear(self) -> None:
        """Remove the checkpoint, and the folder unless another process is writing a store there: the store is done."""
        with suppress(OSError):
            (self.folder / _FILE).unlink(missing_ok=True)
        for leftover in self.folder.glob("*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)
        sweep(self.folder)

    def _sweep(self) -> None:
        """Remove what killed processes left half-written; what is being written is younger."""
        now = time.time()
        for leftover in self.folder.glob("*.tmp"):
            with suppress(OSError):
                if now - leftover.stat().st_mtime > _STALE:
                    shutil.rmtree(leftover)


def _digest(arrays: Mapping[str, torch.Tensor], counts: Mapping[str, Any]) -> str:
    import torch

    def parts() -> Iterator[bytes | memoryview]:
        yield json.dumps(counts, sort_keys=True).encode()
        for name, array in sorted(arrays.items()):
            yield name.encode()
            yield array.reshape(-1).view(torch.uint8).numpy().data

    return digest(parts())
