"""One way to ask a model: from the cache or held to a schema where that can be, counted, limited, and without keys."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from neuronscope.errors import LLMError
from neuronscope.llm.backends import backend_of
from neuronscope.llm.failures import harmless, http_status, is_connection_failure, request_failure
from neuronscope.llm.meter import Meter

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel, LanguageModelInput
    from langchain_core.messages import AIMessage, BaseMessage
    from langchain_core.outputs import LLMResult
    from langchain_core.runnables import Runnable, RunnableConfig

Messages = Sequence["BaseMessage"]
Conversation = Generator["_Call", "_Outcome", "list[AIMessage]"]

_unable: set[tuple[str, str]] = set()
"""What backends cannot do, as this process has found out: ("schema", "n" or "temperature", backend)."""

_UNSUPPORTED = (400, 415, 422, 501)
"""With these a server says that it does not know a part of the request."""


async def ask(
    llm: BaseChatModel,
    messages: Messages,
    agent: str,
    *,
    schema: dict[str, Any] | None = None,
    meter: Any = None,
    sample: int = 0,
) -> AIMessage:
    """Send one request and return the model's message.

    Args:
        llm: the model.
        messages: the prompt.
        agent: who asks, for the meter and for errors.
        schema: a JSON schema (with a title) that the answer should follow, where the model can be held to one. A model
            or server that cannot is asked again without it, so an answer is free text until it has been parsed.
        meter: what counts the request: a `Meter`, which may also have a budget, limits and a cache of answers; an
            object with `record(agent, message)`; or None.
        sample: which of several independent answers to the same prompt this one is; a cache keeps each.

    Raises:
        LLMError: the model cannot be reached or refuses the request; the message never contains a key.
        BudgetExceededError: the meter's budget is spent.
    """
    (answer,) = await _conduct(_one(_Prompt(llm, messages, agent, schema), meter, sample), meter)
    return answer


async def ask_many(
    llm: BaseChatModel, messages: Messages, agent: str, n: int, *, meter: Any = None, sample: int = 0
) -> list[AIMessage]:
    """Several independent answers to one prompt, for the price of one request where the backend can.

    A server that knows no `n`, or ignores it, is asked as often as it takes.

    Args:
        llm: the model.
        messages: the prompt.
        agent: who asks.
        n: how many answers.
        meter: as for `ask`.
        sample: the number of the first answer; the others count on from there.

    Returns:
        At least one answer; fewer than `n` only if a server that ignores `n` fails in the further requests.

    Raises:
        LLMError: there is no answer at all.
    """
    import asyncio

    prompt = _Prompt(llm, messages, agent)
    answers = await _conduct(_several(prompt, meter, sample, n), meter) if n > 1 else []
    further = [ask(llm, messages, agent, meter=meter, sample=sample + number) for number in range(len(answers), n)]
    outcomes = await asyncio.gather(*further, return_exceptions=True)
    answers += [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    fatal = [error for error in errors if not isinstance(error, LLMError) or not answers]
    if fatal:
        raise fatal[0]
    return answers


def ask_blocking(
    llm: BaseChatModel,
    messages: Messages,
    agent: str,
    *,
    schema: dict[str, Any] | None = None,
    meter: Any = None,
    sample: int = 0,
) -> AIMessage:
    """`ask` for worker threads: it waits, and touches no event loop.

    A model's asynchronous client belongs to the loop that used it first, its synchronous one to nobody: so code that
    runs beside a graph in a thread asks this way, whichever loop the graph runs on.
    """
    (answer,) = _conduct_blocking(_one(_Prompt(llm, messages, agent, schema), meter, sample), meter)
    return answer


@dataclass(frozen=True, slots=True)
class _Prompt:
    """What is asked, of whom, and by whom."""

    llm: BaseChatModel
    messages: Messages
    agent: str
    schema: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of a request: messages, or what the provider's client raised."""

    messages: list[AIMessage]
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class _Call:
    """One request, which can be made from an event loop or from a thread."""

    prompt: _Prompt
    structured: Runnable[LanguageModelInput, Any] | None
    n: int

    @classmethod
    def of(cls, prompt: _Prompt, held_to: dict[str, Any] | None, n: int) -> _Call:
        """The request, to the model as far as it can do what is asked."""
        llm = prompt.llm
        if ("temperature", backend_of(llm)) in _unable:
            llm = llm.model_copy(update={"temperature": None})
        structured = None
        if held_to is not None:
            structured = llm.with_structured_output(held_to, method="json_schema", include_raw=True)
        return cls(replace(prompt, llm=llm), structured, n)

    async def amake(self) -> _Outcome:
        """Make it, awaiting the answer."""
        prompt, messages = self.prompt, list(self.prompt.messages)
        try:
            if self.structured is not None:
                return _Outcome([(await self.structured.ainvoke(messages, self._config()))["raw"]])
            if self.n == 1:
                return _Outcome([await prompt.llm.ainvoke(messages, self._config())])
            return _Outcome(_choices(await prompt.llm.agenerate([messages], n=self.n, **self._inherited())))
        except Exception as error:  # noqa: BLE001 - every provider raises kinds of its own
            return _Outcome([], error)

    def make(self) -> _Outcome:
        """Make it, blocking the thread."""
        messages = list(self.prompt.messages)
        try:
            if self.structured is not None:
                return _Outcome([self.structured.invoke(messages, self._config())["raw"]])
            return _Outcome([self.prompt.llm.invoke(messages, self._config())])
        except Exception as error:  # noqa: BLE001 - every provider raises kinds of its own
            return _Outcome([], error)

    def _config(self) -> RunnableConfig:
        return {"run_name": self.prompt.agent}

    def _inherited(self) -> dict[str, Any]:
        """What `ainvoke` would take from the graph around it, for traces."""
        from langchain_core.runnables.config import ensure_config

        config = ensure_config(self._config())
        return {name: config.get(name) for name in ("callbacks", "tags", "metadata", "run_name")}


