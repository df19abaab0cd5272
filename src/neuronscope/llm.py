"""Language models for the agents: from a name or an object to a LangChain chat model, and one way to ask it."""

from __future__ import annotations

import os
import re
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypedDict, overload

from neuronscope.errors import ConfigurationError, LLMError

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel, LanguageModelInput
    from langchain_core.messages import AIMessage, BaseMessage
    from langchain_core.runnables import Runnable

    from neuronscope.state import AnyLLM

ROLES = ("hypothesis", "decomposition", "refinement")
"""The agents that ask a language model, by the names that a mapping of models may use."""

DEFAULT_MODEL = "openai:gpt-4o"
"""What `"auto"` means where an OpenAI key is set: the paper's model (appendix B)."""

MAX_RETRIES = 4
"""How often a provider's client repeats a request that failed for a passing reason."""

_KEYLESS = "none"
_SECRET = re.compile(r"\b(?:sk|pk|key|Bearer)[-_ ][A-Za-z0-9_\-]{6,}")


@overload
def resolve_llm(llm: str | BaseChatModel, *, temperature: float | None = None) -> AnyLLM: ...
@overload
def resolve_llm(llm: Mapping[str, str | BaseChatModel], *, temperature: float | None = None) -> dict[str, AnyLLM]: ...
def resolve_llm(
    llm: str | BaseChatModel | Mapping[str, str | BaseChatModel], *, temperature: float | None = None
) -> AnyLLM | dict[str, AnyLLM]:
    """Turn what a user writes into chat models.

    A server that speaks OpenAI's protocol (llama.cpp, vLLM, LM Studio, Ollama) needs nothing special: set
    `OPENAI_BASE_URL` to its address, such as `http://127.0.0.1:8080/v1`, and pass `"openai:<the server's model name>"`;
    a key is then optional. Or build the object: `ChatOpenAI(model="local", base_url=..., api_key="none")`.

    Args:
        llm: `"auto"` (OpenAI's GPT-4o if `OPENAI_API_KEY` is set, else `"offline"` with one line on stderr that says
            so); `"offline"`, the built-in roles that need no model; any string that LangChain's `init_chat_model`
            knows; a chat model object, used as it is; or a mapping from agent ("hypothesis", "decomposition",
            "refinement") to any of these.
        temperature: sampling temperature of models made from a string.

    Raises:
        ConfigurationError: not a model at all, or a mapping with the name of no agent.
        LLMError: the provider's package or key is missing, or the provider is unknown.
    """
    if isinstance(llm, Mapping):
        unknown = sorted(set(llm) - set(ROLES))
        if unknown:
            raise ConfigurationError(f"No agent is called {unknown[0]!r}: a mapping of models names {_listed(ROLES)}.")
        return {role: _resolve_one(one, temperature) for role, one in llm.items()}
    return _resolve_one(llm, temperature)


async def ask(
    llm: BaseChatModel,
    messages: Sequence[BaseMessage],
    agent: str,
    *,
    schema: dict[str, Any] | None = None,
    meter: Any = None,
) -> AIMessage:
    """Send one request and return the model's message.

    Args:
        llm: the model.
        messages: the prompt.
        agent: who asks, for the meter and for errors.
        schema: a JSON schema (with a title) that the answer should follow, where the model can be held to one. A model
            or server that cannot is asked again without it, so an answer is free text until it has been parsed.
        meter: an object with `record(agent, message)`, or None.

    Raises:
        LLMError: the model cannot be reached or refuses the request; the message never contains a key.
    """
    message = None if schema is None else await _ask_by_schema(llm, messages, schema, agent)
    if message is None:
        try:
            message = await llm.ainvoke(list(messages))
        except Exception as error:  # noqa: BLE001 - every provider raises kinds of its own
            raise request_failure(error, llm, agent) from _harmless(error)
    if meter is not None:
        meter.record(agent, message)
    return message


