"""One way to ask a model: from the cache or held to a schema where that can be, counted, limited, and without keys."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from neuronscope.errors import LLMError
from neuronscope.llm.addresses import address_of
from neuronscope.llm.conversation import Conversation, one, several
from neuronscope.llm.refusals import aintroduced, introduced
from neuronscope.llm.requests import Call, Messages, Outcome, Prompt
from neuronscope.llm.usage import UsageTracker
from neuronscope.locks import in_forked_child

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage

_connections = {"open": False, "of a parent": False}
"""Whether a model has been asked in this process, and whether one had been when it was forked."""


async def ask(
    llm: BaseChatModel,
    messages: Messages,
    agent: str,
    *,
    schema: dict[str, Any] | None = None,
    tools: Sequence[dict[str, Any]] = (),
    usage: UsageTracker | None = None,
    sample: int = 0,
) -> AIMessage:
    """Send one request and return the model's message.

    Args:
        llm: the model.
        messages: the prompt.
        agent: who asks, for the counts and for errors.
        schema: a JSON schema (with a title) that the answer should follow, where the model can be held to one. A model
            or server that cannot is asked again without it, so an answer is free text until it has been parsed.
        tools: tools in OpenAI's form, of which the model should call one. The call is in the message's `tool_calls`;
            nothing is executed. A model or server that cannot call tools is asked as if there were none.
        usage: what counts the request, and brings a budget, limits and a cache of answers; None counts nothing.
        sample: which of several independent answers to the same prompt this one is; a cache keeps each.

    Raises:
        LLMError: the model cannot be reached or refuses the request; the message never contains a key.
        BudgetExceededError: the budget is spent.
    """
    (answer,) = await _conduct(one(Prompt(llm, messages, agent, schema, tuple(tools)), usage, sample), usage)
    return answer


async def ask_many(
    llm: BaseChatModel, messages: Messages, agent: str, n: int, *, usage: UsageTracker | None = None, sample: int = 0
) -> list[AIMessage]:
    """Several independent answers to one prompt, for the price of one request where the backend can.

    A server that knows no `n`, or ignores it, is asked as often as it takes.

    Args:
        llm: the model.
        messages: the prompt.
        agent: who asks.
        n: how many answers.
        usage: as for `ask`.
        sample: the number of the first answer; the others count on from there.

    Returns:
        At least one answer; fewer than `n` only if a server that ignores `n` fails in the further requests.

    Raises:
        LLMError: there is no answer at all.
    """
    prompt = Prompt(llm, messages, agent)
    answers = await _conduct(several(prompt, usage, sample, n), usage) if n > 1 else []
    further = [ask(llm, messages, agent, usage=usage, sample=sample + number) for number in range(len(answers), n)]
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
    usage: UsageTracker | None = None,
    sample: int = 0,
) -> AIMessage:
    """`ask` for worker threads: it waits, and touches no event loop.

    A model's asynchronous client belongs to the loop that used it first, its synchronous one to nobody: so code that
    runs beside a graph in a thread asks this way, whichever loop the graph runs on.
    """
    (answer,) = _conduct_blocking(one(Prompt(llm, messages, agent, schema), usage, sample), usage)
    return answer


async def _conduct(conversation: Conversation, usage: UsageTracker | None) -> list[AIMessage]:
    """Make a conversation's requests, each within its limits."""
    _open_connections()
    try:
        call = next(conversation)
    except StopIteration as stop:  # kept from before
        return _answers(stop)
    async with aintroduced(call.held, call.backend, address_of(call.prompt.llm)):
        while True:
            outcome = await _amake(call, usage)
            try:
                call = conversation.send(outcome)
            except StopIteration as stop:
                return _answers(stop)


async def _amake(call: Call, usage: UsageTracker | None) -> Outcome:
    if usage is None:
        return await call.amake()
    async with usage.gate(call.prompt.llm).apassage():
        usage.check_budget(call.prompt.agent, call.prompt.llm)
        return await call.amake()


def _conduct_blocking(conversation: Conversation, usage: UsageTracker | None) -> list[AIMessage]:
    _open_connections()
    try:
        call = next(conversation)
    except StopIteration as stop:  # kept from before
        return _answers(stop)
    with introduced(call.held, call.backend, address_of(call.prompt.llm)):
        while True:
            outcome = _make(call, usage)
            try:
                call = conversation.send(outcome)
            except StopIteration as stop:
                return _answers(stop)


def _make(call: Call, usage: UsageTracker | None) -> Outcome:
    if usage is None:
        return call.make()
    with usage.gate(call.prompt.llm).passage():
        usage.check_budget(call.prompt.agent, call.prompt.llm)
        return call.make()


def _answers(end: StopIteration) -> list[AIMessage]:
    """What a conversation returns at its end."""
    answers: list[AIMessage] = end.value
    return answers


def _open_connections() -> None:
    """Refuse what would wait for an event loop that this process does not have, or read another process's answers.

    Raises:
        LLMError: this process was forked from one that had asked a model.
    """
    if _connections["of a parent"]:
        raise LLMError(
            "This process was forked from one that had already asked a language model, and cannot use its connections. "
            "Start processes with multiprocessing.get_context('spawn'), or fork before the first request."
        )
    _connections["open"] = True


def _leave_connections_to_parent() -> None:
    _connections["of a parent"] |= _connections["open"]


in_forked_child(_leave_connections_to_parent)
