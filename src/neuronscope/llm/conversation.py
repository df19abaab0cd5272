"""What is said to a model until it has answered: requests as values, made elsewhere from loops and threads alike."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from neuronscope.answers import is_cut_off
from neuronscope.llm.backends import backend_of
from neuronscope.llm.failures import harmless, http_status, is_connection_failure, request_failure
from neuronscope.llm.meter import Meter

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel, LanguageModelInput
    from langchain_core.messages import AIMessage, BaseMessage
    from langchain_core.outputs import LLMResult
    from langchain_core.runnables import Runnable, RunnableConfig

Messages = Sequence["BaseMessage"]
Conversation = Generator["Call", "Outcome", "list[AIMessage]"]
"""Yields requests, is sent what came of them, and returns the answers."""
Bind = Callable[["BaseChatModel"], "Runnable[LanguageModelInput, Any]"]
"""Holds a model to a schema, or to calling a tool."""

unable: set[tuple[str, str]] = set()
"""What backends cannot do, as this process has found out: ("schema", "tools", "n" or "temperature", backend)."""

LONGEST_CALL = 512
"""Tokens of an answer that should call a tool: small models that say something else in its place may find no end."""

_UNSUPPORTED = (400, 415, 422, 501)
"""With these a server says that it does not know a part of the request."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked, of whom, and by whom."""

    llm: BaseChatModel
    messages: Messages
    agent: str
    schema: dict[str, Any] | None = None
    tools: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a request: messages, or what the provider's client raised."""

    messages: list[AIMessage]
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One request, which can be made from an event loop or from a thread."""

    prompt: Prompt
    bound: Runnable[LanguageModelInput, Any] | None
    """The model held to a schema, or to calling a tool."""
    n: int

    @classmethod
    def of(cls, prompt: Prompt, bind: Bind | None, n: int) -> Call:
        """The request, to the model as far as it can do what is asked."""
        llm = prompt.llm
        if ("temperature", backend_of(llm)) in unable:
            llm = llm.model_copy(update={"temperature": None})
        return cls(replace(prompt, llm=llm), None if bind is None else bind(llm), n)

    async def amake(self) -> Outcome:
        """Make it, awaiting the answer."""
        prompt, messages = self.prompt, list(self.prompt.messages)
        try:
            if self.bound is not None:
                return Outcome([_message(await self.bound.ainvoke(messages, self._config()))])
            if self.n == 1:
                return Outcome([await prompt.llm.ainvoke(messages, self._config())])
            return Outcome(_choices(await prompt.llm.agenerate([messages], n=self.n, **self._inherited())))
        except Exception as error:  # noqa: BLE001 - every provider raises kinds of its own
            return Outcome([], error)

    def make(self) -> Outcome:
        """Make it, blocking the thread."""
        messages = list(self.prompt.messages)
        try:
            if self.bound is not None:
                return Outcome([_message(self.bound.invoke(messages, self._config()))])
            return Outcome([self.prompt.llm.invoke(messages, self._config())])
        except Exception as error:  # noqa: BLE001 - every provider raises kinds of its own
            return Outcome([], error)

    def _config(self) -> RunnableConfig:
        return {"run_name": self.prompt.agent}

    def _inherited(self) -> dict[str, Any]:
        """What `ainvoke` would take from the graph around it, for traces."""
        from langchain_core.runnables.config import ensure_config

        config = ensure_config(self._config())
        return {name: config.get(name) for name in ("callbacks", "tags", "metadata", "run_name")}


def _asking_part(structured: Runnable[LanguageModelInput, Any]) -> Runnable[LanguageModelInput, Any]:
    """Of a model and the parser behind it the model, where LangChain puts them together as it does for most providers.

    Answers are read elsewhere; in a trace the parser would be nine steps around every request.
    """
    first = getattr(structured, "first", None)
    asking: Runnable[LanguageModelInput, Any] = getattr(first, "steps__", {}).get("raw", structured)
    return asking


def _message(answer: Any) -> AIMessage:
    """The model's own message: LangChain's structured output has it beside what it has parsed."""
    message: AIMessage = answer["raw"] if isinstance(answer, dict) else answer
    return message


def _choices(result: LLMResult) -> list[AIMessage]:
    return [generation.message for generation in result.generations[0]]  # type: ignore[union-attr,misc]  # chat's


def one(prompt: Prompt, meter: Any, sample: int) -> Conversation:
    """One answer: kept from before, or a call of a tool, or held to the schema, or free."""
    kept = _kept(prompt, meter, sample)
    if kept is not None:
        return [kept]
    answer = (yield from _by_tools(prompt, meter)) or (yield from _by_schema(prompt))
    if answer is None:
        outcome = yield from _call(prompt)
        if outcome.error is not None:
            if http_status(outcome.error) in _UNSUPPORTED:  # so it was the prompt, not how it was asked
                backend = backend_of(prompt.llm)
                unable.difference_update({(part, backend) for part in ("schema", "tools", "n")})
            raise request_failure(outcome.error, prompt.llm, prompt.agent) from harmless(outcome.error, prompt.llm)
        (answer,) = outcome.messages
    _record(meter, prompt, [answer], sample)
    return [answer]


def _by_tools(prompt: Prompt, meter: Any) -> Generator[Call, Outcome, AIMessage | None]:
    """The answer of a model that has to call one of the tools; None if it cannot call any.

    What a model says in place of a call is its answer, and it is not asked for calls again. If that has no end it is
    no answer, but has to be paid for.
    """

    def bind(llm: BaseChatModel) -> Runnable[LanguageModelInput, Any]:
        return _limited(llm).bind_tools(prompt.tools, tool_choice="any")

    answer = yield from _bound("tools", prompt, bind)
    if answer is None or answer.tool_calls or answer.invalid_tool_calls:
        return answer
    unable.add(("tools", backend_of(prompt.llm)))
    if is_cut_off(answer):
        _count(meter, prompt, [answer])
        return None
    return answer


def _limited(llm: BaseChatModel) -> BaseChatModel:
    """The model with a limit to the length of its answers, where it has a setting for it, and none yet."""
    unlimited = "max_tokens" in type(llm).model_fields and getattr(llm, "max_tokens", None) is None
    return llm.model_copy(update={"max_tokens": LONGEST_CALL}) if unlimited else llm


def _by_schema(prompt: Prompt) -> Generator[Call, Outcome, AIMessage | None]:
    """The answer of a model that is held to the schema; None if it cannot be."""

    def bind(llm: BaseChatModel) -> Runnable[LanguageModelInput, Any]:
        structured = llm.with_structured_output(prompt.schema or {}, method="json_schema", include_raw=True)
        return _asking_part(structured)

    return (yield from _bound("schema", prompt, bind))


def _bound(part: Literal["schema", "tools"], prompt: Prompt, bind: Bind) -> Generator[Call, Outcome, AIMessage | None]:
    """The answer of a model that is bound to a part of the prompt; None if there is no such part, or it cannot be."""
    backend = backend_of(prompt.llm)
    if not getattr(prompt, part) or (part, backend) in unable:
        return None
    try:
        outcome = yield from _call(prompt, bind)
    except (NotImplementedError, TypeError, ValueError):  # LangChain's integration does not know it
        unable.add((part, backend))
        return None
    if outcome.error is None:
        return outcome.messages[0]
    status = http_status(outcome.error)
    if status in (401, 402, 403, 404, 429, 502, 503, 504) or is_connection_failure(outcome.error):
        raise request_failure(outcome.error, prompt.llm, prompt.agent) from harmless(outcome.error, prompt.llm)
    if status in _UNSUPPORTED:
        unable.add((part, backend))
    return _cut_off(outcome.error)


def _call(prompt: Prompt, bind: Bind | None = None, n: int = 1) -> Generator[Call, Outcome, Outcome]:
    """Make a request; once more without a temperature if the model takes none, as reasoning models do not."""
    outcome = yield Call.of(prompt, bind, n)
    unsuited = outcome.error is not None and http_status(outcome.error) in _UNSUPPORTED
    if unsuited and "temperature" in str(outcome.error) and getattr(prompt.llm, "temperature", None) is not None:
        unable.add(("temperature", backend_of(prompt.llm)))
        outcome = yield Call.of(prompt, bind, n)
    return outcome


def _cut_off(error: Exception) -> AIMessage | None:
    """The answer that a client refuses to give because it ended at the length limit: it has been paid for."""
    from langchain_core.messages import AIMessage
    from langchain_core.messages.ai import UsageMetadata

    completion = getattr(error, "completion", None)
    choices = getattr(completion, "choices", None)
    if not choices or not choices[0].message.content:
        return None
    message = AIMessage(choices[0].message.content, response_metadata={"finish_reason": choices[0].finish_reason})
    usage = getattr(completion, "usage", None)
    if usage is not None:
        message.usage_metadata = UsageMetadata(
            input_tokens=usage.prompt_tokens,
            output_tokens=usage.completion_tokens,
            total_tokens=usage.total_tokens,
        )
    return message


def several(prompt: Prompt, meter: Any, sample: int, n: int) -> Conversation:
    """Up to n answers: those kept from before, then those of one request; none if the backend knows no `n`."""
    kept: list[AIMessage] = []
    while len(kept) < n and (answer := _kept(prompt, meter, sample + len(kept))) is not None:
        kept.append(answer)
    backend, wanted = backend_of(prompt.llm), n - len(kept)
    if wanted < 2 or ("n", backend) in unable or not _knows_n(prompt.llm):
        return kept
    outcome = yield from _call(prompt, n=wanted)
    if outcome.error is not None:
        status = http_status(outcome.error)
        if status in _UNSUPPORTED or isinstance(outcome.error, (TypeError, ValueError)):
            unable.add(("n", backend))
            return kept
        raise request_failure(outcome.error, prompt.llm, prompt.agent) from harmless(outcome.error, prompt.llm)
    if len(outcome.messages) < wanted:
        unable.add(("n", backend))
    answers = outcome.messages[:wanted]
    _record(meter, prompt, answers, sample + len(kept))
    return kept + answers


def _knows_n(llm: BaseChatModel) -> bool:
    return "n" in type(llm).model_fields and not getattr(llm, "streaming", False)


def _kept(prompt: Prompt, meter: Any, sample: int) -> AIMessage | None:
    """An answer of an earlier run."""
    if not isinstance(meter, Meter) or meter.cache is None:
        return None
    answer = meter.cache.find(prompt.llm, prompt.messages, prompt.schema, sample, prompt.tools)
    if answer is not None:
        meter.record_cached(prompt.agent)
    return answer


def _record(meter: Any, prompt: Prompt, answers: list[AIMessage], sample: int) -> None:
    """Count one request and keep its answers."""
    _count(meter, prompt, answers)
    if isinstance(meter, Meter) and meter.cache is not None:
        for number, answer in enumerate(answers, start=sample):
            meter.cache.keep(prompt.llm, prompt.messages, prompt.schema, number, answer, prompt.tools)


def _count(meter: Any, prompt: Prompt, answers: list[AIMessage]) -> None:
    """Count one request."""
    if isinstance(meter, Meter):
        meter.record(prompt.agent, answers[0], llm=prompt.llm, answers=len(answers))
    elif meter is not None:
        meter.record(prompt.agent, answers[0])
