"""From what a user writes to chat models: names, addresses, files, objects, and one of these per agent."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, overload
from urllib.parse import urlsplit

from neuronscope.arguments import did_you_mean
from neuronscope.errors import ConfigurationError, LLMError, described
from neuronscope.llm.addresses import (
    KEYLESS,
    address_of,
    at_address,
    is_here,
    own_server,
    port_of,
    proxy_to,
)
from neuronscope.llm.backends import MAX_RETRIES
from neuronscope.llm.failures import redacted

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from neuronscope.llm.types import AnyLLM

ROLES = ("hypothesis", "decomposition", "refinement")
"""The agents that ask a language model, by the names that a mapping of models uses."""

OTHER_ROLES = ("simulator", "judge")
"""What else may have a model of its own in a mapping."""

DEFAULT_ROLE = "default"
"""The key of a mapping whose model is that of every agent which the mapping does not name."""

DEFAULT_MODEL = "openai:gpt-4o"
"""What `"auto"` means where an OpenAI key is set: the paper's model (appendix B)."""

BATCH = "batch:"
"""What stands before the name of a model that is asked in batches."""

_PROVIDERS = ("anthropic", "deepseek", "google_genai", "groq", "llamacpp", "mistralai", "ollama", "openai", "xai")
"""Those whose names are corrected; LangChain knows more."""


@dataclass(frozen=True, slots=True)
class _Settings:
    """How models that are made from a name are asked."""

    temperature: float | None = None
    base_url: str | None = None
    timeout: float | None = None

    def as_arguments(self) -> dict[str, Any]:
        """LangChain's standard parameters; what is None is left to the provider."""
        given = {"temperature": self.temperature, "timeout": self.timeout}
        return {"max_retries": MAX_RETRIES} | {name: value for name, value in given.items() if value is not None}


@overload
def resolve_llm(
    llm: str | BaseChatModel,
    *,
    temperature: float | None = None,
    base_url: str | None = None,
    timeout: float | None = None,
) -> AnyLLM: ...
@overload
def resolve_llm(
    llm: Mapping[str, str | BaseChatModel],
    *,
    temperature: float | None = None,
    base_url: str | None = None,
    timeout: float | None = None,
) -> dict[str, AnyLLM]: ...
def resolve_llm(
    llm: str | BaseChatModel | Mapping[str, str | BaseChatModel],
    *,
    temperature: float | None = None,
    base_url: str | None = None,
    timeout: float | None = None,
) -> AnyLLM | dict[str, AnyLLM]:
    """Turn what a user writes into chat models.

    Args:
        llm: one of

            - `"auto"`: OpenAI's GPT-4o if `OPENAI_API_KEY` is set, else `"offline"`, with one line on stderr to say so;
            - `"offline"`: the built-in roles that need no model;
            - any string that LangChain's `init_chat_model` knows, such as `"anthropic:claude-sonnet-4-5"`;
            - `"openai:<model>@http://127.0.0.1:8080/v1"`: a server that speaks OpenAI's protocol, at this address;
            - `"batch:openai:gpt-4o"`: one of these, asked in batches, at half the price and within 24 hours
              (`docs/backends.md`);
            - `"llamacpp:/path/model.gguf"`: a file, run in this process (extra `[local]`);
            - a chat model object, used as it is;
            - a mapping to any of these from agents ("hypothesis", "decomposition", "refinement", also "simulator" and
              "judge"); "default" is the model of the agents that the mapping leaves out.
        temperature: sampling temperature of models made from a string.
        base_url: address of a server that speaks OpenAI's protocol, for models that are written `"openai:<model>"` or
            just `"<model>"`; `OPENAI_BASE_URL` does the same. The server gets the key in `OPENAI_API_KEY`, if any.
        timeout: seconds after which a request of models made from a string counts as failed, and is repeated.

    Returns:
        One model, or one for each of the three agents and for what else the mapping names.

    Raises:
        ConfigurationError: not a model at all, a mapping that names no agent or leaves one out, or an address that is
            none or that no model uses.
        LLMError: the provider's package or key is missing, the provider is unknown, or the file cannot be run.
    """
    _check_address(base_url, llm)
    settings = _Settings(temperature, base_url, timeout)
    if not isinstance(llm, Mapping):
        return _resolve_one(llm, settings)
    named = _per_role(llm)
    strings = {one: _resolve_one(one, settings) for one in named.values() if isinstance(one, str)}
    return {role: strings[one] if isinstance(one, str) else _resolve_one(one, settings) for role, one in named.items()}


def check_reachable(llm: AnyLLM | Mapping[str, AnyLLM]) -> None:
    """Make sure that servers on this computer, and proxies on the way, are there: else minutes of work end at them.

    Raises:
        LLMError: nothing listens at a model's address, or at that of the proxy its requests go through.
    """
    models = llm.values() if isinstance(llm, Mapping) else [llm]
    for proxy, address in sorted({(proxy_to(model), address_of(model)) for model in models}):
        if proxy and (problem := _problem_at(proxy if "://" in proxy else f"http://{proxy}")):
            raise LLMError(
                f"No proxy answers at {redacted(proxy)} ({problem}), through which the environment (HTTP_PROXY, "
                f"HTTPS_PROXY, ALL_PROXY) sends requests to {redacted(address)}. Correct it, or name the server's host "
                "in NO_PROXY."
            )
        if is_here(address) and not proxy and (problem := _problem_at(address)):
            raise LLMError(
                f"No server listens at {redacted(address)} ({problem}). Start it, or correct the "
                "address in `base_url`, in OPENAI_BASE_URL, or after the @ in the model's name."
            )


