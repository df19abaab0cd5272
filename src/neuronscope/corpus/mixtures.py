"""Several corpora as one, each with its share.

`datasets.interleave_datasets` draws the next document by chance, or takes turns: shares of documents, not of text. Here
every beginning has the shares of characters that were asked for, and a source may be anything that is a corpus.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence

from neuronscope.corpus.documents import Corpus, Document
from neuronscope.errors import CorpusError

_log = logging.getLogger(__name__)


def mixture(corpora: Sequence[Corpus], shares: Sequence[float]) -> Corpus:
    """Corpora as one.

    Args:
        corpora: the sources. Of equals the first is read first.
        shares: of each, of the characters; they add up to 1.
    """

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
