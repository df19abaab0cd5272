"""Which mode each part of a text is nearest to in embedding space (paper, appendix D), and how that is shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from neuronscope.display.plots import look
from neuronscope.display.words import visible
from neuronscope.experiments.report import cell

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings
    from matplotlib.figure import Figure

MARKS = "🟦🟥🟩🟪🟧🟨🟫⬛"
"""For Markdown, which has no colours: blue, red and green first, as in the paper's table 3."""
WIDTH = 122
"""Characters of a line in a drawing."""

_NOT_AFTER = r"(?<![.\s]\w)(?<!\betc)(?<!\bvs)(?<!\bDr)(?<!\bMr)(?<!\bMrs)(?<!\bSt)"
_END = re.compile(_NOT_AFTER + r"[.!?]+[\"'”’)\]]*\s+(?=[\"'“‘(\[]?[A-Z0-9])|\s*\n\s*")
_JOINING = "and|or|but|such as|including|specifically|particularly|especially"
_PART = re.compile(rf"[;:]\s+|,\s+(?=(?:{_JOINING})\s)")
_BULLET = re.compile(r"^(?:[-*•–]|\(?\d{1,2}[.)]|\[\d{1,2}\])\s+")


class Part(NamedTuple):
    """A sentence, or a part of one, and the mode that it is nearest to."""

    text: str
    mode: int
    """Its place among the references."""
    cosine: float


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, and the items of its lists, in order."""
    return [_BULLET.sub("", piece) for piece in _cut(text, _END) if any(map(str.isalnum, piece))]


def split_parts(text: str) -> list[str]:
    """The same, and sentences with several parts cut between them; a part has three words at least."""
    parts: list[str] = []
    for sentence in split_sentences(text):
        pieces: list[str] = []
        for piece in _cut(sentence, _PART):
            if pieces and (len(piece.split()) < 3 or len(pieces[-1].split()) < 3):
                pieces[-1] += f" {piece}"
            else:
                pieces.append(piece)
        parts += pieces
    return parts


def _cut(text: str, ends: re.Pattern[str]) -> list[str]:
    """The text between the ends, which stay where they were."""
    places = [0, *(found.end() for found in ends.finditer(text)), len(text)]
    return [text[start:end].strip() for start, end in pairwise(places) if text[start:end].strip()]


def nearest(texts: Sequence[str], references: Sequence[str], embeddings: Embeddings) -> list[Part]:
    """Each text with the reference of the highest cosine; of equals the first.

    Raises:
        LLMError: the embeddings cannot be had.
    """
    from neuronscope.llm.embeddings import embed

    if not texts or not references:
        return []
    vectors = embed(embeddings, [*texts, *references], "experiment")
    cosines = vectors[: len(texts)] @ vectors[len(texts) :].T
    places = cosines.argmax(axis=1)
    return [
        Part(text, int(place), round(float(row[place]), 6))
        for text, place, row in zip(texts, places, cosines, strict=True)
    ]


def mark(mode: int) -> str:
    """The coloured square of a mode."""
    return MARKS[mode % len(MARKS)]


def marked(parts: Sequence[Part]) -> str:
    """Parts for a cell of a Markdown table, each behind the square of its mode."""
    return " ".join(f"{mark(part.mode)} {cell(part.text)}" for part in parts)


def draw_parts(title: str, texts: Sequence[Sequence[Part]], references: Sequence[str]) -> Figure:
    """Texts in the colours of the modes that their parts are nearest to, under the modes themselves (figure 3).

    Raises:
        ConfigurationError: matplotlib is not installed.
    """
    from neuronscope.display.plots import canvas

    figure, axes = canvas("\n".join(map(visible, title.splitlines())))
    legend = [[Part(f"Mode {place + 1}: {text}", place, 1.0)] for place, text in enumerate(references)]
    lines: list[list[tuple[int, str, int]]] = []
    for parts in [*legend, *texts]:
        lines += [*_wrapped(parts), []]
    figure.set_size_inches(10.0, max(2.0, 0.4 + 0.2 * len(lines)))
    axes.set_axis_off()
    axes.set(xlim=(0, WIDTH), ylim=(len(lines), -1))
    for row, line in enumerate(lines):
        for column, word, mode in line:
            colour, _ = look(mode)
            axes.text(column, row, word, color=colour, family="monospace", fontsize=9, va="center", parse_math=False)
    return figure


def _wrapped(parts: Sequence[Part]) -> list[list[tuple[int, str, int]]]:
    """Lines of words, each with its column and its mode."""
    lines: list[list[tuple[int, str, int]]] = [[]]
    column = 0
    for part in parts:
        for word in visible(" ".join(part.text.split())).split():
            if column and column + len(word) > WIDTH:
                lines.append([])
                column = 0
            lines[-1].append((column, word, part.mode))
            column += len(word) + 1
    return lines
