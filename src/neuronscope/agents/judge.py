"""A language model as the judge of explanations: asked in small batches, its answers read with suspicion."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from neuronscope.agents.judge_prompts import (
    Question,
    concept_question,
    detection_question,
    fuzzing_question,
    intruder_question,
)
from neuronscope.agents.parsing import read_sentences
from neuronscope.agents.role import succeeded
from neuronscope.errors import LLMError
from neuronscope.llm import ask, model_name
from neuronscope.llm.answers import read_apart, read_text
from neuronscope.metrics.stimuli import Marked
from neuronscope.text import distinct

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage

    from neuronscope.llm.usage import UsageTracker

ROLE = "judge"
"""The judge's name in trackers and in errors."""

TEXTS_PER_REQUEST = 5
"""Texts that are judged in one request (delphi's default)."""

AT_ONCE = 8
"""Requests that wait for an answer at the same time."""

_ARRAY = re.compile(r"\[([^\[\]]*)\]")
_VERDICT = re.compile(r"(0|false)|(1|true)")
_NUMBER = re.compile(r"\d+")

T = TypeVar("T")


class LLMJudge:
    """Judges and writes with a chat model (the protocol `neuronscope.metrics.Judge`).

    An answer that is refused, cannot be read, or does not fit the question is an abstention: None for each text of
    that request. So is a request that fails, as long as another one succeeds.

    Args:
        llm: the chat model.
        usage: counts requests and tokens, if given.
    """

    def __init__(self, llm: BaseChatModel, usage: UsageTracker | None = None) -> None:
        self._llm = llm
        self._usage = usage

    @property
    def name(self) -> str:
        """The model's name."""
        return model_name(self._llm)

    async def detect(self, explanation: str, texts: Sequence[str]) -> list[bool | None]:
        """Whether the neuron is active somewhere in each text, if the explanation is true.

        Raises:
            LLMError: no request succeeded.
        """
        parts = _parts(texts)
        return await self._verdicts([detection_question(explanation, part) for part in parts], parts)

    async def check(self, explanation: str, texts: Sequence[Marked]) -> list[bool | None]:
        """Whether each text's marked tokens are those that the explanation describes.

        Raises:
            LLMError: no request succeeded.
        """
        parts = _parts(texts)
        return await self._verdicts([fuzzing_question(explanation, part) for part in parts], parts)

    async def pick_intruders(self, rounds: Sequence[Sequence[Marked]]) -> list[int | None]:
        """The index of the one text in each round on which the neuron is inactive.

        Raises:
            LLMError: no request succeeded.
        """
        answers = await self._answers([intruder_question(texts) for texts in rounds])
        pairs = zip(answers, rounds, strict=True)
        return [await _read(answer, partial(read_index, n=len(texts))) for answer, texts in pairs]

    async def write(self, explanation: str, n: int) -> list[str]:
        """Up to n different texts in which the neuron is active, if the explanation is true.

        Raises:
            LLMError: the request failed.
        """
        (answer,) = await self._answers([concept_question(explanation, n)])
        try:
            return [] if answer is None else distinct(await read_apart(read_sentences, answer, ROLE))[:n]
        except LLMError:
            return []

    async def _verdicts(self, questions: Sequence[Question], parts: Sequence[Sequence[Any]]) -> list[bool | None]:
        answers = await self._answers(questions)
        found: list[bool | None] = []
        for answer, part in zip(answers, parts, strict=True):
            verdicts = await _read(answer, partial(read_verdicts, n=len(part)))
            found += [None] * len(part) if verdicts is None else verdicts
        return found

    async def _answers(self, questions: Sequence[Question]) -> list[AIMessage | None]:
        """One message per question; None where the request failed."""
        semaphore = asyncio.Semaphore(AT_ONCE)

        async def answer(question: Question) -> AIMessage:
            async with semaphore:
                return await ask(self._llm, question.messages, ROLE, schema=question.schema, usage=self._usage)

        outcomes = await asyncio.gather(*map(answer, questions), return_exceptions=True)
        succeeded(outcomes, ROLE)
        return [None if isinstance(outcome, BaseException) else outcome for outcome in outcomes]


def read_verdicts(text: str, n: int) -> list[bool] | None:
    """The first array of exactly n zeros and ones (or truth values) in an answer; None if there is none."""
    for array in _ARRAY.finditer(text):
        written = "".join(array[1].replace(",", " ").lower().split())
        verdicts = [bool(true) for _, true in _VERDICT.findall(written)]
        if len(verdicts) == n and not _VERDICT.sub("", written):
            return verdicts
    return None


def read_index(text: str, n: int) -> int | None:
    """The index that an answer names by a number from 1 to n; None if it names none, or several."""
    numbers = {int(number[:9]) for number in _NUMBER.findall(text)}
    (number,) = numbers if len(numbers) == 1 else (0,)
    return number - 1 if 1 <= number <= n else None


def _parts(texts: Sequence[T]) -> list[Sequence[T]]:
    """The texts of each request."""
    return [texts[start : start + TEXTS_PER_REQUEST] for start in range(0, len(texts), TEXTS_PER_REQUEST)]


async def _read(answer: AIMessage | None, read: Callable[[str], T | None]) -> T | None:
    """What an answer says; None if it was refused, is empty or says nothing of the kind."""
    if answer is None:
        return None
    try:
        return await read_apart(lambda message: read(read_text(message, ROLE)), answer)
    except LLMError:
        return None
