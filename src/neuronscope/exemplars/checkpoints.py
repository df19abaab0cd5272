"""Checkpoints of a collection: one file beside the store to be, replaced as a whole, at a small share of the time.

```
<root>/<store>.partial/
  checkpoint.safetensors   what is gathered after some chunk; its metadata "state" is JSON, with the counts and the key
```
When it is written depends on the clock; what the finished store holds does not. The folder goes when the store is
there.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

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
                return {name: file.get_tensor(name).clone() for name in file.keys()}, state["counts"]  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            logger.warning("The checkpoint in %s cannot be read (%s); starting afresh.", self.folder, error)
            return None

    def due(self) -> bool:
        """Whether it is time for the next one."""
        return time.monotonic() >= self._next

    def save(self, arrays: Mapping[str, torch.Tensor], counts: Mapping[str, Any]) -> None:
        """Replace the checkpoint."""
        from safetensors.torch import save_file

        start = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f"checkpoint.{os.getpid()}.tmp"
        state = json.dumps({"key": self._key, "counts": counts})
        save_file({name: array.cpu().contiguous() for name, array in arrays.items()}, temporary, {"state": state})
        temporary.replace(self.folder / _FILE)
        now = time.monotonic()
        self.seconds += now - start
        self._next = now + max(INTERVAL, (now - start) / MAX_SHARE)

    def clear(self) -> None:
        """Remove the folder: the store is there."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove what killed processes left half-written; a file that is being written is younger."""
        for leftover in self.folder.glob("*.tmp"):
            if time.time() - leftover.stat().st_mtime > _STALE:
                leftover.unlink(missing_ok=True)
