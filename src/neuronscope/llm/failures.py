"""What goes wrong with a request, in words that name the remedy and never a key."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from neuronscope.errors import LLMError

_SECRET = re.compile(
    r"\b(?:sk|pk|gsk|xai|hf|key)[-_][A-Za-z0-9_\-]{6,}|(?<=\bBearer )[A-Za-z0-9_.\-]{6,}|\bAIza[A-Za-z0-9_\-]{20,}"
)
"""How the keys of well-known providers look."""
_LOGIN_IN_ADDRESS = re.compile(r"(?<=://)[^\s/@]+(?=@)")
_SHORTEST_SECRET = 8
"""Shorter values, such as "none", are placeholders."""


def request_failure(error: Exception, model: Any, agent: str) -> LLMError:
    """Say what went wrong with a request, and what to do, without the keys that providers like to echo."""
    name = model_name(model)
    status = http_status(error)
    detail = redacted(str(error), model)
    if status in (401, 403):
        return LLMError(
            f"{agent}: {name} refuses the API key (HTTP {status}). Check the provider's key variable, "
            'such as OPENAI_API_KEY, or use llm="offline".'
        )
    if status == 404:
        return LLMError(
            f"{agent}: there is no model {name} at this address. Check the model's name, and the address: those of "
            f"servers that speak OpenAI's protocol usually end in /v1. ({detail})"
        )
    if status in (402, 429):
        return LLMError(
            f"{agent}: {name} reports a rate limit or an empty quota. Try later or less at once: lower "
            f"`requests_per_second` or `max_concurrency`. ({detail})"
        )
    if is_timeout(error):
        return LLMError(
            f"{agent}: {name} did not answer in time. Raise `request_timeout`, or lower `max_concurrency` if the "
            f"server answers one request after the other. ({detail})"
        )
    if status is None and is_connection_failure(error):
        return LLMError(
            f"{agent}: {name} cannot be reached ({type(error).__name__}). Check the network, and that the server runs "
            'where OPENAI_BASE_URL or `base_url` points, or use llm="offline".'
        )
    if status is not None and status >= 500:
        return LLMError(f"{agent}: {name} is out of order (HTTP {status}). Try again later. ({detail})")
    return LLMError(
        f"{agent}: the request to {name} failed ({type(error).__name__}): {detail} Check that the model takes such "
        "requests, or use another."
    )


def model_name(model: Any) -> str:
    """What to call a model in messages and in a result's provenance."""
    for attribute in ("model_name", "model", "_llm_type"):
        name = getattr(model, attribute, None)
        if isinstance(name, str) and name:
            return name
    return type(model).__name__


def http_status(error: BaseException) -> int | None:
    """The HTTP status behind a provider's exception, wherever the provider's client keeps it."""
    for holder in (error, getattr(error, "response", None)):
        status = getattr(holder, "status_code", None)
        if isinstance(status, int):
            return status
    return None


def is_connection_failure(error: BaseException) -> bool:
    """Whether the provider could not be reached, or did not answer in time."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, OSError) or any("Connect" in name for name in names) or is_timeout(error)


def is_timeout(error: BaseException) -> bool:
    """Whether the provider did not answer in time."""
    return any("Timeout" in kind.__name__ for kind in type(error).__mro__)


def harmless(error: Exception, model: Any) -> Exception | None:
    """The cause to chain to: none where the provider's own words, or those behind them, may repeat a key."""
    if http_status(error) in (401, 403):
        return None
    link: BaseException | None = error
    while link is not None:
        if _without_secrets(text := str(link), model) != text:
            return None
        link = link.__cause__ or link.__context__
    return error


def redacted(text: str, model: Any = None) -> str:
    """A provider's words on one line, shortened, with every key that we know or recognise replaced by `***`."""
    text = " ".join(_without_secrets(text, model).split())
    return text if len(text) <= 300 else text[:300] + "…"


def _without_secrets(text: str, model: Any) -> str:
    for secret in _secrets(model):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "***")
    return _LOGIN_IN_ADDRESS.sub("***", _SECRET.sub("***", text))


def _secrets(model: Any) -> Iterator[str]:
    """The keys of the environment, and the model's own: its secret fields, its headers, the login in its address."""
    yield from (value for name, value in os.environ.items() if name.endswith(("_KEY", "_TOKEN", "_SECRET")))
    for name, value in getattr(model, "__dict__", {}).items():
        reveal = getattr(value, "get_secret_value", None)
        if reveal is not None and isinstance(revealed := reveal(), str):
            yield revealed
        elif name.endswith("headers") and isinstance(value, dict):
            yield from (header.removeprefix("Bearer ") for header in value.values() if isinstance(header, str))
        elif isinstance(value, str) and (login := _LOGIN_IN_ADDRESS.search(value)):
            yield login[0]
            yield from login[0].split(":")
