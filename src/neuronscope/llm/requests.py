"""Requests as values, which are made from event loops and from threads alike, and what came of them."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import anyio

from neuronscope.llm.models import backend_of
from neuronscope.llm.refusals import PartName, is_unable

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel, LanguageModelInput
    from langchain_core.messages import AIMessage, BaseMessage
    from langchain_core.outputs import LLMResult
    from langchain_core.runnables import Runnable, RunnableConfig

Messages = Sequence["BaseMessage"]
Held = Literal["tools", "schema"]

LONGEST_CALL = 512
"""Tokens of an answer that should call a tool: small models that say something else in its place may find no end."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked, of whom, and by whom."""

    llm: BaseChatModel
    messages: Messages
    agent: str
    schema: dict[str, Any] | None = None
    tools: tuple[dict[str, Any], ...] = ()

    def parts(self, n: int, without: Collection[str]) -> list[PartName]:
        """Which parts that a server may refuse a request for n answers has."""
        from langchain_core.messages import SystemMessage

        held = self.held(without)
        has: dict[PartName, bool] = {
            "tools": held == "tools",
            "schema": held == "schema",
            "n": n > 1,
            "temperature": getattr(self.llm, "temperature", None) is not None,
            "system": any(isinstance(message, SystemMessage) for message in self.messages),
        }
        return [part for part, present in has.items() if present and part not in without]

    def held(self, without: Collection[str]) -> Held | None:
        """What the model is held to: a tool rather than a schema, and nothing where it takes neither."""
        if self.tools and "tools" not in without:
            return "tools"
        return "schema" if self.schema and "schema" not in without else None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a request: messages, or what the provider's client raised."""

    messages: list[AIMessage] = field(default_factory=list)
    error: Exception | None = None
    is_overtaken: bool = False
    """Whether it was not made, since meanwhile it has become known that the backend refuses such requests."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request, which can be made from an event loop or from a thread."""

    prompt: Prompt
    bound: Runnable[LanguageModelInput, Any] | None
    """The model held to a schema, or to calling a tool."""
    held: Held | None
    """To which of the two."""
    n: int
    backend: str
    pause: float = 0.0
    """Seconds to wait before it."""

    @classmethod
    def of(cls, prompt: Prompt, n: int, without: Collection[str]) -> Call:
        """The request, without the parts that the backend does not take.

        Raises:
            NotImplementedError, TypeError, ValueError: LangChain's integration knows no schema, or no tools.
        """
        llm, messages, backend = prompt.llm, prompt.messages, backend_of(prompt.llm)
        if "temperature" in without:
            llm = llm.model_copy(update={"temperature": None})
        if "system" in without:
            messages = _without_system(messages)
        held = prompt.held(without)
        bound: Runnable[LanguageModelInput, Any] | None = None
        if held == "tools":
            bound = _limited(llm).bind_tools(prompt.tools, tool_choice="any")
        elif held == "schema":
            structured = llm.with_structured_output(prompt.schema or {}, method="json_schema", include_raw=True)
            bound = _asking_part(structured)
        return cls(replace(prompt, llm=llm, messages=messages), bound, held, n, backend)

    async def amake(self) -> Outcome:
        """Make it, awaiting the answer."""
        prompt, messages = self.prompt, list(self.prompt.messages)
        if self.pause:
            await anyio.sleep(self.pause)
        if self._is_overtaken():
            return Outcome(is_overtaken=True)
        try:
            if self.bound is not None:
                return _outcome([_message(await self.bound.ainvoke(messages, self._config()))])
            if self.n == 1:
                return _outcome([await prompt.llm.ainvoke(messages, self._config())])
            return _outcome(_choices(await prompt.llm.agenerate([messages], n=self.n, **self._inherited())))
        except Exception as error:  # noqa: BLE001 - every provider raises kinds of its own
            return Outcome(error=error)

    def make(self) -> Outcome:
        """Make it, blocking the thread."""
        messages = list(self.prompt.messages)
        if self.pause:
            time.sleep(self.pause)
        if self._is_overtaken():
            return Outcome(is_overtaken=True)
        try:
            if self.bound is not None:
                return _outcome([_message(self.bound.invoke(messages, self._config()))])
            return _outcome([self.prompt.llm.invoke(messages, self._config())])
        except Exception as error:  # noqa: BLE001 - every provider raises kinds of its own
            return Outcome(error=error)

    def _is_overtaken(self) -> bool:
        return self.held is not None and is_unable(self.held, self.backend)

    def _config(self) -> RunnableConfig:
        return {"run_name": self.prompt.agent}

    def _inherited(self) -> dict[str, Any]:
        """What `ainvoke` would take from the graph around it, for traces."""
        from langchain_core.runnables.config import ensure_config

        config = ensure_config(self._config())
        return {name: config.get(name) for name in ("callbacks", "tags", "metadata", "run_name")}


def _outcome(messages: list[AIMessage]) -> Outcome:
    """What a client takes for answers, unless the provider says that it broke off."""
    if messages and messages[0].response_metadata.get("finish_reason") == "error" and not messages[0].text:
        return Outcome(error=ValueError({"message": "The provider broke the answer off.", "code": 502}))
    return Outcome(messages)


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


def _limited(llm: BaseChatModel) -> BaseChatModel:
    """The model with a limit to the length of its answers, where it has a setting for it, and none yet."""
    unlimited = "max_tokens" in type(llm).model_fields and getattr(llm, "max_tokens", None) is None
    return llm.model_copy(update={"max_tokens": LONGEST_CALL}) if unlimited else llm


def _without_system(messages: Messages) -> list[BaseMessage]:
    """The same words without a system message: its words stand before the user's first."""
    from langchain_core.messages import HumanMessage, SystemMessage

    instructions = "\n\n".join(str(message.text) for message in messages if isinstance(message, SystemMessage))
    others = [message for message in messages if not isinstance(message, SystemMessage)]
    if others and isinstance(others[0], HumanMessage):
        return [HumanMessage(f"{instructions}\n\n{others[0].text}"), *others[1:]]
    return [HumanMessage(instructions), *others]