def ask_blocking(
    llm: BaseChatModel,
    messages: Sequence[BaseMessage],
    agent: str,
    *,
    schema: dict[str, Any] | None = None,
    meter: Any = None,
) -> AIMessage:
    """`ask` for worker threads: it waits, and touches no event loop.

    A model's asynchronous client belongs to the loop that used it first, its synchronous one to nobody: so code that
    runs beside a graph in a thread asks this way, whichever loop the graph runs on.
    """
    structured = None if schema is None else _held_to(llm, schema)
    message = None
    if structured is not None:
        try:
            message = _raw(structured.invoke(list(messages)))
        except Exception as error:  # noqa: BLE001 - every provider raises kinds of its own
            _raise_unless_by_schema(error, llm, agent)
    if message is None:
        try:
            message = llm.invoke(list(messages))
        except Exception as error:  # noqa: BLE001 - every provider raises kinds of its own
            raise request_failure(error, llm, agent) from _harmless(error)
    if meter is not None:
        meter.record(agent, message)
    return message


def request_failure(error: Exception, model: Any, agent: str) -> LLMError:
    """Say what went wrong with a request, and what to do, without the keys that providers like to echo."""
    name = model_name(model)
    status = _status(error)
    detail = _redacted(str(error), model)
    if status in (401, 403):
        return LLMError(
            f"{agent}: {name} refuses the API key (HTTP {status}). Check the provider's key variable, "
            'such as OPENAI_API_KEY, or use llm="offline".'
        )
    if status == 404:
        return LLMError(f"{agent}: there is no model {name} at this address. Check the model's name. ({detail})")
    if status == 429:
        return LLMError(
            f"{agent}: {name} reports a rate limit or an empty quota. Try later or less at once. ({detail})"
        )
    if status is None and _is_connection_failure(error):
        return LLMError(
            f"{agent}: {name} cannot be reached ({type(error).__name__}). Check the network, and that the server runs "
            'where OPENAI_BASE_URL or `base_url` points, or use llm="offline".'
        )
    return LLMError(f"{agent}: the request to {name} failed ({type(error).__name__}): {detail}")


def model_name(model: Any) -> str:
    """What to call a model in messages and in a result's provenance."""
    for attribute in ("model_name", "model", "_llm_type"):
        name = getattr(model, attribute, None)
        if isinstance(name, str) and name:
            return name
    return type(model).__name__


class LLMUsage(TypedDict):
    """The parts of `result.Usage` that a meter knows."""

    requests: dict[str, int]
    input_tokens: dict[str, int]
    output_tokens: dict[str, int]


