"""The requests that are made of one prompt until the model has answered, whatever its server does not take.

LangChain carries what it can: its callbacks count every request as it ends, its cache interface keeps the answers, its
rate limiter spaces the requests. What it has nothing for is here and in `sending`: leaving out what a server refuses,
and repeating after errors that come with HTTP status 200, which no provider's client repeats by itself.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration

from neuronscope.llm.addresses import address_of
from neuronscope.llm.answers import is_cut_off, is_filtered, is_whole, reasoning_of, strict_json
from neuronscope.llm.backends import AsksInBatches, backend_of
from neuronscope.llm.cache import answer_key
from neuronscope.llm.failures import harmless, is_connection_failure, is_filter, request_failure
from neuronscope.llm.refusals import (
    Omission,
    first_alone,
    mark_answered,
    mark_supported,
    mark_unsupported,
    refusal_of,
    unsupported_by,
)
from neuronscope.llm.sending import Constraint, Prompt, Request, send_repeatedly

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel


async def one_answer(prompt: Prompt, sample: int) -> AIMessage:
    """One answer: from the cache, or a call of a tool, or held to the schema, or free."""
    cached = await _cached(prompt, sample)
    if cached is not None:
        return cached
    prompt = _known_by_answer(prompt, sample)
    (answer,) = await _answers(prompt, 1)
    await _cache(prompt, sample, answer)
    _settle(prompt)
    return answer


async def several_answers(prompt: Prompt, sample: int, n: int) -> list[AIMessage]:
    """Up to n answers: those in the cache, then those of one request; none if the backend knows no `n`."""
    cached: list[AIMessage] = []
    while len(cached) < n and (answer := await _cached(prompt, sample + len(cached))) is not None:
        cached.append(answer)
    backend, wanted = backend_of(prompt.llm), n - len(cached)
    if wanted < 2 or "n" in unsupported_by(backend) or not _knows_n(prompt.llm):
        return cached
    prompt = _known_by_answer(prompt, sample + len(cached))
    answers = (await _answers(prompt, wanted))[:wanted]
    if len(answers) < wanted:
        mark_unsupported("n", backend)
    for number, answer in enumerate(answers, start=sample + len(cached)):
        await _cache(prompt, number, answer)
    _settle(prompt)
    return cached + answers


async def _answers(prompt: Prompt, n: int) -> list[AIMessage]:
    """The answers to a request, made with ever fewer parts until the server takes it; none if it takes no `n`.

    What is found out holds for all later requests to the backend, but only once an answer has come: else it may have
    been the prompt, and not a part of the request, that was refused.
    """
    backend = backend_of(prompt.llm)
    address = "" if isinstance(prompt.llm, AsksInBatches) else address_of(prompt.llm)  # a batch of one takes as long
    async with first_alone(prompt.constraint(unsupported_by(backend)), backend, address):
        without = set(unsupported_by(backend))
        omissions: list[Omission] = []
        while n == 1 or "n" not in without:
            constraint = prompt.constraint(without)
            try:
                request = Request.of(prompt, n, without)
            except (NotImplementedError, TypeError, ValueError):  # LangChain's integration does not know it
                if constraint is None:
                    raise
                mark_unsupported(constraint, backend)
                without.add(constraint)
                continue
            outcome = await send_repeatedly(request)
            if outcome is None:
                without |= unsupported_by(backend)
                continue
            answers = outcome.messages
            if not answers:
                omissions.append(_omission(prompt, outcome.error, constraint, n, without))
            else:
                answers = _out_of_reasoning(answers, prompt) if constraint == "schema" else answers
                use = _use(answers[0], constraint)
                if use != "as asked" and constraint is not None:
                    omissions.append(Omission(constraint))
                if use != "none":
                    mark_answered(omissions, backend)
                    if use == "as asked":
                        mark_supported(prompt.parts(n, without), backend)
                    return answers
            without.add(omissions[-1].part)
    return []


def _omission(
    prompt: Prompt, error: Exception | None, constraint: Constraint | None, n: int, without: set[str]
) -> Omission:
    """What to leave out after an error.

    Raises:
        LLMError: that would not help.
    """
    error = error or ValueError("the provider's client gives no answer and no error")
    refusal = refusal_of(error, prompt.parts(n, without), backend_of(prompt.llm))
    if refusal is not None and refusal.parts:
        return Omission(refusal.parts[0], refusal)
    if refusal is None and not (is_connection_failure(error) or is_filter(error)):
        part = "n" if n > 1 and isinstance(error, (TypeError, ValueError)) else constraint
        if part is not None:  # the client cannot ask for it, or make an answer of what came
            return Omission(part, is_guess=part != "n")
    raise request_failure(error, prompt.llm, prompt.agent) from harmless(error, prompt.llm)


def _use(answer: AIMessage, constraint: Constraint | None) -> str:
    """Of what use an answer is: "as asked", "for its words" in place of a call of a tool, or "none".

    What a model says in place of a call is its answer, and it is not asked for calls again. If that has no end it is
    no answer, but has to be paid for. Nor is an empty one where the model should keep to a schema: some servers then
    lose it.
    """
    if constraint == "tools" and not (answer.tool_calls or answer.invalid_tool_calls):
        return "none" if is_cut_off(answer) else "for its words"
    if constraint == "schema":
        said = answer.text.strip() or answer.tool_calls or answer.additional_kwargs.get("refusal")
        return "as asked" if said or is_cut_off(answer) or is_filtered(answer) else "none"
    return "as asked"


def _out_of_reasoning(answers: list[AIMessage], prompt: Prompt) -> list[AIMessage]:
    """The answer that a server has put where thoughts belong: vLLM does so when a reasoning model is held to a schema.

    It is the answer only if it is JSON with all that the schema requires: a thought is no answer.
    """
    answer, thought = answers[0], reasoning_of(answers[0])
    if answer.text.strip() or answer.tool_calls or not thought:
        return answers
    value = strict_json(thought)
    if not isinstance(value, dict) or not set((prompt.schema or {}).get("required", ())) <= value.keys():
        return answers
    metadata, usage = answer.response_metadata, answer.usage_metadata
    return [AIMessage(thought, response_metadata=metadata, usage_metadata=usage)]


async def _cached(prompt: Prompt, sample: int) -> AIMessage | None:
    """An answer of an earlier request."""
    usage, key = prompt.usage, _cache_key(prompt, sample)
    if usage is None or usage.cache is None or key is None:
        return None
    found = await usage.cache.alookup(*key)
    if not found or not isinstance(found[0], ChatGeneration) or not isinstance(found[0].message, AIMessage):
        return None
    usage.record_cached(prompt.agent)
    return found[0].message


async def _cache(prompt: Prompt, sample: int, answer: AIMessage) -> None:
    """Keep an answer, unless it may come out better the next time."""
    usage, key = prompt.usage, _cache_key(prompt, sample)
    if usage is not None and usage.cache is not None and key is not None and is_whole(answer):
        await usage.cache.aupdate(*key, [ChatGeneration(message=answer)])


def _known_by_answer(prompt: Prompt, sample: int) -> Prompt:
    """The prompt; to a model in batches one that says which answer it is for, so that another process finds its batch.

    Without a cache of answers nothing is to be found again.
    """
    key = _cache_key(prompt, sample)
    if key is None or not isinstance(prompt.llm, AsksInBatches):
        return prompt
    digest = hashlib.sha256("\n".join(key).encode("utf-8", "surrogatepass")).hexdigest()
    return replace(prompt, llm=prompt.llm.for_answer(digest))


def _settle(prompt: Prompt) -> None:
    if isinstance(prompt.llm, AsksInBatches):
        prompt.llm.settle()


def _cache_key(prompt: Prompt, sample: int) -> tuple[str, str] | None:
    if prompt.usage is None or prompt.usage.cache is None:
        return None
    return answer_key(prompt.llm, prompt.messages, schema=prompt.schema, tools=prompt.tools, sample=sample)


def _knows_n(llm: BaseChatModel) -> bool:
    return "n" in type(llm).model_fields and not getattr(llm, "streaming", False)
