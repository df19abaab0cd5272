"""What callers pass, checked: whole numbers wherever they come from, and names, with the nearest to an unknown one."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from neuronscope.errors import ConfigurationError
from neuronscope.text import shortened

_LARGEST = 2**63 - 1
"""No number of ours needs more than 64 bits; and some thousands of digits could not even be printed."""
_SHOWN = 60
"""Characters of a value that a message shows."""


def integer(value: object, name: str, *, least: int | None = None) -> int:
    """A whole number as an `int`, whether Python's, numpy's, pandas' or torch's.

    A float that is whole counts: a column of a table turns into floats when one of its cells is empty. Booleans and
    text do not.

    Args:
        value: the number.
        name: what the caller calls it.
        least: it must be at least this.

    Raises:
        ConfigurationError: it is no such number.
    """
    number = _whole(plain(value))
    if number is None or abs(number) > _LARGEST:
        raise ConfigurationError(f"{name} is {short(value)}: expected a whole number, such as 9.")
    if least is not None and number < least:
        raise ConfigurationError(f"{name} must be at least {least}, not {number}.")
    return number


def integers(values: object, name: str) -> list[int]:
    """Whole numbers as a list: of a list, a range, an array, a column of a table; a single one is a list of one.

    Raises:
        ConfigurationError: one of them is no whole number.
    """
    if isinstance(values, Iterable) and not isinstance(values, (str, bytes)) and dimensions(values) != 0:
        return [integer(value, name) for value in values]
    return [integer(values, name)]


def real(value: object, name: str) -> float:
    """A finite number as a `float`.

    Raises:
        ConfigurationError: it is none.
    """
    number = plain(value)
    if isinstance(number, (int, float)) and not isinstance(number, bool) and math.isfinite(number):
        return float(number)
    raise ConfigurationError(f"{name} is {short(value)}: expected a number.")


def plain(value: Any) -> Any:
    """A scalar of numpy, pandas or torch, such as an array of no dimension, as Python's; anything else as it is."""
    item = getattr(value, "item", None)
    if not callable(item) or dimensions(value):
        return value
    try:
        return item()
    except (RuntimeError, TypeError, ValueError):  # a tensor without data
        return value


def dimensions(value: Any) -> int | None:
    """How many dimensions an array has; None for what is no array."""
    return getattr(value, "ndim", None)


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """` Did you mean 'offline'?`, to go behind a sentence about an unknown word; nothing if none is near."""
    names = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), names, n=1) if isinstance(word, str) and len(word) <= _SHOWN else []
    return f" Did you mean {names[near[0]]!r}?" if near else ""


def short(value: object) -> str:
    """A value in a message, by its first characters."""
    if isinstance(value, int) and abs(value) > _LARGEST:
        return "a number of more than 64 bits"
    return shortened(repr(value), _SHOWN)


def _whole(value: Any) -> int | None:
    if isinstance(value, bool) or dimensions(value):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    try:
        return int(operator.index(value))
    except (TypeError, RuntimeError):
        return None