def _choices(result: LLMResult) -> list[AIMessage]:
    return [generation.message for generation in result.generations[0]]  # type: ignore[union-attr,misc]  # chat's


def _one(prompt: _Prompt, meter: Any, sample: int) -> Conversation:
    """One answer: kept from before, or held to the schema, or free."""
    kept = _kept(prompt, meter, sample)
    if kept is not None:
        return [kept]
    answer = yield from _by_schema(prompt)
    if answer is None:
        outcome = yield from _call(prompt)
        if outcome.error is not None:
            raise request_failure(outcome.error, prompt.llm, prompt.agent) from harmless(outcome.error, prompt.llm)
        (answer,) = outcome.messages
    _record(meter, prompt, [answer], sample)
    return [answer]


def _by_schema(prompt: _Prompt) -> Generator[_Call, _Outcome, AIMessage | None]:
    """The answer of a model that is held to a schema; None if it cannot be."""
    backend = backend_of(prompt.llm)
    if prompt.schema is None or ("schema", backend) in _unable:
        return None
    try:
        outcome = yield from _call(prompt, held_to=prompt.schema)
    except (NotImplementedError, TypeError, ValueError):  # LangChain's integration knows no schemas
        _unable.add(("schema", backend))
        return None
    if outcome.error is None:
        return outcome.messages[0]
    status = http_status(outcome.error)
    if status in (401, 402, 403, 404, 429, 502, 503, 504) or is_connection_failure(outcome.error):
        raise request_failure(outcome.error, prompt.llm, prompt.agent) from harmless(outcome.error, prompt.llm)
    if status in _UNSUPPORTED:
        _unable.add(("schema", backend))
    return _cut_off(outcome.error)


def _call(prompt: _Prompt, held_to: dict[str, Any] | None = None, n: int = 1) -> Generator[_Call, _Outcome, _Outcome]:
    """Make a request; once more without a temperature if the model takes none, as reasoning models do not."""
    outcome = yield _Call.of(prompt, held_to, n)
    unsuited = outcome.error is not None and http_status(outcome.error) in _UNSUPPORTED
    if unsuited and "temperature" in str(outcome.error) and getattr(prompt.llm, "temperature", None) is not None:
        _unable.add(("temperature", backend_of(prompt.llm)))
        outcome = yield _Call.of(prompt, held_to, n)
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


def _several(prompt: _Prompt, meter: Any, sample: int, n: int) -> Conversation:
    """Up to n answers: those kept from before, then those of one request; none if the backend knows no `n`."""
    kept: list[AIMessage] = []
    while len(kept) < n and (answer := _kept(prompt, meter, sample + len(kept))) is not None:
        kept.append(answer)
    backend, wanted = backend_of(prompt.llm), n - len(kept)
    if wanted < 2 or ("n", backend) in _unable or not _knows_n(prompt.llm):
        return kept
    outcome = yield from _call(prompt, n=wanted)
    if outcome.error is not None:
        status = http_status(outcome.error)
        if status in _UNSUPPORTED or isinstance(outcome.error, (TypeError, ValueError)):
            _unable.add(("n", backend))
            return kept
        raise request_failure(outcome.error, prompt.llm, prompt.agent) from harmless(outcome.error, prompt.llm)
    if len(outcome.messages) < wanted:
        _unable.add(("n", backend))
    answers = outcome.messages[:wanted]
    _record(meter, prompt, answers, sample + len(kept))
    return kept + answers


def _knows_n(llm: BaseChatModel) -> bool:
    return "n" in type(llm).model_fields and not getattr(llm, "streaming", False)


def _kept(prompt: _Prompt, meter: Any, sample: int) -> AIMessage | None:
    """An answer of an earlier run."""
    if not isinstance(meter, Meter) or meter.cache is None:
        return None
    answer = meter.cache.find(prompt.llm, prompt.messages, prompt.schema, sample)
    if answer is not None:
        meter.record_cached(prompt.agent)
    return answer


def _record(meter: Any, prompt: _Prompt, answers: list[AIMessage], sample: int) -> None:
    """Count one request and keep its answers."""
    if not isinstance(meter, Meter):
        if meter is not None:
            meter.record(prompt.agent, answers[0])
        return
    meter.record(prompt.agent, answers[0], llm=prompt.llm, answers=len(answers))
    if meter.cache is not None:
        for number, answer in enumerate(answers, start=sample):
            meter.cache.keep(prompt.llm, prompt.messages, prompt.schema, number, answer)


async def _conduct(conversation: Conversation, meter: Any) -> list[AIMessage]:
    """Make a conversation's requests, each within the meter's limits."""
    try:
        call = next(conversation)
        while True:
            if isinstance(meter, Meter):
                async with meter.gate(call.prompt.llm).apassage():
                    meter.check_budget(call.prompt.agent, call.prompt.llm)
                    outcome = await call.amake()
            else:
                outcome = await call.amake()
            call = conversation.send(outcome)
    except StopIteration as stop:
        answers: list[AIMessage] = stop.value
    return answers


def _conduct_blocking(conversation: Conversation, meter: Any) -> list[AIMessage]:
    try:
        call = next(conversation)
        while True:
            if isinstance(meter, Meter):
                with meter.gate(call.prompt.llm).passage():
                    meter.check_budget(call.prompt.agent, call.prompt.llm)
                    outcome = call.make()
            else:
                outcome = call.make()
            call = conversation.send(outcome)
    except StopIteration as stop:
        answers: list[AIMessage] = stop.value
    return answers
