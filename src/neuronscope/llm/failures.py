"""What goes wrong with a request, in words that name the remedy and never a key."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote

from neuronscope.errors import LLMError
from neuronscope.llm.addresses import address_of, basic, proxy_to

_SECRET = re.compile(
    r"\b(?:sk|pk|gsk|xai|hf|key)[-_][A-Za-z0-9_\-]{6,}|(?<=\bBearer )[A-Za-z0-9_.\-]{6,}|\bAIza[A-Za-z0-9_\-]{20,}"
    r"|(?<=\bBasic )(?=\S*[A-Z0-9])[A-Za-z0-9+/_\-]{4,}={0,2}|(?<=\bbasic )(?=\S*[A-Z0-9])[A-Za-z0-9+/_\-]{4,}={0,2}"
)
"""How the keys of well-known providers look, and what stands in a header of authorisation."""
_LOGIN_IN_ADDRESS = re.compile(r"(?<=://)[^\s/?#\"'<>]+(?=@)")
_SHORTEST_SECRET = 8
"""Shorter values, such as "none", are placeholders."""
_BASIC = re.compile(r"Basic (\S+)", re.IGNORECASE)
_SHORTEST_PASSWORD = 4
_FILTER = re.compile(r"content[_ ]?(?:filter|management policy)|responsible[_ ]?ai", re.IGNORECASE)
"""How providers speak of their filters of contents."""
_TOKENIZER_FILE = re.compile(r"openaipublic\.blob|tiktoken", re.IGNORECASE)
_OTHER_LOOP = re.compile(r"different (?:event )?loop|loop is closed", re.IGNORECASE)
_STATUS_OF = {
    **dict.fromkeys(("rate_limit_exceeded", "rate_limit_error", "too_many_requests", "resource_exhausted"), 429),
    **dict.fromkeys(("overloaded_error", "server_overloaded", "overloaded", "unavailable", "service_unavailable"), 503),
    **dict.fromkeys(("server_error", "internal_error", "internal_server_error", "api_error"), 500),
    **dict.fromkeys(("timeout", "timeout_error", "gateway_timeout"), 504),
    **dict.fromkeys(("insufficient_quota", "payment_required"), 402),
    **dict.fromkeys(("invalid_request_error", "bad_request", "content_filter"), 400),
    **dict.fromkeys(("authentication_error", "invalid_api_key", "unauthorized"), 401),
    **dict.fromkeys(("not_found_error", "model_not_found"), 404),
}
"""The HTTP status that is meant where an error has a word for it."""


def request_failure(error: Exception, model: Any, agent: str) -> LLMError:
    """Say what went wrong with a request, and what to do, without the keys that providers like to echo."""
    name = model_name(model)
    status = http_status(error)
    detail = redacted(_said(error), model)
    proxy = proxy_to(model)
    otherwise = 'embeddings="minilm"' if hasattr(model, "embed_documents") else 'llm="offline"'
    by_proxy = (
        ""
        if not proxy
        else (
            f" Requests to it go through the proxy {redacted(proxy)} of the environment (HTTP_PROXY, HTTPS_PROXY, "
            "ALL_PROXY): if that is not meant, name the server's host in NO_PROXY."
        )
    )
    if status is None and _TOKENIZER_FILE.search(str(error)):
        return LLMError(
            f"{agent}: LangChain cuts texts for {name} by GPT's tokenizer, whose file cannot be fetched; nothing has "
            "been sent to the server. Make the object with OpenAIEmbeddings(..., check_embedding_ctx_length=False), or "
            f"give the model's name. ({detail})"
        )
    if isinstance(error, RuntimeError) and _OTHER_LOOP.search(str(error)):
        return LLMError(
            f"{agent}: the HTTP client of {name} belongs to an event loop on which code of yours awaits the model. "
            f"Give NeuronScope a model object, or a client, that is asked nowhere else. ({detail})"
        )
    if is_filter(error):
        return LLMError(
            f"{agent}: the content filter of {name}'s provider refuses the request. Change the filter's settings where "
            f"the provider has any, use text without what it objects to, or another model. ({detail})"
        )
    if status == 407:
        return LLMError(f"{agent}: {name} cannot be reached (HTTP {status}).{by_proxy} ({detail})")
    if status in (401, 403):
        return LLMError(
            f"{agent}: {name} refuses the API key (HTTP {status}). Check the provider's key variable, "
            f"such as OPENAI_API_KEY, or use {otherwise}.{by_proxy}"
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
            f"server answers one request after the other.{by_proxy} ({detail})"
        )
    if status is None and is_connection_failure(error):
        return LLMError(
            f"{agent}: {name} cannot be reached ({type(error).__name__}). Check the network, and that the server runs "
            f"where OPENAI_BASE_URL or `base_url` points, or use {otherwise}.{by_proxy}"
        )
    if status is not None and status >= 500:
        return LLMError(f"{agent}: {name} is out of order (HTTP {status}). Try again later.{by_proxy} ({detail})")
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
    """The HTTP status behind a provider's exception, wherever the provider's client keeps it.

    An error in an answer whose own status says that all is well has the status that it means.
    """
    inner = answered_error(error)
    if inner is not None:
        return _meant_status(inner)
    for holder in (error, getattr(error, "response", None)):
        status = getattr(holder, "status_code", None)
        if isinstance(status, int) and status >= 400:
            return status
    return None


def answered_error(error: BaseException) -> dict[str, Any] | None:
    """The error that an answer with HTTP status 200 has in place of a message, as gateways give it."""
    if isinstance(error, CleanedError) and error.came_as_answer:
        return {"message": str(error), "code": error.status_code}
    if isinstance(error, ValueError) and error.args and isinstance(error.args[0], dict):  # LangChain's
        return error.args[0]
    response = getattr(error, "response", None)
    if getattr(response, "status_code", None) != 200:
        return None
    try:
        body = response.json()  # type: ignore[union-attr]  # it has a status
    except Exception:  # noqa: BLE001 - of whichever client: it is no JSON, or has not been read
        return None
    inner = body.get("error") if isinstance(body, dict) else None
    return {"message": inner} if isinstance(inner, str) else inner if isinstance(inner, dict) else None


def is_passing(error: BaseException) -> bool:
    """Whether an error that came in place of an answer is one after which the same may be asked again."""
    status = None if answered_error(error) is None else http_status(error)
    return status is not None and (status in (408, 409, 425, 429) or status >= 500)


def is_filter(error: BaseException) -> bool:
    """Whether the provider's filter of contents refuses the request, or has stopped the answer."""
    named = any("ContentFilter" in kind.__name__ for kind in type(error).__mro__)
    return named or (http_status(error) in (None, 400, 403, 451) and _FILTER.search(_said(error)) is not None)


