"""Whatever describes a corpus, made into one."""

from __future__ import annotations

import hashlib
import math
import uuid
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any

from neuronscope.arguments import did_you_mean
from neuronscope.corpus.documents import Corpus, Document, digest_of
from neuronscope.corpus.local import is_for_datasets, open_path
from neuronscope.corpus.mixtures import mixture, parse_mixture
from neuronscope.errors import CorpusError

_NAMES = ("builtin", "paper")
PAPER = {"hf:HuggingFaceFW/fineweb?name=sample-10BT": 0.5, "hf:lmsys/lmsys-chat-1m": 0.5}
"""The paper's corpora (section 3.1). It does not say in what shares: half and half."""


def open_corpus(corpus: Any, text_field: str | None = None) -> Corpus:
    """Make a corpus of whatever describes one.

    A text file is read as one document per paragraph (paragraphs are parted by blank lines); without any blank line it
    is one document per line. A JSONL or Parquet file, or a dataset, has one document per record, in the field
    `text_field`; if None, in `"text"`, or else in the first field that holds conversations (a list of
    `{role, content}` or `{from, value}`), or else in the one that is clearly the text by the first records; see
    `find_text_field`. In files, a string field `"source"` names the source.

    Args:
        corpus: `"builtin"`; `"paper"`, which is FineWeb and LMSYS-Chat-1M, half and half (section 3.1);
            the path of a `.txt`, `.jsonl` or `.parquet` file, or of a folder with such files; the path of a `.csv`,
            `.tsv`, `.json` or `.arrow` file; a Hugging Face dataset as
            `"hf:owner/name?name=...&split=...&revision=...&text=..."`, or a folder in one of its formats as
            `"hf:./folder"`, all streamed; a mixture, from `mix` or as `"mix:0.5*hf:owner/name,0.5*builtin"`; an
            iterable of strings or `Document`s; or a `Corpus`, which is returned as it is. An iterator or generator can
            be read once only: exemplars from it are collected, but no later call can recognise it.
        text_field: the field of records that holds the text.

    Raises:
        CorpusError: there is no such file, folder or dataset, it has nothing readable, or the object is not a corpus.
    """
    if isinstance(corpus, Corpus):
        return corpus
    if isinstance(corpus, str) and (named := _open_name(corpus, text_field)) is not None:
        return named
    if isinstance(corpus, str) and (hint := did_you_mean(corpus, _NAMES)) and not Path(corpus).expanduser().exists():
        raise CorpusError(f"There is no corpus {corpus!r}.{hint} Or give the path of a file or folder that exists.")
    if isinstance(corpus, str | Path):
        path = Path(corpus).expanduser()
        if is_for_datasets(path):
            from neuronscope.corpus.huggingface import open_file

            return open_file(path, text_field)
        return open_path(path, text_field)
    if isinstance(corpus, Iterable) and not _has_no_order_of_texts(corpus):
        return _from_iterator(corpus) if isinstance(corpus, Iterator) else _from_iterable(corpus)
    raise CorpusError(
        f"A {type(corpus).__name__} is not a corpus. Give 'builtin', the path of a .txt, .jsonl or .parquet file or of "
        "a folder with such files, a dataset as 'hf:owner/name', or an iterable of strings: of a table its column of "
        "texts, table['text'].tolist(), of a set sorted(texts)."
    )


def mix(sources: Mapping[Any, float], text_field: str | None = None) -> Corpus:
    """Mix corpora by weight, as in `mix({"hf:HuggingFaceFW/fineweb?name=sample-10BT": 0.5, "builtin": 0.5})`.

    The next document always comes from the source that is furthest behind its share of the characters read so far, so
    that every beginning of the mixture has about these shares, and every reading the same order. A source that is used
    up leaves the rest to the others, and a warning says so.

    Args:
        sources: weights by corpus: anything that `open_corpus` takes and a dictionary has for a key. Only their ratio
            counts. Of equals the first is read first.
        text_field: the field that holds the text, in every source of records that does not name its own.

    Raises:
        CorpusError: a weight is not a positive number, there is no source, or one of them cannot be opened.
    """
    if not sources:
        raise CorpusError("A mixture needs at least one source: mix({'builtin': 1}).")
    for source, weight in sources.items():
        if not isinstance(weight, int | float) or not math.isfinite(weight) or weight <= 0:
            raise CorpusError(f"The weight of {source!r} in a mixture must be a positive number, not {weight!r}.")
    total = sum(sources.values())
    shares = [weight / total for weight in sources.values()]
    corpora = [open_corpus(source, text_field) for source in sources]

    return mixture(corpora, shares)


def paper_corpus() -> Corpus:
    """FineWeb (the sample of ten billion tokens) and LMSYS-Chat-1M, half and half (section 3.1).

    Raises:
        CorpusError: the package datasets is not installed.
    """
    mixture = mix(PAPER)
    return Corpus("paper", mixture.read, mixture.identity)


def _has_no_order_of_texts(items: Iterable[Any]) -> bool:
    """Whether iterating gives names of columns, or bytes, or another order in every process."""
    return isinstance(items, Mapping | Set | bytes | bytearray) or hasattr(items, "columns")


def _open_name(corpus: str, text_field: str | None) -> Corpus | None:
    """What a name stands for, or None if it is a path."""
    if corpus == "builtin":
        from neuronscope.corpus.builtin import builtin_corpus

        return builtin_corpus()
    if corpus == "paper":
        return paper_corpus()
    if corpus.startswith("mix:"):
        return mix(parse_mixture(corpus), text_field)
    if corpus.startswith("hf:"):
        from neuronscope.corpus.huggingface import open_dataset

        return open_dataset(corpus, text_field)
    return None


def _from_iterable(items: Iterable[Any]) -> Corpus:
    def identity() -> str:
        digest = hashlib.sha256()
        for document in _documents(items):
            digest.update(digest_of(document.text) + digest_of(document.source))
            for part in [part for turn in document.turns for part in turn]:
                digest.update(digest_of(part))
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
