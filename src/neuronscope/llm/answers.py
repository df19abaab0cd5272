"""Answers read: a model's words without thoughts and code fences, refusals told apart, and JSON in all its states.

The package json_repair takes time that grows with the square of a text's length (of stray quotation marks, say), and
recurses as deep as the text nests. So it only ever sees texts that are short and flat.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from neuronscope.errors import LLMError
from neuronscope.llm.marks import Parted, part, thinks_aloud, undefused

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

LONGEST_ANSWER = 500_000
"""Characters of an answer, thoughts included, beyond which it is not read at all."""

LARGE_ANSWER = 4_000
"""Characters of an answer beyond which a thread reads it, so that the other neurons of a process need not wait."""

LONGEST_MENDED = 8_000
"""Characters of a faulty JSON text that are mended; what follows them is not read."""

DEEPEST = 32
"""How deep a faulty JSON text may nest to be mended, and how deep anything in a JSON value is looked for."""

FENCE = re.compile(r"```[\w-]*[ \t]*\n?(.*?)(?:```|\Z)", re.DOTALL)
"""A code fence and what it holds; the last one may be open."""

REFUSAL = re.compile(
    r"\A\W*(?:i['’]?m (?:really |very )?sorry|sorry\b|i apologi[sz]e|i (?:can ?not|can['’]?t|am unable|won['’]?t|"
    r"am not able)\b|i['’]m (?:unable|not able)\b|as an ai\b|unfortunately, i\b)",
    re.IGNORECASE,
)
"""How refusals begin."""

_ENDS = ("finish_reason", "stop_reason", "done_reason", "finishReason", "stopReason")
"""Where providers say why an answer ended."""
_CUT_OFF = frozenset({"length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded"})
"""What providers call the end at the length limit."""
_FILTERED = frozenset(
    {"content_filter", "content_filtered", "safety", "prohibited_content", "blocklist", "spii", "recitation"}
    | {"guardrail_intervened", "sensitive", "image_safety", "error_toxic"}
)
"""What providers call the end by their filter of contents."""
_REASONING_FIELDS = ("reasoning_content", "reasoning", "reasoning_text", "thinking")
"""Where servers put thoughts that they have split off."""

_JSON_START = re.compile(r"[\[{]")
_BRACKET = re.compile(r"[\[\]{}]")
_STRING = re.compile(r'"(?:\\.?|[^"\\])*(?:"|\Z)', re.DOTALL)

T = TypeVar("T")


def read_text(message: AIMessage, agent: str) -> str:
    """The words of an answer, without thoughts and code fences.

    Raises:
        LLMError: the model refused, said nothing, or only thought; a filter stopped it; or its answer is endless.
    """
    said = _content(message, agent)
    if len(said) > LONGEST_ANSWER:
        raise LLMError(
            f"{agent}: the model's answer has {len(said):,} characters, of which none are read: at most "
            f"{LONGEST_ANSWER:,} are. Limit its length (`max_tokens` of the model), or use another model."
        )
    parted = Parted(said) if message.tool_calls else part(_behind(reasoning_of(message), said))
    answer = parted.answer
    fenced = FENCE.fullmatch(answer)
    answer = undefused((fenced[1] if fenced else answer).strip())
    aloud = is_cut_off(message) and not parted.thought and thinks_aloud(answer)
    if not answer or aloud:
        raise LLMError(f"{agent}: {_why_empty(message, is_open=parted.is_open or aloud)}")
    if REFUSAL.match(answer):
        raise LLMError(f"{agent}: the model refuses: {shortened(answer)} Try another model.")
    return answer


async def read_apart(read: Callable[..., T], message: AIMessage, *arguments: Any) -> T:
    """Read an answer from an event loop; a large one in a thread, so that others need not wait for it."""
    if len(str(message.content)) <= LARGE_ANSWER:
        return read(message, *arguments)
    return await asyncio.to_thread(read, message, *arguments)


def is_cut_off(message: AIMessage) -> bool:
    """Whether the provider says that the answer ended at the length limit, or in the middle by its filter."""
    return any(reason in _CUT_OFF or reason in _FILTERED for reason in _ends(message))


def is_whole(message: AIMessage) -> bool:
    """Whether an answer has an end and can be read: one that is empty, cut off or a refusal may come out better."""
    if is_cut_off(message):
        return False
    try:
        return bool(read_text(message, ""))
    except LLMError:
        return False


def is_filtered(message: AIMessage) -> bool:
    """Whether the provider says that its filter of contents stopped the answer."""
    return any(reason in _FILTERED for reason in _ends(message))


def reasoning_of(message: AIMessage) -> str:
    """The thoughts that the server has split off, if it gives any as text."""
    fields = (message.additional_kwargs.get(name) for name in _REASONING_FIELDS)
    return next((field for field in fields if isinstance(field, str) and field), "")


def shortened(text: str) -> str:
    """The beginning of an answer in quotation marks, on one line, with a full stop: for messages."""
    text = " ".join(text[:1000].split())
    return repr(text if len(text) <= 160 else text[:160] + "…") + "."


def _ends(message: AIMessage) -> list[str]:
    return [str(message.response_metadata.get(name)).lower() for name in _ENDS]


def _why_empty(message: AIMessage, *, is_open: bool) -> str:
    if is_filtered(message):
        return (
            "the provider's content filter stopped the answer. Change the filter's settings where the provider has "
            "any, use text without what it objects to, or another model."
        )
    empty = "the model's answer is empty."
    if is_cut_off(message):
        return f"{empty} It ended at the length limit, while still thinking: raise the limit, or use another model."
    if is_open:
        return f"{empty} It is a thought without an end. Try again, raise the length limit, or use another model."
    return f"{empty} Try again, or use another model."


def _content(message: AIMessage, agent: str) -> str:
    refusal = message.additional_kwargs.get("refusal")
    if refusal:
        raise LLMError(f"{agent}: the model refuses: {shortened(str(refusal))} Try another model.")
    if message.tool_calls:
        try:
            return json.dumps(message.tool_calls[0]["args"], ensure_ascii=False)
        except RecursionError:
            raise LLMError(f"{agent}: the model's tool call nests too deep. Try again, or another model.") from None
    return str(message.text)


def _behind(reasoning: str, said: str) -> str:
    """What was said after thoughts that a server gives both in a field of their own and in the answer."""
    said = said.strip()
    thought = reasoning.strip()
    return said[len(thought) :] if thought and said.startswith(thought) else said


class ParsedJSON(NamedTuple):
    """What could be read of a text that should be JSON."""

    value: Any
    """The JSON value; None if there is none."""
    is_cut: bool = False
    """Whether the text was read in part only, so that the last string in the value may be a part of one."""


def fenced_parts(answer: str) -> list[str]:
    """Where an answer's JSON may be, in order of trust: what each code fence holds, and all of it."""
    return [*(fence[1] for fence in FENCE.finditer(answer)), answer]


