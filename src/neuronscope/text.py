"""Text as such: untrusted text made fit to show, as one line if need be, and sentences told apart."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_SYMBOLS = {"\n": "↵", "\t": "⇥", "\x7f": "␡"}
_JOINERS = {"\u200c", "\u200d"}
_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def visible(text: str) -> str:
    """Text in which nothing is invisible and nothing controls the page or the terminal.

    Control characters, direction overrides, zero-width and tag characters, line separators and lone surrogates are
    shown as a symbol (`↵`, `␛`) or by their code point (`‹U+202E›`). The two zero-width joiners stay: Persian, the
    scripts of India and emoji are misspelt without them.
    """
    if text.isprintable():
        return text
    return "".join(map(_visible_character, text))


def one_line(text: str) -> str:
    """Text as one line of visible characters, its blanks collapsed."""
    return visible(" ".join(text.split()))


def shortened(text: str, length: int = 60) -> str:
    """The beginning of a text, as one line of at most `length` characters; `…` stands for what is left out."""
    line = one_line(text[: 8 * length])  # a text may be megabytes long
    whole = len(text) <= 8 * length and len(line) <= length
    return line if whole else f"{line[: length - 1].rstrip()}…"


BEGINNING = re.compile(
    r"\A\W*(?:(?:this|the) (?:neuron|unit|feature)|it) "
    r"(?:(?:\w+ly|also|most) )*"
    r"(?:activates?|fires?|responds?|reacts?|detects?|recogni[sz]es?|is (?:active|activated|triggered|sensitive))"
    r"(?: (?:\w+ly|most|also|in this case:?))*(?: (?:when|whenever|if|on|upon|to|by|in|at|for|with))? ",
    re.IGNORECASE,
)
"""How an explanation begins before it says anything."""


def gist(explanation: str, length: int = 80) -> str:
    """What an explanation says, as a few words: without "This neuron activates on", and without what it excepts."""
    said = BEGINNING.sub("", one_line(explanation[: 8 * length])).partition("; but not ")[0]
    return shortened(said.rstrip(" ."), length)


def same_sentence(sentence: str) -> str:
    """What two sentences share when they differ in case, spacing or the closing stop only."""
    return " ".join(sentence.casefold().split()).rstrip(". ")


def distinct(sentences: Iterable[str], known: Iterable[str] = ()) -> list[str]:
    """The sentences in their order, without repetitions and without those that are known already."""
    seen = {same_sentence(sentence) for sentence in known}
    kept = []
    for sentence in sentences:
        key = same_sentence(sentence)
        if key and key not in seen:
            seen.add(key)
            kept.append(sentence)
    return kept


def _visible_character(character: str) -> str:
    if character in _JOINERS or unicodedata.category(character) not in _INVISIBLE:
        return character
    if character in _SYMBOLS:
        return _SYMBOLS[character]
    if character < " ":
        return chr(0x2400 + ord(character))
    return f"‹U+{ord(character):04X}›"
