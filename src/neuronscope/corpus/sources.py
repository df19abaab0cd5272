"""Documents, their splits, and the places they are read from: built-in, files, folders, iterables.

Text is streamed: nothing but the digests of the documents already seen stays in memory (16 bytes each, some 90 with
what Python adds), so that exact duplicates can be dropped.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuronscope.errors import CorpusError
from neuronscope.units import Split

TEXT_FIELD = "text"
"""The field of a JSONL record that holds the text, unless there is none of that name."""


@dataclass(frozen=True, slots=True)
class Document:
    """One piece of text: the unit that a split, and every sequence, belongs to."""

    text: str
    """The text itself."""
    source: str
    """Which part of the corpus it came from, such as `"news"`."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """A stream of documents: no empty ones, no exact duplicates.

    Raises:
        CorpusError: on iteration, if a file cannot be read or no document is left.
    """

    name: str
    """What people call it."""
    read: Callable[[], Iterator[Document]]
    """Starts reading from the beginning."""
    identity: Callable[[], str]
    """Says what is in the corpus; see `key`."""
    n_characters: int | None = None
    """Roughly how much text there is, if known; only progress bars read it."""

    def key(self) -> str:
        """A stable identity: equal for equal content, whatever the path or the time."""
        return self.identity()

    def __iter__(self) -> Iterator[Document]:
        """The documents, in a fixed order."""
        seen: set[bytes] = set()
        for document in self.read():
            text = _encodable(document.text)
            if not text.strip():
                continue
            digest = _digest(text)
            if digest in seen:
                continue
            seen.add(digest)
            yield document if text is document.text else Document(text, document.source)
        if not seen:
            raise CorpusError(f"The corpus {self.name!r} has no text. Give it at least one document that is not empty.")


def open_corpus(corpus: Any, text_field: str | None = None) -> Corpus:
    """Make a corpus of whatever describes one.

    A text file is read as one document per paragraph (paragraphs are parted by blank lines); without any blank line it
    is one document per line. A JSONL file has one document per line, in the field `text_field`; if None, in `"text"`,
    or else in the string field that is longest in the first record. A string field `"source"` names the source.

    Args:
        corpus: `"builtin"`; the path of a `.txt` or `.jsonl` file, or of a folder with such files; an iterable of
            strings or `Document`s; or a `Corpus`, which is returned as it is. An iterator or generator can be read
            once only: exemplars from it are collected, but no later call can recognise it.
        text_field: the JSONL field that holds the text.

    Raises:
        CorpusError: there is no such file or folder, it has nothing readable, or the object is not a corpus.
    """
    if isinstance(corpus, Corpus):
        return corpus
    if isinstance(corpus, str) and corpus == "builtin":
        from neuronscope.corpus.builtin import builtin_corpus

        return builtin_corpus()
    if isinstance(corpus, str | Path):
        return _from_path(Path(corpus).expanduser(), text_field)
    if isinstance(corpus, Iterable):
        return _from_iterator(corpus) if isinstance(corpus, Iterator) else _from_iterable(corpus)
    raise CorpusError(
        f"A {type(corpus).__name__} is not a corpus. Give 'builtin', the path of a .txt or .jsonl file or of a folder "
        "with such files, or an iterable of strings."
    )


def split_of(text: str) -> Split:
    """The split of a document, decided by a hash of its text alone: 70 % train, 15 % validation, 15 % test.

    Each source comes out in these shares in expectation, without a second pass over a stream.
    """
    fraction = int.from_bytes(_digest(_encodable(text))[:8], "big") / 2**64
    if fraction < 0.70:
        return "train"
    return "validation" if fraction < 0.85 else "test"


def read_jsonl(path: Path, text_field: str | None = None) -> Iterator[Document]:
    """Documents of a JSONL file, one record at a time; see `open_corpus`."""
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(_decoded(lines, path), start=1):
            if not line.strip():
                continue
            record = _record(line, path, number)
            if text_field is None:
                text_field = _find_text_field(record, path)
            text = record.get(text_field)
            if not isinstance(text, str):
                raise CorpusError(
                    f"{path}, line {number}: no text in the field {text_field!r}; its fields are {sorted(record)}. "
                    "Correct the line, or name another field: open_corpus(path, text_field=...)."
                )
            source = record.get("source")
            yield Document(text, source if isinstance(source, str) else path.stem)


def _record(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise CorpusError(f"{path}, line {number}: not JSON ({error}). Every line must be one JSON object.") from error
    if not isinstance(record, dict):
        raise CorpusError(f"{path}, line {number}: expected a JSON object, got {type(record).__name__}.")
    return record


def _find_text_field(record: dict[str, Any], path: Path) -> str:
    strings = {name: len(value) for name, value in record.items() if isinstance(value, str)}
    if TEXT_FIELD in strings:
        return TEXT_FIELD
    if not strings:
        raise CorpusError(
            f"{path}: its first record has no field with text, only {sorted(record)}. "
            "Put the text into a field called 'text'."
        )
    return max(strings, key=lambda name: strings[name])


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


def _from_path(path: Path, text_field: str | None) -> Corpus:
    files = _files(path)

    def read() -> Iterator[Document]:
        for file in files:
            yield from read_jsonl(file, text_field) if file.suffix.lower() == ".jsonl" else _read_text(file)

    def identity() -> str:
        digest = hashlib.sha256(repr(text_field).encode())
        for file in files:
            digest.update(b"\0" + file.name.encode("utf-8", "surrogateescape") + b"\0")
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
        return f"files-{digest.hexdigest()}"

    return Corpus(path.name, read, identity, sum(file.stat().st_size for file in files))


def _files(path: Path) -> list[Path]:
    kinds = (".txt", ".jsonl")
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in kinds and file.is_file())
        if not files:
            raise CorpusError(f"The folder {path} has no .txt or .jsonl files. Name a folder that has some.")
        return files
    if not path.is_file():
        raise CorpusError(
            f"There is no corpus {str(path)!r}. Give 'builtin', the path of a .txt or .jsonl file or of a folder with "
            "such files, or an iterable of strings."
        )
    if path.suffix.lower() not in kinds:
        raise CorpusError(f"{path} is neither .txt nor .jsonl. Rename it if it holds such text, or convert it.")
    return [path]


def _from_iterable(items: Iterable[Any]) -> Corpus:
    def identity() -> str:
        digest = hashlib.sha256()
        for document in _documents(items):
            digest.update(_digest(_encodable(document.text)) + _digest(_encodable(document.source)))
        return f"texts-{digest.hexdigest()}"

    return Corpus("texts", lambda: _documents(items), identity)


def _from_iterator(items: Iterator[Any]) -> Corpus:
    remaining = [items]

    def read() -> Iterator[Document]:
        if not remaining:
            raise CorpusError("An iterator can be read only once. Give a list or a file to read the corpus again.")
        return _documents(remaining.pop())

    once = uuid.uuid4().hex
    return Corpus("texts", read, lambda: f"iterator-{once}")


def _documents(items: Iterable[Any]) -> Iterator[Document]:
    for number, item in enumerate(items):
        if isinstance(item, str):
            yield Document(item, "texts")
        elif isinstance(item, Document):
            yield item
        else:
            raise CorpusError(f"Item {number} of the corpus is a {type(item).__name__}; give strings or Documents.")


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _encodable(text: str) -> str:
    """The text with lone surrogates replaced, which no tokenizer accepts; nearly always the same object."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
