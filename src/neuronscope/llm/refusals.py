"""What servers refuse of a request, how they say so, and what is left out then: one table, learnt once per backend.

All of it happens on the loop of requests (`llm.ask`), so its locks are asyncio's.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from itertools import zip_longest
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from neuronscope.llm.failures import answered_error, http_status, is_filter
from neuronscope.locks import in_forked_child

PartName = Literal["tools", "schema", "n", "temperature", "system"]


class Part(NamedTuple):
    """A part of a request that servers may refuse."""

    name: PartName
    spoken_of: re.Pattern[str]
    """How refusals speak of it."""
    unnamed: Literal["any", "4xx", "never"]
    """Which refusals that speak of nothing may mean it."""


PARTS: tuple[Part, ...] = (
    # asked for the same arguments as JSON instead
    Part("tools", re.compile(r"\btools?\b|tool_choice|function[ _-]?call|\bfunctions?\b", re.IGNORECASE), "any"),
    # asked in words instead: the prompt says what form the answer should have
    Part(
        "schema",
        re.compile(r"response[_ ]?format|json[_ -]?(?:object|mode)|structured|grammar|guided|schema", re.IGNORECASE),
        "any",
    ),
    # asked as often as it takes instead
    Part("n", re.compile(r"(?<![\w.])n(?![\w.])|best_of|multiple (?:choices|completions)"), "4xx"),
    # left to the model instead, as reasoning models want it
    Part("temperature", re.compile(r"temperature", re.IGNORECASE), "never"),
    # its words put before the user's instead
    Part(
        "system",
        re.compile(r"\broles?\b|system[\s_]?(?:message|prompt|instruction)|developer instruction", re.IGNORECASE),
        "any",
    ),
)
"""In the order in which they are left out when a refusal speaks of several, or of none."""

_unsupported: set[tuple[str, str]] = set()
"""What backends do not take, as this process has found out: (the name of a part, the backend)."""

_supported: set[tuple[str, str]] = set()
"""What backends have taken, so that a server error which speaks of nothing does not mean it."""

_NEVER = (401, 402, 408, 409, 413, 425, 429, 502, 503, 504, 529)
"""With these a server says that it does not want any request now, or of this user, or of this length."""
_ONLY_IF_NAMED = (403, 404, 405, 410)
"""With these a server means the address or the user's rights, unless it speaks of a part."""

_DO_AS_THEY_SAY = ("api.openai.com", "api.anthropic.com", "generativelanguage.googleapis.com")
"""Of other hosts one request finds out what they can do, before many are made."""
_tried: set[tuple[str, str]] = set()
_trying: dict[str, asyncio.Lock] = {}


class Refusal(NamedTuple):
    """What a server may have meant by an error."""

    status: int
    named: tuple[PartName, ...]
    """What it speaks of."""
    parts: tuple[PartName, ...]
    """What it may mean, in the order in which to try without; empty if it means no part of the request."""


class Omission(NamedTuple):
    """A part that was left out of a request, and why."""

    part: PartName
    refusal: Refusal | None = None
    """None: not refused, but an answer came that is not what was asked for, or none that the client could read."""
    is_guess: bool = False
    """Whether there is too little to learn from it."""


def refusal_of(error: Exception, asked: Collection[str], backend: str) -> Refusal | None:
    """What an error refuses of a request with these parts; None if the error is no answer of a server's."""
    status = http_status(error)
    if status is None:
        return None
    said = f"{error} {answered_error(error) or ''}"
    if status in _NEVER or is_filter(error):
        return Refusal(status, (), ())
    present = [part for part in PARTS if part.name in asked]
    named = tuple(part.name for part in present if part.spoken_of.search(said))
    if status < 500:
        meant = [part.name for part in present if part.unnamed != "never"]
    else:
        meant = [part.name for part in present if part.unnamed == "any" and (part.name, backend) not in _supported]
    return Refusal(status, named, named or (() if status in _ONLY_IF_NAMED else tuple(meant)))


def unsupported_by(backend: str) -> frozenset[str]:
    """What a backend does not take, as far as is known."""
    return frozenset(part for part, name in _unsupported if name == backend)


def mark_unsupported(part: PartName, backend: str) -> None:
    """Remember that a backend does not take a part of a request."""
    _unsupported.add((part, backend))


def mark_answered(omissions: Sequence[Omission], backend: str) -> None:
    """Remember, once an answer has come, what is not taken: the last part left out, and each that changed the error."""
    for omission, after in zip_longest(omissions, omissions[1:]):
        before = omission.refusal
        unchanged = (
            after is not None and before is not None and after.refusal is not None and before[:2] == after.refusal[:2]
        )
        if not (omission.is_guess or unchanged):
            mark_unsupported(omission.part, backend)


def mark_supported(parts: Collection[str], backend: str) -> None:
    """Remember that a backend takes these parts of a request."""
    _supported.update((part, backend) for part in parts)


def forget_refusals() -> None:
    """Forget what servers take and refuse, as after a server was exchanged for another at the same address."""
    for known in (_unsupported, _supported, _tried, _trying):
        known.clear()


@asynccontextmanager
async def first_alone(constraint: str | None, backend: str, address: str) -> AsyncIterator[None]:
    """Let the first request that constrains a backend's answers find out whether that can be, while others wait."""
    key = (str(constraint), backend)
    if constraint is None or key in _tried or urlsplit(address).hostname in (None, *_DO_AS_THEY_SAY):
        yield
        return
    async with _trying.setdefault(backend, asyncio.Lock()):
        is_first = key not in _tried
        if is_first:
            try:
                yield
            finally:
                _tried.add(key)
    if not is_first:
        yield


in_forked_child(_trying.clear)  # the parent's requests under way never end here
