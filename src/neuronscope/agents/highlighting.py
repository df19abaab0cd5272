"""Marks around a neuron's activating tokens, chosen so that they cannot be mistaken for the text's own characters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import count, groupby
from typing import NamedTuple

import numpy as np

from neuronscope.llm.marks import defused
from neuronscope.types import Exemplar, normalise

HIGHLIGHT_SHARE = 0.3
"""A token is highlighted when its activation exceeds this share of the largest one among the exemplars shown."""

MOST_MARKED = 6
"""Tokens of a graded text that are marked in any case, if they are active."""


class Marks(NamedTuple):
    """What stands before and after activating tokens."""

    opening: str
    closing: str


_CANDIDATES = (Marks("<<", ">>"), Marks("[[", "]]"), Marks("{{", "}}"), Marks("⟦", "⟧"), Marks("⦃", "⦄"))
_QUOTES = ('"', "'", "`")
_GRADE = re.compile(r"\A\(\d+(?:\.\d+)?\)")
"""The activation behind a marked token."""
_LINE_BREAKS = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: str) -> str:
    """The text on one line: line breaks, control characters and lone surrogates in backslash notation.

    Every character maps by itself, so `visible(a + b) == visible(a) + visible(b)`.
    """
    return "".join(_visible_character(character) for character in text)


def choose_marks(texts: Iterable[str], runs: Iterable[str] = ()) -> Marks:
    """A pair of marks that occurs in none of the texts, and with none of the runs between makes a template's mark.

    The paper's own appendix G shows what happens otherwise: the hypotheses describe the marks as the neuron's trigger.
    The usual pairs are taken only where not even one of their characters occurs, the generated ones (`<mark1>`) where
    they do not occur as a whole. `<<s>>` would not do, since many models read `<s>` as the beginning of everything.
    """
    everything, between = "\0".join(texts), set(runs)
    characters = set(everything)
    for marks in _CANDIDATES:
        marked = (marks.opening + run + marks.closing for run in between)
        if characters.isdisjoint(marks.opening + marks.closing) and all(defused(text) == text for text in marked):
            return marks
    numbered = (Marks(f"<mark{number}>", f"</mark{number}>") for number in count(1))
    return next(marks for marks in numbered if marks.opening not in everything and marks.closing not in everything)


def highlight_threshold(exemplars: Sequence[Exemplar]) -> float:
    """The activation above which a token counts as activating, for exemplars shown together."""
    return HIGHLIGHT_SHARE * _largest(exemplars)


def highlight(exemplar: Exemplar, threshold: float, marks: Marks) -> str:
    """The exemplar's text on one line, each run of tokens above the threshold between one pair of marks.

    Without the marks it is `visible(exemplar.text)`.
    """
    pieces = [(visible(text), strength) for text, strength in _runs(exemplar, threshold)]
    return "".join(f"{marks.opening}{text}{marks.closing}" if strength and text else text for text, strength in pieces)


def marked_runs(exemplars: Iterable[Exemplar], threshold: float) -> set[str]:
    """The texts that `highlight` puts between marks."""
    return {visible(text) for exemplar in exemplars for text, strength in _runs(exemplar, threshold) if strength}


def graded(exemplar: Exemplar, maximum: float, marks: Marks, least: float = 1.0) -> str:
    """The text on one line, every token from `least` of 10 on between marks of its own, its activation behind it.

    Of a long text only the strongest sixth of the tokens is marked, if more would be.
    """
    levels = normalise(exemplar.activations, maximum)
    most = max(MOST_MARKED, len(levels) // 6)
    if len(levels) > most:
        least = max(least, float(np.sort(levels)[-most]))
    pieces = zip(exemplar.tokens, levels.tolist(), strict=True)
    return "".join(
        f"{marks.opening}{visible(token)}{marks.closing}({level:.0f})" if token and level >= least else visible(token)
        for token, level in pieces
    )


def as_word(text: str, before: str) -> str:
    """How a token or run is quoted: on one line, without spaces around; a part that continues a word as "-ness"."""
    continues = before[-1:].isalnum() and text[:1].isalnum()
    return ("-" if continues else "") + visible(text.strip(" ") or text)


def without_marks(answer: str, marks: Marks) -> str:
    """A model's answer with quotation marks where it repeats the marks, which no excerpt can have put there."""
    return "".join(_line_without_marks(line, marks) for line in answer.splitlines(keepends=True))


def _line_without_marks(line: str, marks: Marks) -> str:
    before, *marked = line.split(marks.opening)
    pieces = [before]
    for piece in marked:
        text, closing, after = piece.partition(marks.closing)
        if closing:
            after = _GRADE.sub("", after, count=1)
            if pieces[-1].endswith(_QUOTES):
                pieces[-1] = pieces[-1][:-1]
            pieces += [f'"{text.strip()}"', after[1:] if after.startswith(_QUOTES) else after]
        else:
            pieces.append(piece)
    return "".join(pieces).replace(marks.closing, "")


def _runs(exemplar: Exemplar, threshold: float) -> list[tuple[str, float]]:
    """The text of each run of tokens on one side of the threshold, with its largest activation; 0.0 below it."""
    tokens = zip(exemplar.tokens, exemplar.activations.tolist(), strict=True)
    runs = []
    for is_active, group in groupby(tokens, key=lambda pair: pair[1] > threshold):
        pairs = list(group)
        strength = max(activation for _, activation in pairs) if is_active else 0.0
        runs.append(("".join(token for token, _ in pairs), strength))
    return runs


def _largest(exemplars: Sequence[Exemplar]) -> float:
    return max((float(exemplar.activations.max(initial=0.0)) for exemplar in exemplars), default=0.0)


def _visible_character(character: str) -> str:
    if character in _LINE_BREAKS:
        return _LINE_BREAKS[character]
    if character.isprintable() or character == "\u00a0":
        return character
    return character.encode("unicode_escape").decode("ascii")
