"""What the package `datasets` streams: datasets on the Hugging Face Hub, folders in its formats, and files such as CSV.

A dataset is written `hf:owner/name?name=...&split=...&revision=...&text=...`. Nothing is downloaded beforehand, and
what is read is one exact revision, which the corpus's key names; the key is itself such a description.

Reading again after an interruption starts at the first record, not at a `state_dict` of the dataset: to know duplicates
takes the documents before, and to number sequences their tokens; the model, which is what takes time, does not run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from neuronscope.corpus.documents import Corpus, Document
from neuronscope.corpus.hub_errors import explained
from neuronscope.corpus.local import digest_of_files, is_hidden, source_of
from neuronscope.corpus.records import read_records
from neuronscope.errors import CorpusError

_COMMIT = re.compile(r"[0-9a-f]{40}")
_TIMEOUT = 30.0
"""Seconds that the hub has to say which revision is the newest."""


@dataclass(frozen=True)
class DatasetReference:
    """Which part of which dataset; the fields but `path` are the query parameters of its description."""

    path: str
    """`owner/name` on the hub, or a folder or file."""
    name: str | None = None
    """The dataset's configuration, where it has several."""
    split: str = "train"
    """The dataset's split, which has nothing to do with ours."""
    revision: str | None = None
    """A branch, tag or commit; None is the newest."""
    text: str | None = None
    """The field with the text or the turns; None looks for it."""

    def __str__(self) -> str:
        """The description that this was read from, or one that means the same."""
        chosen = {key: value for key, value in self._parameters().items() if value not in {None, _DEFAULTS[key]}}
        return f"hf:{self.path}" + ("?" + urlencode(chosen, safe="/", quote_via=quote) if chosen else "")

    @classmethod
    def parse(cls, description: str) -> DatasetReference:
        """Read a description such as `hf:HuggingFaceFW/fineweb?name=sample-10BT`.

        Raises:
            CorpusError: it has no dataset, or a parameter that there is not.
        """
        path, _, query = description.removeprefix("hf:").partition("?")
        try:
            parameters = dict(parse_qsl(query, strict_parsing=bool(query)))
        except ValueError:
            parameters = {query: ""}
        unknown = sorted(parameters.keys() - _DEFAULTS.keys())
        if not path or unknown:
            raise CorpusError(
                f"{description!r} is not a dataset: "
                + (f"there is no parameter {unknown[0]!r}. " if unknown else "its name is missing. ")
                + f"Write hf:owner/name or hf:./folder, and after a ? any of {', '.join(_DEFAULTS)}: "
                "hf:HuggingFaceFW/fineweb?name=sample-10BT&split=train."
            )
        return cls(path, **parameters)

    @cached_property
    def local(self) -> Path | None:
        """The folder or file, if it is not on the hub; as everywhere with `datasets`, it goes before a name on the hub.

        Raises:
            CorpusError: it is written as a path, and there is nothing.
        """
        path = Path(self.path).expanduser()
        if path.exists():
            return path
        if self.path.startswith(("/", ".", "~")):
            raise CorpusError(f"There is no folder or file {self.path!r} for {self}. Correct the path.")
        return None

    @cached_property
    def pinned(self) -> DatasetReference:
        """This dataset at one exact commit.

        Raises:
            CorpusError: the hub does not have it, or cannot be reached.
        """
        if self.local is not None or (self.revision and _COMMIT.fullmatch(self.revision)):
            return self
        from huggingface_hub import HfApi

        with explained(self.path, str(self)):
            commit = HfApi().dataset_info(self.path, revision=self.revision, timeout=_TIMEOUT).sha
        return replace(self, revision=commit)

    def key(self) -> str:
        """The pinned description; of a folder or file, a digest of its content and what is read of it."""
        local = self.local
        if local is None:
            return str(self.pinned)
        parameters = urlencode({key: value for key, value in self._parameters().items() if value})
        if local.is_file():
            return f"hf-file-{digest_of_files([local], parameters)}"
        files = sorted(file for file in local.rglob("*") if file.is_file() and not is_hidden(file, local))
        return f"hf-folder-{digest_of_files(files, parameters)}"

    def _parameters(self) -> dict[str, str | None]:
        return {key: getattr(self, key) for key in _DEFAULTS}


_DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(DatasetReference) if field.name != "path"}


def open_dataset(description: str, text_field: str | None = None) -> Corpus:
    """The corpus of a dataset, which is first looked at when the corpus's key or its documents are asked for.

    Args:
        description: such as `hf:owner/name?name=...&split=...&revision=...&text=...`, `hf:./folder` or `hf:./a.csv`.
        text_field: the field with the text or the turns, if the description names none.

    Raises:
        CorpusError: the package `datasets` is not installed, or the description cannot be read; and on reading, if the
            dataset is gated, misspelt or out of reach.
    """
    return _corpus(description, DatasetReference.parse(description), text_field)


def open_file(path: Path, text_field: str | None = None) -> Corpus:
    """The corpus of a file in one of the formats of `datasets`, such as CSV; see `open_dataset`.

    Raises:
        CorpusError: as for `open_dataset`.
    """
    return _corpus(path.name, DatasetReference(str(path)), text_field)


def _corpus(name: str, reference: DatasetReference, text_field: str | None) -> Corpus:
    if reference.text is None:
        reference = replace(reference, text=text_field)
    try:
        metadata.version("datasets")
    except metadata.PackageNotFoundError as error:
        raise CorpusError(
            f"{name} needs the package datasets. Install it: pip install 'neuronscope[datasets]'."
        ) from error
    return Corpus(name, lambda: _read(reference), reference.key)


def _read(reference: DatasetReference) -> Iterator[Document]:
    local = reference.local
    records = _records(reference.pinned)
    if local is not None and local.is_file():
        return read_records(records, reference.text, str(local), source_of(local), own_source=True)
    source = reference.path if local is None else local.resolve().name
    return read_records(records, reference.text, str(reference), source)


def _records(reference: DatasetReference) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with explained(reference.path, str(reference)):
        from datasets import load_dataset

        local = reference.local
        is_file = local is not None and local.is_file()
        dataset = load_dataset(
            str(local.parent if local is not None and is_file else local or reference.path),
            reference.name,
            data_files=local.name if local is not None and is_file else None,
            split=reference.split,
            revision=reference.revision,
            streaming=True,
        )
        for number, record in enumerate(dataset, start=1):
            yield f"record {number}", record