def _meant_status(inner: dict[str, Any]) -> int | None:
    for name in ("code", "status", "status_code", "type"):
        value = inner.get(name)
        if isinstance(value, str) and value.isdecimal():
            value = int(value[:9])
        if isinstance(value, int) and not isinstance(value, bool) and 400 <= value < 600:
            return value
        if isinstance(value, str) and value.lower() in _STATUS_OF:
            return _STATUS_OF[value.lower()]
    return None


def _said(error: BaseException) -> str:
    """A provider's own words."""
    inner = answered_error(error)
    return str(error) if inner is None else str(inner.get("message") or inner)


def is_connection_failure(error: BaseException) -> bool:
    """Whether the provider could not be reached, or did not answer in time."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, OSError) or any("Connect" in name for name in names) or is_timeout(error)


def is_timeout(error: BaseException) -> bool:
    """Whether the provider did not answer in time."""
    return any("Timeout" in kind.__name__ for kind in type(error).__mro__)


class CleanedError(Exception):
    """A provider's error without the keys that it repeats, and without the provider's own exception behind it."""

    def __init__(self, error: Exception, model: Any) -> None:
        super().__init__(f"{type(error).__name__}: {redacted(_said(error), model)}")
        self.status_code = http_status(error)
        self.completion = getattr(error, "completion", None)
        """The answer, where the error says that it has no end."""
        self.came_as_answer = answered_error(error) is not None
        """Whether it came with HTTP status 200."""


def cleaned(error: Exception, model: Any) -> Exception:
    """The error itself, unless it or one behind it repeats a key."""
    if _is_clean(error, model):
        return error
    return CleanedError(error, model)


def harmless(error: Exception, model: Any) -> Exception | None:
    """The cause to chain to: none where the provider's own words, or those behind them, may repeat a key."""
    if http_status(error) in (401, 403):
        return None
    return error if _is_clean(error, model) else None


def _is_clean(error: Exception, model: Any) -> bool:
    link: BaseException | None = error
    while link is not None:
        if _without_secrets(text := str(link), model) != text:
            return False
        link = link.__cause__ or link.__context__
    return True


def redacted(text: str, model: Any = None) -> str:
    """A provider's words on one line, shortened, with every key that we know or recognise replaced by `***`."""
    text = " ".join(_without_secrets(text, model).split())
    return text if len(text) <= 300 else text[:300] + "…"


def _without_secrets(text: str, model: Any) -> str:
    secrets = [secret for secret in _secrets(model) if len(secret) >= _SHORTEST_SECRET]
    logins = [login for login in _logins(model) if len(login) >= _SHORTEST_PASSWORD]
    for secret in sorted({*secrets, *logins}, key=len, reverse=True):
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
            yield from (header.rpartition(" ")[2] for header in value.values() if isinstance(header, str))


def _logins(model: Any) -> Iterator[str]:
    """The logins in a model's addresses and headers, their passwords, and both as HTTP sends them."""
    fields = getattr(model, "__dict__", {})
    headers = fields.get("default_headers")
    texts = [address_of(model), *(value for value in fields.values() if isinstance(value, str))]
    texts += [value for value in headers.values() if isinstance(value, str)] if isinstance(headers, dict) else []
    for text in texts:
        for user, password in _logins_in(text):
            yield from (f"{user}:{password}", basic(user, password).rstrip("="), quote(password, safe=""), password)
            yield from () if password else (user,)


def _logins_in(text: str) -> set[tuple[str, str]]:
    in_address, header = _LOGIN_IN_ADDRESS.search(text), _BASIC.fullmatch(text)
    if in_address:
        user, _, password = in_address[0].partition(":")
        return {(user, password), (unquote(user), unquote(password))}
    try:
        user, _, password = base64.b64decode(header[1]).decode().partition(":") if header else ("", "", "")
    except ValueError:  # no such header after all
        return set()
    return {(user, password)} if user else set()
