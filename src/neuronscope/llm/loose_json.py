"""JSON as language models write it: mended where that is cheap, and never at the price of the process.

The package json_repair takes time that grows with the square of a text's length (of stray quotation marks, say), and
recurses as deep as the text nests. So it only ever sees texts that are short and flat.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any, NamedTuple

LONGEST_MENDED = 8_000
"""Characters of a faulty JSON text that are mended; what follows them is not read."""

DEEPEST = 32
"""How deep a faulty JSON text may nest to be mended, and how deep anything in a JSON value is looked for."""

_BRACKET = re.compile(r"[\[\]{}]")


class LooseJSON(NamedTuple):
    """What could be read of a text that should be JSON."""

    value: Any
    """The JSON value; None if there is none."""
    is_cut: bool = False
    """Whether the text was read in part only, so that the last string in the value may be a part of one."""


def loads(text: str) -> LooseJSON:
    """Read a text that begins with JSON: as it stands, else mended; prose may follow.

    It takes time proportional to the text's length, and raises nothing.
    """
    try:
        return LooseJSON(json.loads(text))
    except (ValueError, RecursionError):
        pass
    if len(text) <= LONGEST_MENDED:
        return LooseJSON(_mended(text))
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return LooseJSON(_mended(text[:LONGEST_MENDED]), is_cut=True)
    return LooseJSON(value)


@lru_cache(maxsize=8)
def _mended(text: str) -> Any:
    """The value of a short faulty text; remembered, since an answer is looked through in several ways."""
    import json_repair

    if _depth(text) > DEEPEST:
        return None
    try:
        return json_repair.loads(text)
    except (ValueError, RecursionError):
        return None


def _depth(text: str) -> int:
    """How deep the brackets of a text nest, those within strings included."""
    depth = deepest = 0
    for found in _BRACKET.finditer(text):
        depth = depth + 1 if found[0] in "[{" else max(0, depth - 1)
        deepest = max(deepest, depth)
    return deepest