class Meter:
    """Counts requests and tokens per agent; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[str] = Counter()
        self._input_tokens: Counter[str] = Counter()
        self._output_tokens: Counter[str] = Counter()

    def record(self, agent: str, message: AIMessage) -> None:
        """Count one answer; tokens only where the provider reports them."""
        usage = message.usage_metadata
        with self._lock:
            self._requests[agent] += 1
            if usage is not None:
                self._input_tokens[agent] += usage["input_tokens"]
                self._output_tokens[agent] += usage["output_tokens"]

    def usage(self) -> LLMUsage:
        """What has been counted so far: `Usage(**meter.usage(), simulated_tokens=..., seconds=...)`."""
        with self._lock:
            return LLMUsage(
                requests=dict(self._requests),
                input_tokens=dict(self._input_tokens),
                output_tokens=dict(self._output_tokens),
            )


def _resolve_one(llm: Any, temperature: float | None) -> AnyLLM:
    from langchain_core.language_models import BaseChatModel

    if isinstance(llm, BaseChatModel):
        return llm
    if not isinstance(llm, str) or not llm:
        raise ConfigurationError(
            f'llm is {llm!r}: expected a name such as {DEFAULT_MODEL!r}, a LangChain chat model, or "offline".'
        )
    if llm == "auto":
        if os.environ.get("OPENAI_API_KEY"):
            return _initialise(DEFAULT_MODEL, temperature)
        _say_offline()
        return "offline"
    return "offline" if llm == "offline" else _initialise(llm, temperature)


def _initialise(name: str, temperature: float | None) -> BaseChatModel:
    from langchain.chat_models import init_chat_model

    settings: dict[str, Any] = {"max_retries": MAX_RETRIES}
    if temperature is not None:
        settings["temperature"] = temperature
    if name.startswith("openai:") and _own_server() and not os.environ.get("OPENAI_API_KEY"):
        settings["api_key"] = _KEYLESS
    try:
        model: BaseChatModel = init_chat_model(name, **settings)
    except ImportError as error:
        raise LLMError(f"{name} needs a package that is not installed. {_redacted(str(error), None)}") from error
    except Exception as error:
        raise LLMError(
            f"{name} cannot be used: {_redacted(str(error), None)} "
            '(Names look like "openai:gpt-4o"; a provider\'s key is in a variable such as OPENAI_API_KEY; '
            '"offline" needs neither.)'
        ) from error
    return model


def _own_server() -> bool:
    return bool(os.environ.get("OPENAI_BASE_URL") or os.environ.get("OPENAI_API_BASE"))


@cache
def _say_offline() -> None:
    """Once per process: the user did not ask for the offline roles by name."""
    from rich.console import Console

    Console(stderr=True).print(
        f'No OPENAI_API_KEY is set: working offline, without a language model (llm="{DEFAULT_MODEL}" would use one).',
        soft_wrap=True,
        highlight=False,
    )


async def _ask_by_schema(
    llm: BaseChatModel, messages: Sequence[BaseMessage], schema: dict[str, Any], agent: str
) -> AIMessage | None:
    """The answer of a model that was held to a schema; None if it cannot be."""
    structured = _held_to(llm, schema)
    if structured is None:
        return None
    try:
        return _raw(await structured.ainvoke(list(messages)))
    except Exception as error:  # noqa: BLE001 - every provider raises kinds of its own
        _raise_unless_by_schema(error, llm, agent)
        return None


def _held_to(llm: BaseChatModel, schema: dict[str, Any]) -> Runnable[LanguageModelInput, Any] | None:
    """The model, held to a schema; None if it cannot be."""
    try:
        return llm.with_structured_output(schema, method="json_schema", include_raw=True)
    except (NotImplementedError, TypeError, ValueError):
        return None


def _raw(answer: dict[str, Any]) -> AIMessage:
    message: AIMessage = answer["raw"]
    return message


def _raise_unless_by_schema(error: Exception, llm: BaseChatModel, agent: str) -> None:
    """Raise what would happen without a schema too; the rest is passed over.

    That is, for example, a server without schemas, or an answer cut off at the length limit.
    """
    if _status(error) in (401, 403, 404, 429) or _is_connection_failure(error):
        raise request_failure(error, llm, agent) from _harmless(error)


def _status(error: Exception) -> int | None:
    """The HTTP status behind a provider's exception, wherever the provider's client keeps it."""
    for holder in (error, getattr(error, "response", None)):
        status = getattr(holder, "status_code", None)
        if isinstance(status, int):
            return status
    return None


def _is_connection_failure(error: Exception) -> bool:
    names = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, OSError) or any("Connect" in name or "Timeout" in name for name in names)


def _harmless(error: Exception) -> Exception | None:
    """The cause to chain to: none where the provider's own words may repeat the key."""
    return None if _status(error) in (401, 403) else error


def _redacted(text: str, model: Any) -> str:
    secrets = [value for name, value in os.environ.items() if name.endswith(("_KEY", "_TOKEN", "_SECRET"))]
    for value in getattr(model, "__dict__", {}).values():
        reveal = getattr(value, "get_secret_value", None)
        if reveal is not None and isinstance(revealed := reveal(), str):
            secrets.append(revealed)
    for secret in secrets:
        if len(secret) >= 8:
            text = text.replace(secret, "***")
    text = " ".join(_SECRET.sub("***", text).split())
    return text if len(text) <= 300 else text[:300] + "…"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)
