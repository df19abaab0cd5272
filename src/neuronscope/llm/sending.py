"""One request: built without what the backend does not take, sent in its turn, repeated, and counted as it ends."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import anyio
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.runnables.config import ensure_config, merge_configs

from neuronscope.errors import NeuronScopeError
from neuronscope.llm.backends import MAX_RETRIES, backend_of, on_this_loop
from neuronscope.llm.failures import is_passing
from neuronscope.llm.refusals import PartName, unsupported_by
from neuronscope.llm.usage import UsageTracker

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel, LanguageModelInput
    from langchain_core.runnables import Runnable

Constraint = Literal["tools", "schema"]

LONGEST_CALL = 512
"""Tokens of an answer that should call a tool: small models that say something else in its place may find no end."""

LONGEST_PAUSE = 8.0
"""Seconds between two attempts at most, where an error comes as an answer; the first pause is half a second."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked, of whom, and by whom."""

    llm: BaseChatModel
    messages: tuple[BaseMessage, ...]
    agent: str
    schema: dict[str, Any] | None = None
    tools: tuple[dict[str, Any], ...] = ()
    usage: UsageTracker | None = None

    def parts(self, n: int, without: Collection[str]) -> list[PartName]:
        """Which parts that a server may refuse a request for n answers has."""
        constraint = self.constraint(without)
        has: dict[PartName, bool] = {
            "tools": constraint == "tools",
            "schema": constraint == "schema",
            "n": n > 1,
            "temperature": getattr(self.llm, "temperature", None) is not None,
            "system": any(isinstance(message, SystemMessage) for message in self.messages),
        }
        return [part for part, present in has.items() if present and part not in without]

    def constraint(self, without: Collection[str]) -> Constraint | None:
        """What the answer is held to: a call of a tool rather than a schema, and nothing where neither is taken."""
        if self.tools and "tools" not in without:
            return "tools"
        return "schema" if self.schema and "schema" not in without else None


@dataclass(frozen=True, slots=True)
class Request:
    """One request for n answers, without the parts that the backend does not take."""

    prompt: Prompt
    runnable: Runnable[LanguageModelInput, Any]
    constraint: Constraint | None
    n: int

    @classmethod
    def of(cls, prompt: Prompt, n: int, without: Collection[str]) -> Request:
        """Build it.

        Raises:
            NotImplementedError, TypeError, ValueError: LangChain's integration knows no schema, or no tools.
        """
        llm, messages = on_this_loop(prompt.llm), prompt.messages
        if "temperature" in without:
            llm = llm.model_copy(update={"temperature": None})
        if "system" in without:
            messages = _without_system(messages)
        constraint = prompt.constraint(without)
        runnable: Runnable[LanguageModelInput, Any] = llm
        if constraint == "tools":
            runnable = _limited(llm).bind_tools(prompt.tools, tool_choice="any")
        elif constraint == "schema":
            structured = llm.with_structured_output(prompt.schema or {}, method="json_schema", include_raw=True)
            runnable = _without_parser(structured)
        return cls(replace(prompt, llm=llm, messages=messages), runnable, constraint, n)

    async def send(self) -> list[AIMessage]:
        """Make it, counted by the usage tracker as it ends."""
        prompt, config = self.prompt, ensure_config({"run_name": self.prompt.agent})
        if prompt.usage is not None:
            counting = _Counting(prompt.usage, prompt.agent, prompt.llm)
            config = merge_configs(config, {"callbacks": [counting]})
        if self.n == 1:
            answer = await self.runnable.ainvoke(list(prompt.messages), config)
            return [answer["raw"] if isinstance(answer, dict) else answer]  # LangChain has it beside what it parsed
        result = await self.prompt.llm.agenerate(
            [list(prompt.messages)],
            callbacks=config["callbacks"],
            tags=config["tags"],
            metadata=config["metadata"],
            run_name=prompt.agent,
            n=self.n,
        )
        return _messages(result)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a request: messages, or what the provider's client raised."""

    messages: list[AIMessage]
    error: Exception | None = None


