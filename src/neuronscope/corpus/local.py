"""Text on this computer: text, JSONL and Parquet files, compressed or not, and folders of them.

Other formats, such as CSV, are read by the package `datasets` (see `corpus.huggingface`). These three are not: there a
record without text, or with a number in its place, is a null that nobody notices; a bad line is not named by its
number; a field that first appears after ten megabytes ends the reading; texts that look like dates become dates; lone
surrogates are refused; a byte order mark is text; and 50 MB of JSONL take three times as long, and 400 MB of memory.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import logging
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from neuronscope.corpus.documents import Corpus, Document
from neuronscope.corpus.records import SAMPLE_RECORDS, find_text_field, read_records
from neuronscope.errors import CorpusError

_KINDS = (".txt", ".jsonl", ".parquet")
_OF_DATASETS = {".json", ".ndjson", ".csv", ".tsv", ".arrow"}
"""Formats of the package `datasets` in which a single file can be text."""
_OTHER_DATA = {*_OF_DATASETS, ".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst"}
"""What may well be text that a user believes to be read."""
_ABOUT_THE_DATA = {"readme", "license", "licence", "notice", "copying", "citation", "changelog", "authors"}
"""Text files of these names are not what a folder is a corpus for."""
_ROWS = 256
"""Rows of a Parquet file in memory at once, besides what its compression needs."""
_HEAD = 1 << 16
_MOST_NULS = 0.01
"""UTF-16 has a NUL beside every letter of English, and beside every space of nearly any language."""

_log = logging.getLogger(__name__)


def open_path(path: Path, text_field: str | None = None) -> Corpus:
    """The corpus of a file, or of all files of a folder that can be read; see `open_corpus`."""
    with _reading(path):
        files = _files(path)
        sizes = [file.stat().st_size for file in files]

    def read() -> Iterator[Document]:
        for file in files:
            yield from _read(file, text_field)

    def identity() -> str:
        return f"files-{digest_of_files(files, repr(text_field))}"

    compressed = any(_compression(file) for file in files)
    return Corpus(path.name, read, identity, None if compressed else sum(sizes))


def is_for_datasets(path: Path) -> bool:
    """Whether this is a file that the package `datasets` reads, and this module does not."""
    with _reading(path):
        return _suffix(path) in _OF_DATASETS and path.is_file()


def digest_of_files(files: Iterable[Path], *more: str) -> str:
    """A digest of the files' names and content, and of other text: not of their place or time.

    Raises:
        CorpusError: a file cannot be read.
    """
    digest = hashlib.sha256("\0".join(more).encode())
    for file in files:
        digest.update(b"\0" + file.name.encode("utf-8", "surrogateescape") + b"\0")
        with _reading(file), file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


def is_hidden(file: Path, folder: Path) -> bool:
    """Whether a file, or a folder between it and this one, has a name that begins with a dot."""
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return _files_of_folder(path)
    if not path.is_file():
        raise CorpusError(
            f"There is no corpus {_shown(path)}. Give 'builtin', 'paper', the path of a .txt, .jsonl or .parquet file "
            "or of a folder with such files, a dataset as 'hf:owner/name', or an iterable of strings; if this is text "
            "itself, put it into a list."
        )
    if _kind(path) is None:
        raise CorpusError(
            f"{path} is neither .txt, .jsonl nor .parquet, nor .json, .csv, .tsv or .arrow. Rename it if it holds such "
            "text, or convert it."
        )
    return [path]


def _files_of_folder(folder: Path) -> list[Path]:
    visible = sorted(file for file in folder.rglob("*") if file.is_file() and not is_hidden(file, folder))
    files = [file for file in visible if _kind(file) is not None and file.stem.lower() not in _ABOUT_THE_DATA]
    others = [file.name for file in visible if _kind(file) is None and file.suffix.lower() in _OTHER_DATA]
    if not files:
        found = f" It has {', '.join(others[:3])}{' and others' if len(others) > 3 else ''}." if others else ""
        raise CorpusError(
            f"The folder {folder} has no .txt, .jsonl or .parquet files but those about the data, such as a README."
            f"{found} Name a folder that has some; other formats can be read by the package datasets: hf:{folder}."
        )
    if others:
        _log.warning(
            "Of the folder %s, %d files are not read, such as %s: a folder is read for its .txt, .jsonl and .parquet. "
            "Name such a file itself.",
            folder,
            len(others),
            others[0],
        )
    return files


def _kind(path: Path) -> str | None:
    """`".txt"`, `".jsonl"` or `".parquet"`, by a file's name, whether or not it is compressed."""
    kind = _suffix(path)
    return kind if kind in _KINDS and not (kind == ".parquet" and _compression(path)) else None


