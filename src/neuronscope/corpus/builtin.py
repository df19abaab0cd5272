"""The built-in corpus: about a million tokens of four kinds of real text, read from installed packages.

| source | text | from |
|---|---|---|
| encyclopedia | sections of Wikipedia articles | the test data of `gensim` |
| news | Australian news reports | the test data of `gensim` |
| dialogue | short conversations | `chatterbot-corpus` |
| technical | the Python language reference | Python's own `pydoc_data` |

Parsing takes several seconds, so the documents are kept as JSONL in the cache, under a name with the packages'
versions, with a digest beside it: a damaged file is made again.
"""

from __future__ import annotations

import bz2
import hashlib
import json
import platform
import re
from collections.abc import Iterable, Iterator
from importlib import metadata, util
from pathlib import Path

from neuronscope.corpus.documents import Corpus, Document
from neuronscope.corpus.local import read_jsonl
from neuronscope.digests import digest_of_file
from neuronscope.errors import CorpusError
from neuronscope.io import cache_folder, write_atomically

VERSION = 1
"""Raised whenever the same packages would yield other documents."""

_WIKIPEDIA = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
_MIN_CHARACTERS = 200
"""Shorter sections of an article or a manual are mostly leftovers of lists and tables."""
_CHARACTERS = 3_800_000
"""Roughly how much text there is, for progress bars."""

_WIKI_HEADING = re.compile(r"^(={2,6})\s*(.+?)\s*\1\s*$", re.MULTILINE)
_LINK_SECTIONS = re.compile(
    r"(references?|(external )?links|see also|(foot)?notes?( and references)?|further reading|bibliography|"
    r"(primary |secondary )?(sources|works)( cited)?|citations|gallery|publications|select(ed)? bibliography)$",
    re.IGNORECASE,
)
_TABLE_LINE = re.compile(r"^\s*([|!{}].*|.*(\bpx\||\bthumb\||colspan=|rowspan=|style=|align=|bgcolor=).*|[\W_]*)$")
_MANUAL_HEADING = re.compile(r"^(?P<title>\S.*)\n(?P<line>([*=\-~^\"])\3{2,})$", re.MULTILINE)


def builtin_corpus() -> Corpus:
    """The built-in corpus; its four sources are spread evenly, so any beginning of it is a fair sample.

    Raises:
        CorpusError: the packages that carry the text are not installed.
    """
    key = _key()
    return Corpus("builtin", lambda: _read(key), lambda: key, _CHARACTERS)


def _read(key: str) -> Iterator[Document]:
    path = cache_folder("corpus") / f"{key}.jsonl"
    known = path.with_suffix(".xxh3")
    if not _is_whole(path, known):
        records = ({"source": document.source, "text": document.text} for document in _documents())
        write_atomically(path, "".join(json.dumps(record) + "\n" for record in records))
        write_atomically(known, digest_of_file(path))
    return read_jsonl(path)


def _is_whole(path: Path, known: Path) -> bool:
    try:
        return digest_of_file(path) == known.read_text("ascii")
    except (OSError, ValueError):  # absent, or unreadable
        return False


def _key() -> str:
    try:
        versions = [f"{package}-{metadata.version(package)}" for package in ("gensim", "chatterbot-corpus")]
        metadata.version("pyyaml")
    except metadata.PackageNotFoundError as error:
        raise CorpusError(
            f"The built-in corpus needs the package {error.name}. Install it: pip install 'neuronscope[demo]'."
        ) from error
    return "_".join([f"builtin-{VERSION}", *versions, f"python-{platform.python_version()}"])


def _documents() -> list[Document]:
    kinds = {"encyclopedia": _encyclopedia, "news": _news, "dialogue": _dialogue, "technical": _technical}
    return list(_interleave([[Document(text, source) for text in _shuffled(read())] for source, read in kinds.items()]))


def _shuffled(texts: Iterable[str]) -> list[str]:
    """Distinct texts in an order that has nothing to do with their topic, nor with their split."""
    return sorted(set(texts), key=lambda text: hashlib.blake2b(text.encode(), salt=b"order").digest())


