"""What is said to a model until it has answered, whatever its server does not take."""

from __future__ import annotations

import json
import random
from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING

from neuronscope.llm.answers import is_cut_off, is_filtered, reasoning_of
from neuronscope.llm.failures import harmless, is_connection_failure, is_filter, is_passing, request_failure
from neuronscope.llm.models import MAX_RETRIES, backend_of
from neuronscope.llm.refusals import Doubt, known_of, learnt, note_taken, refusal_of, unable
from neuronscope.llm.requests import Call, Held, Messages, Outcome, Prompt
from neuronscope.llm.usage import UsageTracker

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage

__all__ = ["Call", "Conversation", "Messages", "Outcome", "Prompt", "one", "several", "unable"]

Conversation = Generator[Call, Outcome, "list[AIMessage]"]
"""Yields requests, is sent what came of them, and returns the answers."""

LONGEST_PAUSE = 8.0
"""Seconds between two attempts at most, where an error comes as an answer; the first pause is half a second."""


def one(prompt: Prompt, usage: UsageTracker | None, sample: int) -> Conversation:
    """One answer: kept from before, or a call of a tool, or held to the schema, or free."""
    kept = _kept(prompt, usage, sample)
    if kept is not None:
        return [kept]
    answers = yield from _asked(prompt, usage)
    _record(usage, prompt, answers, sample)
    return answers


def several(prompt: Prompt, usage: UsageTracker | None, sample: int, n: int) -> Conversation:
    """Up to n answers: those kept from before, then those of one request; none if the backend knows no `n`."""
    kept: list[AIMessage] = []
    while len(kept) < n and (answer := _kept(prompt, usage, sample + len(kept))) is not None:
        kept.append(answer)
    backend, wanted = backend_of(prompt.llm), n - len(kept)
    if wanted < 2 or ("n", backend) in unable or not _knows_n(prompt.llm):
        return kept
    answers = (yield from _asked(prompt, usage, wanted))[:wanted]
    if len(answers) < wanted:
        unable.add(("n", backend))
    if answers:
        _record(usage, prompt, answers, sample + len(kept))
    return kept + answers


def _asked(prompt: Prompt, usage: UsageTracker | None, n: int = 1) -> Conversation:
    """The answers to a request, made with ever fewer parts until the server takes it; none if it takes no `n`.

    What is found out holds for all later requests to the backend, but only once an answer has come: else it may have
    been the prompt, and not a part of the request, that was refused.
    """
    backend = backend_of(prompt.llm)
    without = set(known_of(backend))
    doubts: list[Doubt] = []
    while n == 1 or "n" not in without:
        held = prompt.held(without)
        try:
            call = Call.of(prompt, n, without)
        except (NotImplementedError, TypeError, ValueError):  # LangChain's integration does not know it
            if held is None:
                raise
            unable.add((held, backend))
            without.add(held)
            continue
        outcome = yield from _repeated(call)
        if outcome.is_overtaken:
            without |= known_of(backend)
            continue
        answers = outcome.messages if outcome.error is None else _cut_off(outcome.error)
        if answers:
            answers = _out_of_reasoning(answers, prompt) if held == "schema" else answers
            use = _use(answers[0], held)
            if use != "as asked" and held is not None:
                doubts.append(Doubt(held))
            if use != "none":
                unable.update((part, backend) for part in learnt(doubts))
                if use == "as asked":
                    note_taken(prompt.parts(n, without), backend)
                return answers
            _count(usage, prompt, answers)
        else:
            doubts.append(_doubt(prompt, outcome.error, held, n, without))
        without.add(doubts[-1].part)
    return []


def _repeated(call: Call) -> Generator[Call, Outcome, Outcome]:
    """Make a request; again after a pause if a passing error comes as an answer, which no client repeats by itself."""
    outcome = yield call
    retries = getattr(call.prompt.llm, "max_retries", None)
    for attempt in range(MAX_RETRIES if retries is None else retries):
        if outcome.error is None or not is_passing(outcome.error):
            break
        pause = min(LONGEST_PAUSE, 0.5 * 2**attempt) * random.uniform(0.75, 1)
        outcome = yield replace(call, pause=pause)
    return outcome


