"""Lines around untrusted text in a prompt, chosen so that the text cannot contain them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import NamedTuple


class Fence(NamedTuple):
    """The lines before and after a block of data."""

    opening: str
    closing: str


def choose_fence(name: str, lines: Sequence[str]) -> Fence:
    """The lines around a block of data: tags that none of its lines contains."""
    numbered = (name if number == 0 else f"{name}-{number}" for number in count())
    return next(
        Fence(f"<{tag}>", f"</{tag}>")
        for tag in numbered
        if not any(f"<{tag}>" in line or f"</{tag}>" in line for line in lines)
    )


def fenced(fence: Fence, lines: Sequence[str]) -> str:
    """The block of data between its fence."""
    return "\n".join([fence.opening, *lines, fence.closing])
