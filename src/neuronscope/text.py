"""Untrusted text made fit to show: nothing in it is invisible, or controls what shows it; as one line, if need be."""

from __future__ import annotations

import unicodedata

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


def _visible_character(character: str) -> str:
    if character in _JOINERS or unicodedata.category(character) not in _INVISIBLE:
        return character
    if character in _SYMBOLS:
        return _SYMBOLS[character]
    if character < " ":
        return chr(0x2400 + ord(character))
    return f"‹U+{ord(character):04X}›"
