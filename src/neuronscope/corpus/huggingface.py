"""Hugging Face datasets, streamed: from the hub, or from a folder in one of the hub's formats.

A dataset is written `hf:owner/name?name=...&split=...&revision=...&text=...`. Nothing is downloaded beforehand, and
what is read is one exact revision, which the corpus's key names; the key is itself such a description.
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
from neuronscope.corpus.local import digest_of_files, is_hidden
from neuronscope.corpus.records import read_records
from neuronscope.errors import CorpusError

_COMMIT = re.compile(r"[0-9a-f]{40}")
_TIMEOUT = 30.0
"""Seconds that the hub has to say which revision is the newest."""


@dataclass(frozen=True)
class DatasetReference:
    """Which part of which dataset; the fields but `path` are the query parameters of its description."""

    path: str
    """`owner/name` on the hub, or a folder."""
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
    def folder(self) -> Path | None:
        """The folder, if it is not on the hub; as everywhere with `datasets`, a folder goes before a name on the hub.

        Raises:
            CorpusError: it is written as a folder, and there is none.
        """
        folder = Path(self.path).expanduser()
        if folder.is_dir():
            return folder
        if self.path.startswith(("/", ".", "~")):
            raise CorpusError(f"There is no folder {self.path!r} for {self}. Correct the path.")
        return None

    @cached_property
    def pinned(self) -> DatasetReference:
        """This dataset at one exact commit.

        Raises:
            CorpusError: the hub does not have it, or cannot be reached.
        """
        if self.folder is not None or (self.revision and _COMMIT.fullmatch(self.revision)):
            return self
        from huggingface_hub import HfApi

        with explained(self.path, str(self)):
            commit = HfApi().dataset_info(self.path, revision=self.revision, timeout=_TIMEOUT).sha
        return replace(self, revision=commit)

    def key(self) -> str:
        """The pinned description; of a folder, a digest of its files and what is read of them."""
        if self.folder is None:
            return str(self.pinned)
        files = sorted(file for file in self.folder.rglob("*") if file.is_file() and not is_hidden(file, self.folder))
        parameters = urlencode({key: value for key, value in self._parameters().items() if value})
        return f"hf-folder-{digest_of_files(files, parameters)}"

    def _parameters(self) -> dict[str, str | None]:
        return {key: getattr(self, key) for key in _DEFAULTS}


_DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(DatasetReference) if field.name != "path"}


def open_dataset(description: str, text_field: str | None = None) -> Corpus:
    """The corpus of a dataset, which is first looked at when the corpus's key or its documents are asked for.

    Args:
        description: such as `hf:owner/name?name=...&split=...&revision=...&text=...`, or `hf:./folder`.
        text_field: the field with the text or the turns, if the description names none.

    Raises:
        CorpusError: the package `datasets` is not installed, or the description cannot be read; and on reading, if the
            dataset is gated, misspelt or out of reach.
    """
    reference = DatasetReference.parse(description)
    if reference.text is None:
        reference = replace(reference, text=text_field)
    try:
        metadata.version("datasets")
    except metadata.PackageNotFoundError as error:
        raise CorpusError(
            f"{description} needs the package datasets. Install it: pip install 'neuronscope[datasets]'."
        ) from error
    return Corpus(description, lambda: _read(reference), reference.key)


def _read(reference: DatasetReference) -> Iterator[Document]:
    source = reference.path if reference.folder is None else reference.folder.resolve().name
    pinned = reference.pinned
    return read_records(_records(pinned), reference.text, str(reference), source)


def _records(reference: DatasetReference) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with explained(reference.path, str(reference)):
        from datasets import load_dataset

        dataset = load_dataset(
            str(reference.folder or reference.path),
            reference.name,
            split=reference.split,
            revision=reference.revision,
            streaming=True,
        )
        for number, record in enumerate(dataset, start=1):
            yield f"record {number}", record
