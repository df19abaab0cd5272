"""Files that are either whole or absent, what is wrong where they cannot be written, and where caches live."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neuronscope.errors import ConfigurationError, NeuronScopeError

OTHER_PLACE = "Free some space there, or name a place that can be written to"


def write_atomically(path: str | Path, content: str | bytes) -> Path:
    """Write under a temporary name in the same folder, then rename: a reader never sees half a file.

    Raises:
        ConfigurationError: it cannot be written there.
    """
    path = Path(path)
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            Path(temporary).chmod(0o666 & ~_umask())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    return path


@contextmanager
def writing(
    path: Path,
    *others: type[Exception],
    kind: type[NeuronScopeError] = ConfigurationError,
    remedy: str = f"{OTHER_PLACE}.",
) -> Iterator[None]:
    """Turn what goes wrong with writing into an error of ours that names the place and what to do.

    Args:
        path: what is written.
        others: what a library raises in place of an `OSError`.
        kind: the error of ours.
        remedy: what to do.
    """
    failures: tuple[type[Exception], ...] = (OSError, *others)
    try:
        yield
    except failures as error:
        words = getattr(error, "strerror", None) or error
        raise kind(f"{shown(path)} cannot be written ({words}). {remedy}") from error


def shown(path: Path) -> str:
    """A path for an error: of a very long one, the beginning."""
    text = str(path)
    return text if len(text) <= 300 else f"{text[:200]}…"


def cache_folder(*parts: str) -> Path:
    """A folder under the platform's user cache, made if it is missing; `NEURONSCOPE_CACHE` moves the root.

    Raises:
        ConfigurationError: it cannot be made.
    """
    root = os.environ.get("NEURONSCOPE_CACHE")
    if not root:
        from platformdirs import user_cache_dir

        root = user_cache_dir("neuronscope", appauthor=False)
    folder = Path(root).joinpath(*parts)
    with writing(folder, RuntimeError, remedy=f"{OTHER_PLACE}: the variable NEURONSCOPE_CACHE names the cache folder."):
        folder = folder.expanduser()
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def check_writable(folder: Path, remedy: str) -> None:
    """Make a folder if it is missing, and see whether a file can be made in it, before hours are spent for it.

    Raises:
        ConfigurationError: it cannot.
    """
    with writing(folder, remedy=remedy):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