def _doubt(prompt: Prompt, error: Exception | None, held: Held | None, n: int, without: set[str]) -> Doubt:
    """What to leave out after an error.

    Raises:
        LLMError: that would not help.
    """
    error = error or ValueError("the provider's client gives no answer and no error")
    refusal = refusal_of(error, prompt.parts(n, without), backend_of(prompt.llm))
    if refusal is not None and refusal.parts:
        return Doubt(refusal.parts[0], refusal)
    if refusal is None and not (is_connection_failure(error) or is_filter(error)):
        part = "n" if n > 1 and isinstance(error, (TypeError, ValueError)) else held
        if part is not None:  # the client cannot ask for it, or make an answer of what came
            return Doubt(part, is_guess=part != "n")
    raise request_failure(error, prompt.llm, prompt.agent) from harmless(error, prompt.llm)


def _use(answer: AIMessage, held: Held | None) -> str:
    """Of what use an answer is: "as asked", "for its words" in place of a call of a tool, or "none".

    What a model says in place of a call is its answer, and it is not asked for calls again. If that has no end it is
    no answer, but has to be paid for. Nor is an empty one where the model should keep to a schema: some servers then
    lose it.
    """
    if held == "tools" and not (answer.tool_calls or answer.invalid_tool_calls):
        return "none" if is_cut_off(answer) else "for its words"
    if held == "schema":
        said = answer.text.strip() or answer.tool_calls or answer.additional_kwargs.get("refusal")
        return "as asked" if said or is_cut_off(answer) or is_filtered(answer) else "none"
    return "as asked"


def _out_of_reasoning(answers: list[AIMessage], prompt: Prompt) -> list[AIMessage]:
    """The answer that a server has put where thoughts belong: vLLM does so when a reasoning model is held to a schema.

    It is the answer only if it is JSON with all that the schema requires: a thought is no answer.
    """
    from langchain_core.messages import AIMessage

    answer, thought = answers[0], reasoning_of(answers[0])
    if answer.text.strip() or answer.tool_calls or not thought:
        return answers
    try:
        value = json.loads(thought)
    except (ValueError, RecursionError):
        return answers
    if not isinstance(value, dict) or not set((prompt.schema or {}).get("required", ())) <= value.keys():
        return answers
    metadata, usage = answer.response_metadata, answer.usage_metadata
    return [AIMessage(thought, response_metadata=metadata, usage_metadata=usage)]


def _cut_off(error: Exception) -> list[AIMessage]:
    """The answer that a client refuses to give because it ended at the length limit: it has been paid for."""
    from langchain_core.messages import AIMessage
    from langchain_core.messages.ai import UsageMetadata

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


def _knows_n(llm: BaseChatModel) -> bool:
    return "n" in type(llm).model_fields and not getattr(llm, "streaming", False)


def _kept(prompt: Prompt, usage: UsageTracker | None, sample: int) -> AIMessage | None:
    """An answer of an earlier run."""
    if usage is None or usage.cache is None:
        return None
    answer = usage.cache.find(prompt.llm, prompt.messages, prompt.schema, sample, prompt.tools)
    if answer is not None:
        usage.record_cached(prompt.agent)
    return answer


def _record(usage: UsageTracker | None, prompt: Prompt, answers: list[AIMessage], sample: int) -> None:
    """Count one request and keep its answers."""
    _count(usage, prompt, answers)
    if usage is not None and usage.cache is not None:
        for number, answer in enumerate(answers, start=sample):
            usage.cache.keep(prompt.llm, prompt.messages, prompt.schema, number, answer, prompt.tools)


def _count(usage: UsageTracker | None, prompt: Prompt, answers: list[AIMessage]) -> None:
    """Count one request."""
    if usage is not None:
        usage.record(prompt.agent, answers[0], llm=prompt.llm, answers=len(answers))
