"""The folder `<store>.partial`: where the checkpoint lies, and where a store is written until it is complete.

Several processes may be collecting the same store. Each writes a store of its own, in a folder that it holds a lock on;
the first that is done puts its store into place, and removes nothing that another is still writing.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

_PREFIX = "store."
_ATTEMPTS = 100


@contextmanager
def new_store_folder(partial_folder: Path) -> Iterator[Path]:
    """A new folder in a partial folder, which is made if it is missing; what is left of both is removed at the end.

    Raises:
        OSError: they cannot be made.
    """
    folder, lock = _new_folder(partial_folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _discard(lock)
        remove_if_empty(partial_folder)


def sweep(partial_folder: Path) -> None:
    """Remove the stores that killed processes have left half-written, and the folder if nothing else is in it."""
    for folder in {
        path.with_suffix("") if path.suffix == ".lock" else path for path in partial_folder.glob(f"{_PREFIX}*")
    }:
        lock = _lock_of(folder)
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError, NotImplementedError):  # somebody is at work in it, or nobody can tell
            continue
        shutil.rmtree(folder, ignore_errors=True)
        _discard(lock)
    remove_if_empty(partial_folder)


def remove_if_empty(partial_folder: Path) -> None:
    """Remove a partial folder that nobody uses."""
    with suppress(OSError):
        partial_folder.rmdir()


def _new_folder(partial_folder: Path) -> tuple[Path, FileLock]:
    """Locked before it exists; another process may remove the partial folder in between, since it is empty."""
    for attempt in range(_ATTEMPTS):
        folder = partial_folder / f"{_PREFIX}{uuid.uuid4().hex}"
        lock = _lock_of(folder)
        try:
            partial_folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            folder.mkdir()
        except FileNotFoundError:
            _discard(lock)
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            return folder, lock
    raise AssertionError("the last attempt has raised")


def _lock_of(folder: Path) -> FileLock:
    return FileLock(folder.with_name(f"{folder.name}.lock"))


def _discard(lock: FileLock) -> None:
    lock.release()
    with suppress(OSError):
        Path(lock.lock_file).unlink(missing_ok=True)