def _interleave(sources: list[list[Document]]) -> Iterator[Document]:
    """Merge the sources so that all of them are always about equally far along, counted in characters."""
    totals = [sum(len(document.text) for document in documents) for documents in sources]
    positions, read = [0] * len(sources), [0] * len(sources)
    for _ in range(sum(map(len, sources))):
        waiting = [i for i, documents in enumerate(sources) if positions[i] < len(documents)]
        i = min(waiting, key=lambda i: read[i] / totals[i])
        document = sources[i][positions[i]]
        positions[i] += 1
        read[i] += len(document.text)
        yield document


def _encyclopedia() -> Iterator[str]:
    from gensim.corpora.wikicorpus import extract_pages, filter_wiki

    with bz2.open(_gensim_data() / _WIKIPEDIA) as dump:
        for title, markup, _ in extract_pages(dump):
            if markup and ":" not in title and not markup.lstrip().lower().startswith("#redirect"):
                yield from _sections(title, filter_wiki(markup))


def _sections(title: str, article: str) -> Iterator[str]:
    """The sections of an article as plain text, each under a line that names article and section."""
    parts = _WIKI_HEADING.split(article)
    headings = [("", ""), *zip(parts[1::3], parts[2::3], strict=True)]
    skipped_level = 0
    for (marks, heading), body in zip(headings, parts[::3], strict=True):
        if skipped_level and len(marks) > skipped_level:
            continue
        skipped_level = len(marks) if _LINK_SECTIONS.match(heading) else 0
        text = _plain(body)
        if not skipped_level and len(text) >= _MIN_CHARACTERS and _is_prose(text):
            yield f"{title}: {_plain(heading)}\n\n{text}" if heading else f"{title}\n\n{text}"


def _plain(markup: str) -> str:
    """Wiki text without what gensim's filter leaves of its markup."""
    text = re.sub(r"'{2,}", "", markup).replace("\xa0", " ")
    lines = [re.sub(r"^[*#:;]+\s*", "- ", line.strip()) for line in text.split("\n") if not _is_leftover(line)]
    text = re.sub(r"\(\s*[,;:]?\s*\)", "", "\n".join(lines))
    text = re.sub(r"[ \t]+", " ", text)
    text = re.sub(r" +([,.;:)\n])", r"\1", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _is_leftover(line: str) -> bool:
    return bool(line.strip()) and _TABLE_LINE.match(line) is not None


def _is_prose(text: str) -> bool:
    """Whether text is more than a flattened table or a list of titles: enough of it stands in long lines."""
    return sum(len(line) for line in text.split("\n") if len(line) >= 60) >= 0.4 * len(text)


def _news() -> Iterator[str]:
    """One report a line; the files are not UTF-8 (they hold one pound sign)."""
    for name in ("lee_background.cor", "lee.cor"):
        yield from (line.strip() for line in (_gensim_data() / name).read_text("latin-1").splitlines() if line.strip())


def _dialogue() -> Iterator[str]:
    import yaml

    for file in sorted((_package_folder("chatterbot_corpus") / "data" / "english").glob("*.yml")):
        for turns in yaml.safe_load(file.read_text("utf-8"))["conversations"]:
            speakers = ("User", "Assistant")
            yield "\n".join(f"{speakers[i % 2]}: {str(turn).strip()}" for i, turn in enumerate(turns))


def _technical() -> Iterator[str]:
    """The topics by section: some topics contain others whole, which as sections are exact duplicates."""
    from pydoc_data.topics import topics

    for topic in topics.values():
        starts = list(_MANUAL_HEADING.finditer(topic))
        ends = [start.start() for start in starts[1:]] + [len(topic)]
        for start, end in zip(starts, ends, strict=True):
            body = topic[start.end() : end].strip("\n")
            if len(body) >= _MIN_CHARACTERS:
                yield f"{start['title']}\n\n{body}"


def _gensim_data() -> Path:
    return _package_folder("gensim") / "test" / "test_data"


def _package_folder(package: str) -> Path:
    """Where a package is installed, without importing it."""
    spec = util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise CorpusError(f"The package {package} is damaged. Reinstall it: pip install 'neuronscope[demo]'.")
    return Path(spec.submodule_search_locations[0])