def _problem_at(address: str) -> str:
    """Why nobody can be reached at an address; nothing if somebody can."""
    try:
        socket.create_connection((urlsplit(address).hostname, port_of(address)), timeout=5).close()
    except OSError as error:
        return str(error.strerror or error)
    return ""


def _per_role(llm: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping with its default written out: every agent by name, and what else the mapping names."""
    known = (*ROLES, *OTHER_ROLES, DEFAULT_ROLE)
    unknown = sorted(str(role) for role in llm if role not in known)
    if unknown:
        raise ConfigurationError(
            f"No agent is called {unknown[0]!r}.{did_you_mean(unknown[0], known)} A mapping of models names "
            f"{_listed(known)}."
        )
    missing = [role for role in ROLES if role not in llm]
    if missing and DEFAULT_ROLE not in llm:
        raise ConfigurationError(
            f"The mapping of models has none for {_listed(missing)}: add the agent, or the key {DEFAULT_ROLE!r} for "
            'all agents that it does not name. ("offline" works without a model.)'
        )
    others = [role for role in OTHER_ROLES if role in llm]
    return {role: llm[role] if role in llm else llm[DEFAULT_ROLE] for role in (*ROLES, *others)}


def _check_address(base_url: str | None, llm: Any) -> None:
    if base_url is None:
        return
    if not re.match(r"https?://[^\s/]", base_url):
        raise ConfigurationError(
            f"base_url is {redacted(base_url)!r}: expected an address such as http://127.0.0.1:8080/v1."
        )
    models = list(llm.values()) if isinstance(llm, Mapping) else [llm]
    if not any(isinstance(one, str) and _takes_address(one) for one in models):
        raise ConfigurationError(
            "base_url is given, but no model uses it. It is for models that are written as a name, such as "
            'llm="openai:<the server\'s name of the model>"; many servers accept any name.'
        )


def _takes_address(name: str) -> bool:
    """Whether a name means a model of OpenAI's protocol at no particular address."""
    name = name.removeprefix(BATCH)
    if name in ("auto", "offline") or at_address(name)[1]:
        return False
    return name.startswith("openai:") or ":" not in name


def _resolve_one(llm: Any, settings: _Settings) -> AnyLLM:
    from langchain_core.language_models import BaseChatModel

    if isinstance(llm, BaseChatModel):
        return llm
    if not isinstance(llm, str) or not llm:
        raise ConfigurationError(
            f"llm is {described(llm)}: expected a name such as {DEFAULT_MODEL!r}, a LangChain chat model itself (not "
            'what its .bind(), .with_retry() and the like return, nor a chain with it), or "offline".'
        )
    if llm == "offline":
        return "offline"
    if llm == "auto":
        if os.environ.get("OPENAI_API_KEY"):
            return _initialise(DEFAULT_MODEL, None, settings)
        say_offline()
        return "offline"
    if llm.startswith("llamacpp:"):
        from neuronscope.llm.local import chat_llamacpp

        return chat_llamacpp(llm.removeprefix("llamacpp:"), **settings.as_arguments())
    name, address = at_address(llm)
    if name.startswith(BATCH) and name.removeprefix(BATCH).partition(":")[0] != "openai":
        raise ConfigurationError(
            f"{llm} cannot be asked in batches, which are for models that OpenAI's protocol is spoken to: "
            f'"{BATCH}{DEFAULT_MODEL}". Leave {BATCH!r} out for other models.'
        )
    if address:
        return _initialise(name, address, settings)
    return _initialise(llm, settings.base_url if _takes_address(llm) else None, settings)


def _initialise(name: str, address: str | None, settings: _Settings) -> BaseChatModel:
    from langchain.chat_models import init_chat_model

    arguments = settings.as_arguments()
    if address is not None:
        name = name if ":" in name else f"openai:{name}"
    in_batches, name = name.startswith(BATCH), name.removeprefix(BATCH)
    provider = name.partition(":")[0] if ":" in name else ""
    server = (address or own_server()) if provider == "openai" else ""
    if address and not server:
        arguments["base_url"] = address
    if server and not os.environ.get("OPENAI_API_KEY"):
        arguments["api_key"] = KEYLESS
    failure: LLMError
    try:
        if in_batches:
            from neuronscope.llm.batched_chat import BatchedChat

            made = BatchedChat.at(server, **arguments, model=name.partition(":")[2]) if server else None
            return made or BatchedChat(**arguments, model=name.partition(":")[2])
        if server:
            from neuronscope.llm.servers import ChatServer

            return ChatServer.at(server, model=name.partition(":")[2], **arguments)
        model: BaseChatModel = init_chat_model(name, **arguments)
    except ImportError as error:
        failure = LLMError(f"{name} needs a package that is not installed. {redacted(str(error))}")
    except Exception as error:  # noqa: BLE001 - every provider raises kinds of its own
        variable = f"{provider.upper()}_API_KEY" if provider.isidentifier() else "OPENAI_API_KEY"
        failure = LLMError(
            f'{name} cannot be used.{_nearest(name)} {redacted(str(error))} (Names look like "{DEFAULT_MODEL}"; a '
            f'provider\'s key is in a variable such as {variable}; "offline" needs neither.)'
        )
    else:
        return model
    raise failure


def _nearest(name: str) -> str:
    """What a name that no provider knows may have meant."""
    provider, colon, _ = name.partition(":")
    if colon and provider in _PROVIDERS:
        return ""
    return did_you_mean(provider, _PROVIDERS) if colon else did_you_mean(name, ("auto", "offline"))


@cache
def say_offline() -> None:
    """Once per process: the user did not ask for the offline roles by name."""
    from rich.console import Console

    Console(stderr=True).print(
        f'No OPENAI_API_KEY is set: working offline, without a language model (llm="{DEFAULT_MODEL}" would use one).',
        soft_wrap=True,
        highlight=False,
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)