class _Counting(BaseCallbackHandler):
    """Counts a request when it ends, before anything else is done with its answer.

    LangChain's own `UsageMetadataCallbackHandler` adds up tokens by model. It knows neither agents, requests, answers
    nor prices, nothing of requests whose tokens the provider does not report, and writes nothing down.
    """

    run_inline = True
    raise_error = True

    def __init__(self, usage: UsageTracker, agent: str, llm: BaseChatModel) -> None:
        self._usage, self._agent, self._llm = usage, agent, llm

    def on_llm_end(self, response: LLMResult, **_: Any) -> None:
        if messages := _messages(response):
            self._usage.record(self._agent, messages[0], llm=self._llm, answers=len(messages))

    def on_llm_error(self, error: BaseException, **_: Any) -> None:
        for message in _cut_off(error):
            self._usage.record(self._agent, message, llm=self._llm)


async def send_repeatedly(request: Request) -> Outcome | None:
    """Make a request; again after a pause if a passing error comes as an answer, which no client repeats by itself.

    None if meanwhile it has become known that the backend refuses such requests.
    """
    retries = getattr(request.prompt.llm, "max_retries", None)
    retries = MAX_RETRIES if retries is None else retries
    for attempt in range(retries + 1):
        outcome = await _send_in_turn(request)
        if outcome is None or outcome.error is None or not is_passing(outcome.error) or attempt == retries:
            break
        await anyio.sleep(min(LONGEST_PAUSE, 0.5 * 2**attempt) * random.uniform(0.75, 1))
    return outcome


async def _send_in_turn(request: Request) -> Outcome | None:
    """What comes of one request, which is made when its turn has come and the budget allows it."""
    prompt = request.prompt
    async with nullcontext() if prompt.usage is None else prompt.usage.turn(prompt.llm):
        if request.constraint in unsupported_by(backend_of(prompt.llm)):
            return None
        if prompt.usage is not None:
            prompt.usage.check_budget(prompt.agent, prompt.llm)
        try:
            messages = await request.send()
        except NeuronScopeError:  # the costs cannot be written down
            raise
        except Exception as error:  # noqa: BLE001 - every provider raises kinds of its own
            messages = _cut_off(error)
            return Outcome(messages, None if messages else error)
    if messages and messages[0].response_metadata.get("finish_reason") == "error" and not messages[0].text:
        return Outcome([], ValueError({"message": "The provider broke the answer off.", "code": 502}))
    return Outcome(messages)


def _cut_off(error: BaseException) -> list[AIMessage]:
    """The answer that a client refuses to give because it ended at the length limit: it has been paid for."""
    completion = getattr(error, "completion", None)
    choices = getattr(completion, "choices", None)
    if not choices or not choices[0].message.content:
        return []
    message = AIMessage(choices[0].message.content, response_metadata={"finish_reason": choices[0].finish_reason})
    usage = getattr(completion, "usage", None)
    if usage is not None:
        message.usage_metadata = UsageMetadata(
            input_tokens=usage.prompt_tokens,
            output_tokens=usage.completion_tokens,
            total_tokens=usage.total_tokens,
        )
    return [message]


def _without_parser(structured: Runnable[LanguageModelInput, Any]) -> Runnable[LanguageModelInput, Any]:
    """Of a model and the parser behind it the model, where LangChain puts them together as it does for most providers.

    Answers are read elsewhere; in a trace the parser would be nine steps around every request.
    """
    first = getattr(structured, "first", None)
    asking: Runnable[LanguageModelInput, Any] = getattr(first, "steps__", {}).get("raw", structured)
    return asking


def _messages(result: LLMResult) -> list[AIMessage]:
    generations = result.generations[0] if result.generations else []
    messages = [generation.message for generation in generations if isinstance(generation, ChatGeneration)]
    return [message for message in messages if isinstance(message, AIMessage)]


def _limited(llm: BaseChatModel) -> BaseChatModel:
    """The model with a limit to the length of its answers, where it has a setting for it, and none yet."""
    unlimited = "max_tokens" in type(llm).model_fields and getattr(llm, "max_tokens", None) is None
    return llm.model_copy(update={"max_tokens": LONGEST_CALL}) if unlimited else llm


def _without_system(messages: Sequence[BaseMessage]) -> tuple[BaseMessage, ...]:
    """The same words without a system message: its words stand before the user's first."""
    instructions = "\n\n".join(str(message.text) for message in messages if isinstance(message, SystemMessage))
    others = [message for message in messages if not isinstance(message, SystemMessage)]
    if others and isinstance(others[0], HumanMessage):
        return (HumanMessage(f"{instructions}\n\n{others[0].text}"), *others[1:])
    return (HumanMessage(instructions), *others)
