"""What the hub and `datasets` raise, as one error of ours that says what to do."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.client import IncompleteRead
from textwrap import shorten

from neuronscope.errors import CorpusError, NeuronScopeError


@contextmanager
def explained(path: str, description: str) -> Iterator[None]:
    """Turn whatever goes wrong with a dataset into a `CorpusError`.

    Args:
        path: `owner/name` on the hub, or a folder.
        description: the dataset as its user wrote it.

    Raises:
        CorpusError: the dataset is gated, misspelt, out of reach, breaks off, or cannot be read.
    """
    try:
        yield
    except NeuronScopeError:
        raise
    except Exception as error:  # of many packages: HTTP clients, decompressors and readers of file formats
        raise CorpusError(_explanation(error, path, description)) from error


def _explanation(error: Exception, path: str, description: str) -> str:
    from datasets.data_files import EmptyDatasetError
    from datasets.exceptions import DataFilesNotFoundError, DatasetNotFoundError
    from huggingface_hub import errors as hub

    causes = _chain(error)
    page = f"https://huggingface.co/datasets/{path}"

    def is_one(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    # `datasets` drops the causes of its own errors, and only their words tell these cases apart.
    words = str(error) if isinstance(error, FileNotFoundError) else ""
    if is_one(hub.GatedRepoError) or "is a gated dataset" in words:
        return f"The dataset {path} is gated. Accept its terms at {page}, and log in with that account: hf auth login."
    if is_one(hub.RevisionNotFoundError) or words.startswith("Revision '"):
        return f"The dataset {path} has no such revision: {description}. Its revisions are listed at {page}/tree/main."
    if is_one(hub.RepositoryNotFoundError, hub.HFValidationError, DatasetNotFoundError):
        return (
            f"There is no dataset {path} on the Hugging Face Hub, or it is private. Check its name at {page}; if it is "
            "private, log in: hf auth login."
        )
    if is_one(EmptyDatasetError, DataFilesNotFoundError):
        return f"{description} has no data files that datasets can read. Give a dataset of Parquet, JSON or text files."
    text = f"{type(error).__name__}: {_words(error)}".rstrip(": ")
    status = next((found for cause in causes if (found := _status(cause)) is not None), None)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return (
            f"The Hugging Face Hub asks for fewer requests for {path} ({text}). Wait some minutes and call again"
            f"{_RESUMED}; with an account (hf auth login) it allows more."
        )
    if status is not None and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return (
            f"The Hugging Face Hub cannot be reached for {path}: it has a fault of its own ({text}). Wait some minutes "
            f"and call again{_RESUMED}."
        )
    if is_one(*_BROKEN_OFF) or any(type(cause).__name__ in _BROKEN_OFF_ELSEWHERE for cause in causes):
        return (
            f"{description} broke off while it was read ({text}). Wait a little and call again{_RESUMED}. If it breaks "
            "off at the same place, that file of the dataset is damaged."
        )
    if isinstance(error, ConnectionError | TimeoutError | _http_error()) or "LocalEntryNotFoundError" in words:
        return (
            f"The Hugging Face Hub cannot be reached for {path} ({text}). Check the network, and that HF_HUB_OFFLINE "
            f"is not set, and call again{_RESUMED}; or use text on this computer: a file, a folder, 'builtin'."
        )
    return (
        f"{description} cannot be read ({text}). Check its name, configuration (?name=...), split (?split=...) and "
        "files."
    )


_RESUMED = ", which goes on from the last checkpoint"
_BROKEN_OFF = (EOFError, IncompleteRead, ConnectionResetError, zlib.error, lzma.LZMAError)
"""What a connection or a compressed file ends with where it should not."""
_BROKEN_OFF_ELSEWHERE = {
    "ChunkedEncodingError",
    "ClientPayloadError",
    "ReadError",
    "RemoteProtocolError",
    "ServerDisconnectedError",
}
"""The same of HTTP clients that need not be installed."""


def _status(error: BaseException) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", getattr(error, "status", None))
    return status if isinstance(status, int) else None


def _http_error() -> type[Exception]:
    """The base of the network errors of whichever HTTP client the hub's package uses."""
    from huggingface_hub import errors

    http_error: type[Exception] = vars(errors)["HTTPError"]
    return http_error


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _words(error: BaseException) -> str:
    return shorten(str(error), 300, placeholder=" ...").rstrip(".")
