"""What a sentence quotes, read literally and causally."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neuronscope.offline.conditions import PART_SHARE, Condition
from neuronscope.offline.tokens import ends_with
from neuronscope.simulators.hybrid import near_quoted
from neuronscope.simulators.reader.sentence import sentence_of
from neuronscope.simulators.reader.text import Text, Vectors

Array = NDArray[np.float32]


def exact(explanation: str, text: Text, vectors: Vectors) -> Array | None:
    """The prediction, 0 to 10, of a sentence of nothing but quotes and grammar; None for any other one.

    What is not quoted, but close in meaning to a quoted word, activates a little.
    """
    parse = sentence_of(explanation).parse
    if parse.topic or parse.kinds or not parse.conditions:
        return None
    out = np.zeros((len(text.contents), 3), dtype=np.float32)
    literal(parse.conditions, text, out, PART_SHARE)
    quoted = [condition for condition in parse.conditions if condition.has_neighbours]
    near = np.zeros(len(text.contents), dtype=np.float32)
    if quoted and text.contents:
        cosines = vectors.stack(text.words) @ vectors.stack([condition.text for condition in quoted]).T
        near = near_quoted(cosines, quoted)
    return np.where(out[:, 1] > 0, out[:, 0] * 10, near).astype(np.float32)


def literal(conditions: Sequence[Condition], text: Text, out: Array, part_share: float = 1.0) -> None:
    """Columns 0 to 2: the strength of the most specific condition, whether one applies, whether as an exception."""
    rank = np.full(len(text.contents), -1)
    for condition in conditions:
        specific = condition.specificity
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
    return not condition.after or any(ends_with(left, before) for before in condition.after)
