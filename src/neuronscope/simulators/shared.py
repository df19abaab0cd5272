"""Simulators that are models: loaded once per process, and shared by everyone who asks."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from neuronscope.interfaces import Simulator
from neuronscope.locks import Lock

_loading = Lock()


def load_shared(make: Callable[[str], Simulator], source: str) -> Simulator:
    """The one simulator of this kind and source in the process; of a folder that has changed, a new one."""
    folder = Path(source).expanduser()
    files = folder.iterdir() if source and folder.is_dir() else ()
    with _loading:  # two threads would load it twice
        return _load(make, source, max((file.stat().st_mtime_ns for file in files), default=0))


@lru_cache(maxsize=2)
def _load(make: Callable[[str], Simulator], source: str, changed: int) -> Simulator:
    """`changed` is when: another time is another model."""
    return make(source)
