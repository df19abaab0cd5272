"""Several corpora as one, each with its share; and the paper's, which is such a mixture."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from neuronscope.corpus.documents import Corpus, Document
from neuronscope.corpus.sources import open_corpus
from neuronscope.errors import CorpusError

PAPER = {"hf:HuggingFaceFW/fineweb?name=sample-10BT": 0.5, "hf:lmsys/lmsys-chat-1m": 0.5}
"""The paper's corpora (section 3.1). It does not say in what shares: half and half."""

_log = logging.getLogger(__name__)


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

    def described(word: Callable[[Corpus], str]) -> str:
        return "mix:" + ",".join(f"{share!r}*{word(corpus)}" for share, corpus in zip(shares, corpora, strict=True))

    sizes = [corpus.n_characters for corpus in corpora]
    return Corpus(
        name="mix:" + ",".join(f"{share:.3g}*{corpus.name}" for share, corpus in zip(shares, corpora, strict=True)),
        read=lambda: _interleave(corpora, shares),
        identity=lambda: described(Corpus.key),
        n_characters=None if None in sizes else sum(size for size in sizes if size is not None),
    )


def parse_mixture(text: str) -> dict[str, float]:
    """Read a mixture as the command line writes it: `mix:0.5*hf:owner/name,0.5*builtin`.

    Raises:
        CorpusError: a part is not a weight, a star and a source, or a source comes twice.
    """
    sources: dict[str, float] = {}
    for part in text.removeprefix("mix:").split(","):
        weight, star, source = (piece.strip() for piece in part.partition("*"))
        try:
            number = float(weight)
        except ValueError:
            number = math.nan
        if math.isnan(number) or not star or not source:
            raise CorpusError(
                f"{part!r} is not a part of a mixture. Write each as weight*source: mix:0.5*hf:owner/name,0.5*builtin."
            )
        if source in sources:
            raise CorpusError(f"The mixture names {source!r} twice. Name it once, with the sum of its weights.")
        sources[source] = number
    return sources


def paper_corpus() -> Corpus:
    """FineWeb (the sample of ten billion tokens) and LMSYS-Chat-1M, half and half (section 3.1).

    Raises:
        CorpusError: the package datasets is not installed.
    """
    mixture = mix(PAPER)
    return Corpus("paper", mixture.read, mixture.identity)


def _interleave(corpora: Sequence[Corpus], shares: Sequence[float]) -> Iterator[Document]:
    readers = {number: iter(corpus) for number, corpus in enumerate(corpora)}
    read = [0] * len(corpora)
    while readers:
        behind = min(readers, key=lambda number: read[number] / shares[number])
        document = next(readers[behind], None)
        if document is None:
            del readers[behind]
            if readers:
                _log.warning(
                    "The mixture's source %r is used up after %s characters; the others go on without it.",
                    corpora[behind].name,
                    f"{read[behind]:,}",
                )
            continue
        read[behind] += len(document.text)
        yield document
