"""One way to ask a model: from the cache or constrained to a schema where that can be, counted, limited, without keys.

A model's asynchronous HTTP client belongs to the event loop that first used it, and LangChain shares such clients
between models. So every request is made on one loop of the library's own, whichever loop or thread it comes from: a
graph on another loop, a simulator in a worker thread, or two calls of `asyncio.run`. That loop runs nothing but
requests, and so never waits for a caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from neuronscope.errors import LLMError
from neuronscope.llm.backends import request_loop
from neuronscope.locks import in_forked_child

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, BaseMessage

    from neuronscope.llm.usage import UsageTracker

_connections = {"open": False, "of a parent": False}
"""Whether a model has been asked in this process, and whether one had been when it was forked."""


async def ask(
    llm: BaseChatModel,
    messages: Sequence[BaseMessage],
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
    _open_connections()
    from neuronscope.llm.requests import one_answer
    from neuronscope.llm.sending import Prompt

    prompt = Prompt(llm, tuple(messages), agent, schema, tuple(tools), usage)
    return await request_loop.run(partial(one_answer, prompt, sample))


async def ask_many(
    llm: BaseChatModel,
    messages: Sequence[BaseMessage],
    agent: str,
    n: int,
    *,
    usage: UsageTracker | None = None,
    sample: int = 0,
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
    _open_connections()
    from neuronscope.llm.requests import several_answers
    from neuronscope.llm.sending import Prompt

    prompt = Prompt(llm, tuple(messages), agent, usage=usage)
    answers = await request_loop.run(partial(several_answers, prompt, sample, n)) if n > 1 else []
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
    messages: Sequence[BaseMessage],
    agent: str,
    *,
    schema: dict[str, Any] | None = None,
    usage: UsageTracker | None = None,
    sample: int = 0,
) -> AIMessage:
    """`ask` for code that waits, such as a simulator in a worker thread."""
    return request_loop.run_blocking(partial(ask, llm, messages, agent, schema=schema, usage=usage, sample=sample))


def _open_connections() -> None:
    """Refuse what would use the connections of another process.

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