def first_json(text: str, start: re.Pattern[str]) -> ParsedJSON:
    """The JSON that begins where a pattern is first found; nothing where it is not."""
    found = start.search(text)
    return ParsedJSON(None) if found is None else parse_json(text[found.start() :].lstrip())


def all_json(answer: str) -> Iterator[ParsedJSON]:
    """Every JSON value in an answer, those in code fences first; what has to be mended ends the search in its part."""
    for part_of_it in fenced_parts(answer):
        end = 0
        for found in _JSON_START.finditer(part_of_it):
            start = found.start()
            if start < end:
                continue
            try:
                value, end = json.JSONDecoder().raw_decode(part_of_it, start)
            except (ValueError, RecursionError):
                mended = parse_json(part_of_it[start:])
                yield mended._replace(is_cut=mended.is_cut or not _is_balanced(part_of_it[start:]))
                break
            yield ParsedJSON(value)


def strict_json(text: str) -> Any:
    """The value of a text that is JSON as it stands; None if it is not."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def parse_json(text: str) -> ParsedJSON:
    """Read a text that begins with JSON: as it stands, else mended; prose may follow.

    It takes time proportional to the text's length, and raises nothing.
    """
    try:
        return ParsedJSON(json.loads(text))
    except (ValueError, RecursionError):
        pass
    if len(text) <= LONGEST_MENDED:
        return ParsedJSON(_mended(text))
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return ParsedJSON(_mended(text[:LONGEST_MENDED]), is_cut=True)
    return ParsedJSON(value)


@lru_cache(maxsize=8)
def _mended(text: str) -> Any:
    """The value of a short faulty text; remembered, since an answer is looked through in several ways."""
    import json_repair

    if _depth(text) > DEEPEST:
        return None
    try:
        return json_repair.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_balanced(text: str) -> bool:
    """Whether every bracket outside strings has its counterpart: if not, the text has been cut off."""
    bare = _STRING.sub("", text)
    return all(bare.count(opening) <= bare.count(closing) for opening, closing in ("{}", "[]"))


def _depth(text: str) -> int:
    """How deep the brackets of a text nest, those within strings included."""
    depth = deepest = 0
    for found in _BRACKET.finditer(text):
        depth = depth + 1 if found[0] in "[{" else max(0, depth - 1)
        deepest = max(deepest, depth)
    return deepest
