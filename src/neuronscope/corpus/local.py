"""Text on this computer: text, JSONL and Parquet files, and folders of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from neuronscope.corpus.documents import Corpus, Document
from neuronscope.corpus.records import find_text_field, read_records
from neuronscope.errors import CorpusError

_KINDS = (".txt", ".jsonl", ".parquet")
_ROWS = 256
"""Rows of a Parquet file in memory at once, besides what its compression needs."""


def open_path(path: Path, text_field: str | None = None) -> Corpus:
    """The corpus of a file, or of all files of a folder that can be read; see `open_corpus`."""
    files = _files(path)

    def read() -> Iterator[Document]:
        for file in files:
            yield from _read(file, text_field)

    def identity() -> str:
        return f"files-{digest_of_files(files, repr(text_field))}"

    return Corpus(path.name, read, identity, sum(file.stat().st_size for file in files))


def digest_of_files(files: Iterable[Path], *more: str) -> str:
    """A digest of the files' names and content, and of other text: not of their place or time."""
    digest = hashlib.sha256("\0".join(more).encode())
    for file in files:
        digest.update(b"\0" + file.name.encode("utf-8", "surrogateescape") + b"\0")
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in _KINDS and file.is_file())
        if not files:
            raise CorpusError(
                f"The folder {path} has no .txt, .jsonl or .parquet files. Name a folder that has some; other formats "
                f"can be read by the package datasets: hf:{path}."
            )
        return files
    if not path.is_file():
        raise CorpusError(
            f"There is no corpus {str(path)!r}. Give 'builtin', 'paper', the path of a .txt, .jsonl or .parquet file "
            "or of a folder with such files, a dataset as 'hf:owner/name', or an iterable of strings."
        )
    if path.suffix.lower() not in _KINDS:
        raise CorpusError(
            f"{path} is neither .txt, .jsonl nor .parquet. Rename it if it holds such text, or convert it."
        )
    return [path]


def _read(path: Path, text_field: str | None) -> Iterator[Document]:
    kind = path.suffix.lower()
    if kind == ".jsonl":
        return read_jsonl(path, text_field)
    return _read_parquet(path, text_field) if kind == ".parquet" else _read_text(path)


def read_jsonl(path: Path, text_field: str | None = None) -> Iterator[Document]:
    """Documents of a JSONL file, one record at a time; see `open_corpus`."""
    return read_records(_records(path), text_field, str(path), path.stem, own_source=True)


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(_decoded(lines, path), start=1):
            if line.strip():
                yield f"line {number}", _record(line, path, number)


def _record(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise CorpusError(f"{path}, line {number}: not JSON ({error}). Every line must be one JSON object.") from error
    if not isinstance(record, dict):
        raise CorpusError(f"{path}, line {number}: expected a JSON object, got {type(record).__name__}.")
    return record


def _read_parquet(path: Path, text_field: str | None) -> Iterator[Document]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise CorpusError(
            f"Reading {path} needs the package pyarrow. Install it: pip install 'neuronscope[datasets]'."
        ) from error
    try:
        with ParquetFile(path, memory_map=True) as file:
            if text_field is None and (first := next(file.iter_batches(batch_size=1), None)) is not None:
                text_field = find_text_field(first.to_pylist()[0], str(path))
            yield from read_records(
                _rows(file, text_field), text_field, str(path), path.stem, own_source=True, nulls=True
            )
    except ArrowException as error:
        raise CorpusError(f"{path} cannot be read as Parquet ({error}). Write it again, or convert it.") from error


def _rows(file: Any, text_field: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows, of the columns that are read: the text and the source; all, if there is no such text, for the error."""
    names = file.schema_arrow.names
    columns = [name for name in names if name in {text_field, "source"}] if text_field in names else None
    number = 0
    for batch in file.iter_batches(batch_size=_ROWS, columns=columns):
        for record in batch.to_pylist():
            number += 1
            yield f"row {number}", record


def _read_text(path: Path) -> Iterator[Document]:
    by_paragraph = _has_paragraphs(path)
    paragraph: list[str] = []
    with path.open(encoding="utf-8-sig") as lines:
        for line in _decoded(lines, path):
            if line.strip():
                paragraph.append(line)
            if paragraph and (not by_paragraph or not line.strip()):
                yield Document("".join(paragraph).rstrip("\n"), path.stem)
                paragraph.clear()
    if paragraph:
        yield Document("".join(paragraph).rstrip("\n"), path.stem)


def _has_paragraphs(path: Path) -> bool:
    """Whether some blank line stands between two that are not."""
    seen_text = seen_gap = False
    with path.open(encoding="utf-8-sig") as lines:
        for line in _decoded(lines, path):
            blank = not line.strip()
            if seen_gap and not blank:
                return True
            seen_text = seen_text or not blank
            seen_gap = seen_gap or (seen_text and blank)
    return False


def _decoded(lines: Iterable[str], path: Path) -> Iterator[str]:
    try:
        yield from lines
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path} is not UTF-8 text ({error.reason}). Convert it to UTF-8.") from error
