"""The words of a chat model's answer: without thoughts and code fences, and with refusals told apart."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from neuronscope.errors import LLMError

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

FENCE = re.compile(r"```[\w-]*[ \t]*\n?(.*?)(?:```|\Z)", re.DOTALL)
"""A code fence and what it holds; the last one may be open."""

REFUSAL = re.compile(
    r"\A\W*(?:i['’]?m (?:really |very )?sorry|sorry\b|i apologi[sz]e|i (?:can ?not|can['’]?t|am unable|won['’]?t|"
    r"am not able)\b|i['’]m (?:unable|not able)\b|as an ai\b|unfortunately, i\b)",
    re.IGNORECASE,
)
"""How refusals begin."""

_THOUGHT = re.compile(r"<(think|thinking|thought|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_THOUGHT_END = re.compile(r"\A.*</(?:think|thinking|thought|reasoning)>", re.DOTALL | re.IGNORECASE)


def read_text(message: AIMessage, agent: str) -> str:
    """The words of an answer, without thoughts and code fences.

    Raises:
        LLMError: the model refused, or said nothing.
    """
    answer = _without_thoughts(_content(message, agent))
    fenced = FENCE.fullmatch(answer)
    answer = (fenced[1] if fenced else answer).strip()
    if not answer:
        raise LLMError(f"{agent}: the model's answer is empty. Try again, or use another model.")
    if REFUSAL.match(answer):
        raise LLMError(f"{agent}: the model refuses: {shortened(answer)} Try another model.")
    return answer


def shortened(text: str) -> str:
    """The beginning of an answer in quotation marks, on one line, with a full stop: for messages."""
    text = " ".join(text.split())
    return repr(text if len(text) <= 160 else text[:160] + "…") + "."


def _content(message: AIMessage, agent: str) -> str:
    refusal = message.additional_kwargs.get("refusal")
    if refusal:
        raise LLMError(f"{agent}: the model refuses: {shortened(str(refusal))} Try another model.")
    if message.tool_calls:
        import json

        return json.dumps(message.tool_calls[0]["args"], ensure_ascii=False)
    return str(message.text)


def _without_thoughts(answer: str) -> str:
    return _THOUGHT_END.sub("", _THOUGHT.sub("", answer)).strip()
