"""What a sentence quotes, read literally and causally."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from neuronscope.offline.conditions import PART_SHARE, Condition
from neuronscope.simulators.reader.sentence import sentence_of
from neuronscope.simulators.reader.text import Text, Vectors

Array = NDArray[np.float32]


NEIGHBOUR_SHARE = 0.5
"""A word of cosine 1 to a quoted word would activate at this share of its strength, as in the hybrid simulator."""


def exact(explanation: str, text: Text, vectors: Vectors) -> Array | None:
    """The prediction, 0 to 10, of a sentence of nothing but quotes and grammar; None for any other one.

    What is not quoted, but close in meaning to a quoted word, activates a little.
    """
    parse = sentence_of(explanation).parse
    if parse.topic or parse.kinds or not parse.conditions:
        return None
    out = np.zeros((len(text.contents), 3), dtype=np.float32)
    literal(parse.conditions, text, out, PART_SHARE)
    quoted = [
        c for c in parse.conditions if c.form == "word" and c.strength > 0 and len(c.text) > 2 and c.text[0].isalpha()
    ]
    near = np.zeros(len(text.contents), dtype=np.float32)
    if quoted and text.contents:
        cosines = vectors.stack(text.words) @ vectors.stack([condition.text for condition in quoted]).T
        strengths = np.array([condition.strength for condition in quoted], dtype=np.float32)
        near = (np.clip((cosines - 0.5) / 0.5, 0, 1) * strengths).max(axis=1) * NEIGHBOUR_SHARE
    return np.where(out[:, 1] > 0, out[:, 0] * 10, near).astype(np.float32)


def literal(conditions: Sequence[Condition], text: Text, out: Array, part_share: float = 1.0) -> None:
    """Columns 0 to 2: the strength of the most specific condition, whether one applies, whether as an exception."""
    rank = np.full(len(text.contents), -1)
    for condition in conditions:
        specific = (2 if condition.after else 0) + (1 if condition.text else 0) + (4 if condition.strength == 0 else 0)
        for position in range(len(text.contents)):
            if not _applies(condition, text, position):
                continue
            value = condition.strength / 10
            if condition.form == "word" and text.continues[position] and text.words[position] != condition.text:
                value *= part_share if condition.text[:1].isalpha() and text.contents[position] == condition.text else 1
            if specific > rank[position] or (specific == rank[position] and value > out[position, 0]):
                rank[position], out[position, 0] = specific, value
    out[:, 1] = rank >= 0
    out[:, 2] = rank >= 4


def _applies(condition: Condition, text: Text, position: int) -> bool:
    content, word, wanted = text.contents[position], text.words[position], condition.text
    left = text.left[position]
    if wanted:
        if condition.form == "ending":
            if not word.endswith(wanted):
                return False
        elif condition.form == "beginning":
            if not word.startswith(wanted):
                return False
        elif condition.form == "part":
            if content != wanted or not text.continues[position]:
                return False
        elif content != wanted and word != wanted:
            whole = f"{left}{text.folded[position]}".rstrip(" ")
            if len(wanted) < 3 or not whole.endswith(wanted):
                return False
            outer = whole[: len(whole) - len(wanted)]
            if outer[-1:].isalnum() and wanted[0].isalnum():
                return False
            left = outer
    return not condition.after or any(_ends_with(left, before) for before in condition.after)


def _ends_with(left: str, before: str) -> bool:
    inside = len(before) > 1 and before[0] == "-" and before[1].isalpha()
    wanted = before[1:] if inside else before
    trimmed = left if wanted.isspace() else left.rstrip(" ")
    if not trimmed.endswith(wanted):
        return False
    outer = trimmed[: len(trimmed) - len(wanted)]
    return inside or not (wanted[:1].isalpha() and outer[-1:].isalpha())


def kinds_of(text: Text) -> Iterable[tuple[str, bool]]:
    """What `is_of_kind` asks of each token."""
    return zip(text.contents, text.capitalised, strict=True)


def is_of_kind(name: str, content: str, capital: bool) -> bool:
    """Whether a token is of a kind that `offline.english` knows by name."""
    if name == "numbers":
        return content.isdigit()
    if name == "line breaks":
        return "\n" in content
    if name == "punctuation":
        return bool(content.strip()) and not any(character.isalnum() for character in content)
    return capital
