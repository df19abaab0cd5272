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

_THOUGHT = re.compile(
    r"<(think|thinking|thought|reasoning)>.*?(?:</\1>|\Z)|\[THINK\].*?(?:\[/THINK\]|\Z)", re.DOTALL | re.IGNORECASE
)
_THOUGHT_END = re.compile(
    r"\A.*(?:</(?:think|thinking|thought|reasoning)>|\[/THINK\]|<\|channel\|>final<\|message\|>)",
    re.DOTALL | re.IGNORECASE,
)
_CUT_OFF = ("length", "max_tokens", "MAX_TOKENS")
"""What providers call the end at the length limit."""


def read_text(message: AIMessage, agent: str) -> str:
    """The words of an answer, without thoughts and code fences.

    Raises:
        LLMError: the model refused, or said nothing.
    """
    answer = _without_thoughts(_content(message, agent))
    fenced = FENCE.fullmatch(answer)
    answer = (fenced[1] if fenced else answer).strip()
    if not answer:
        spent = " It ended at the length limit, while still thinking: raise the limit." if is_cut_off(message) else ""
        raise LLMError(f"{agent}: the model's answer is empty.{spent} Try again, or use another model.")
    if REFUSAL.match(answer):
        raise LLMError(f"{agent}: the model refuses: {shortened(answer)} Try another model.")
    return answer


def is_cut_off(message: AIMessage) -> bool:
    """Whether the provider says that the answer ended at the length limit."""
    metadata = message.response_metadata
    return any(metadata.get(name) in _CUT_OFF for name in ("finish_reason", "stop_reason", "done_reason"))


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