def _suffix(path: Path) -> str:
    return (Path(path.stem) if _compression(path) else path).suffix.lower()


def _compression(path: Path) -> str | None:
    return path.suffix.lower() if path.suffix.lower() in _OPENERS else None


def _open(path: Path) -> Any:
    opener = _OPENERS.get(path.suffix.lower())
    return path.open("rb") if opener is None else opener(path)


def _open_zstd(path: Path) -> IO[bytes]:
    import pyarrow as pa

    return io.BufferedReader(pa.input_stream(str(path), compression="zstd"))


_OPENERS: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": _open_zstd}
"""How to read what is compressed, by the end of its name."""


def _read(path: Path, text_field: str | None) -> Iterator[Document]:
    kind = _kind(path)
    if kind == ".jsonl":
        return read_jsonl(path, text_field)
    return _read_parquet(path, text_field) if kind == ".parquet" else _read_text(path)


def read_jsonl(path: Path, text_field: str | None = None) -> Iterator[Document]:
    """Documents of a JSONL file, one record at a time; see `open_corpus`."""
    return read_records(_records(path), text_field, str(path), source_of(path), own_source=True)


def source_of(path: Path) -> str:
    """What a file's documents are called by: its name without its endings."""
    return Path(path.stem).stem if _compression(path) else path.stem


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            yield f"line {number}", _record(line, path, number)


def _record(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{path}, line {number}: not JSON ({error}). Every line must be one JSON object.") from error
    if not isinstance(record, dict):
        raise CorpusError(f"{path}, line {number}: expected a JSON object, got {type(record).__name__}.")
    return record


def _read_parquet(path: Path, text_field: str | None) -> Iterator[Document]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    with _reading(path):
        try:
            with ParquetFile(path, memory_map=True) as file:
                first = next(file.iter_batches(batch_size=SAMPLE_RECORDS), None) if text_field is None else None
                if first is not None:
                    text_field = find_text_field(first.to_pylist(), str(path))
                yield from read_records(_rows(file, text_field), text_field, str(path), path.stem, own_source=True)
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
    source = source_of(path)
    paragraph: list[str] = []
    for line in _lines(path):
        if line.strip():
            paragraph.append(line)
        if paragraph and (not by_paragraph or not line.strip()):
            yield Document("".join(paragraph).rstrip("\n"), source)
            paragraph.clear()
    if paragraph:
        yield Document("".join(paragraph).rstrip("\n"), source)


def _has_paragraphs(path: Path) -> bool:
    """Whether some blank line stands between two that are not."""
    seen_text = seen_gap = False
    for line in _lines(path):
        blank = not line.strip()
        if seen_gap and not blank:
            return True
        seen_text = seen_text or not blank
        seen_gap = seen_gap or (seen_text and blank)
    return False


def _lines(path: Path) -> Iterator[str]:
    """The lines of a file of UTF-8, compressed or not.

    Raises:
        CorpusError: it cannot be read, or is something else.
    """
    with _reading(path):
        with _open(path) as file:
            head = file.read(_HEAD)
        if head.count(0) > _MOST_NULS * len(head):
            raise CorpusError(
                f"{path} is not UTF-8 text: it has many NUL characters, as UTF-16 has, and files that are no text. "
                "Convert it to UTF-8: iconv -f UTF-16LE -t UTF-8."
            )
        with _open(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig") as lines:
            yield from lines


def _shown(path: Path) -> str:
    text = str(path)
    return repr(text if len(text) <= 200 else f"{text[:150]}…")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong with a file into a `CorpusError`."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path} is not UTF-8 text ({error.reason}). Convert it to UTF-8.") from error
    except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
        words = getattr(error, "strerror", None) or error
        raise CorpusError(
            f"The corpus {_shown(path)} cannot be read ({words}). Check its path, its permissions, and that it is "
            "whole; text itself goes into a list."
        ) from error
