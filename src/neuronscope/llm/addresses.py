"""Where models are asked: the address in a model object, whether that is this computer, and the proxy on the way."""

from __future__ import annotations

import base64
import ipaddress
import os
import re
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

OPENAI_HOST = "api.openai.com"

KEYLESS = "none"
"""What servers of one's own get for a key where the environment has none."""

_AT_ADDRESS = re.compile(r"(?P<name>.+?)@(?P<address>https?://\S+)", re.DOTALL)


def at_address(name: str) -> tuple[str, str]:
    """A model's name without the address after its @, and that address, else nothing."""
    found = _AT_ADDRESS.fullmatch(name)
    return (name, "") if found is None else (found["name"], found["address"])


def address_of(llm: Any) -> str:
    """The address that a model is asked at, as far as it says so, else nothing."""
    for holder, attribute in (
        (getattr(llm, "root_client", None), "base_url"),  # OpenAI's client has also read the environment
        (llm, "openai_api_base"),
        (llm, "base_url"),
        (llm, "anthropic_api_url"),
    ):
        address = getattr(holder, attribute, None)
        if address:
            return str(address)
    return ""


def own_server() -> str:
    """The address of a server of one's own that the environment names for OpenAI's protocol, else nothing."""
    address = os.environ.get("OPENAI_BASE_URL") or os.environ.get("OPENAI_API_BASE") or ""
    return "" if _host(address) == OPENAI_HOST else address


def is_here(address: str) -> bool:
    """Whether an address is one of this computer's own."""
    host = _host(address)
    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return number.is_loopback or number.is_unspecified


def port_of(address: str) -> int:
    """The port that an address means; 0 if it is none."""
    try:
        return urlsplit(address).port or (443 if address.startswith("https") else 80)
    except ValueError:
        return 0


def proxy_to(llm: Any) -> str:
    """The proxy of the environment that a model's requests go through, else nothing.

    Nothing also where the model has HTTP clients of its own, as those have that `connection_to` makes.
    """
    address = address_of(llm)
    given = (getattr(llm, name, None) for name in ("http_client", "http_async_client"))
    if not address or any(client is not None for client in given):
        return ""
    parts, proxies = urlsplit(address), getproxies()
    if not parts.hostname or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return ""
    return proxies.get(parts.scheme) or proxies.get("all") or ""


def connection_to(address: str) -> dict[str, Any]:
    """What LangChain's classes for OpenAI's protocol are made with, so that they talk to a server of one's own.

    A login in the address becomes a header, since addresses are written to logs. A server on this computer is not
    asked through the environment's proxy: one on another computer would look for the server there.
    """
    parts = urlsplit(address)
    login, _, place = parts.netloc.rpartition("@")
    made: dict[str, Any] = {"base_url": parts._replace(netloc=place).geturl()}
    if login:
        user, _, password = login.partition(":")
        made["default_headers"] = {"Authorization": f"Basic {basic(unquote(user), unquote(password))}"}
    if is_here(address) and not os.environ.get("OPENAI_PROXY"):
        from openai import DefaultAsyncHttpxClient, DefaultHttpxClient

        host = _host(address)
        mounts: Any = {f"all://[{host}]" if ":" in host else f"all://{host}": None}
        made["http_client"] = DefaultHttpxClient(mounts=mounts)
        made["http_async_client"] = DefaultAsyncHttpxClient(mounts=mounts)
    return made


def basic(user: str, password: str) -> str:
    """A login as HTTP sends it."""
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def _host(address: str) -> str:
    try:
        return (urlsplit(address).hostname or "").lower()
    except ValueError:
        return ""
