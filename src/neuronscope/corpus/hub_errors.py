"""What the hub and `datasets` raise, as one error of ours that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import shorten

from neuronscope.errors import CorpusError


@contextmanager
def explained(path: str, description: str) -> Iterator[None]:
    """Turn whatever goes wrong with a dataset into a `CorpusError`.

    Args:
        path: `owner/name` on the hub, or a folder.
        description: the dataset as its user wrote it.

    Raises:
        CorpusError: the dataset is gated, misspelt, out of reach, or cannot be read.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, _kinds()):  # imported only now, when something has gone wrong
            raise
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
    if isinstance(error, ConnectionError | TimeoutError | _http_error()) or "LocalEntryNotFoundError" in words:
        return (
            f"The Hugging Face Hub cannot be reached for {path} ({type(error).__name__}: {_words(error)}). Check "
            "the network, and that HF_HUB_OFFLINE is not set; or use text on this computer: a file, a folder, "
            "'builtin'."
        )
    return (
        f"{description} cannot be read ({type(error).__name__}: {_words(error)}). Check its name, "
        "configuration (?name=...), split (?split=...) and files."
    )


def _kinds() -> tuple[type[Exception], ...]:
    from datasets.exceptions import DatasetsError

    return (DatasetsError, _http_error(), OSError, ValueError, RuntimeError, ImportError)


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
