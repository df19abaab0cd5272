"""Sentences from answers as they really come: JSON in all states of repair, code fences, lists, prose around."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from neuronscope.errors import LLMError
from neuronscope.llm.answers import DEEPEST, REFUSAL, fenced_parts, first_json, is_cut_off, read_text, shortened

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

MOST_SENTENCES = 200
"""Sentences of one answer that are read at most."""

LONGEST_SENTENCE = 2_000
"""Characters of the longest text that counts as one sentence."""

_JSON_START = re.compile(r"""^[ \t]*(?=\[\s*["'“{\]]|\{\s*["'“])""", re.MULTILINE)
_INLINE_ARRAY = re.compile(r"""(?=\[\s*["'“])""")
_ITEM_MARK = re.compile(r"(?:\(?\d{1,3}[.):\]]|\[\d{1,3}\]|[-*•–])\s+")
FIRST_ITEM = re.compile(r"^[^\S\n]*(?:\(?\d{1,3}[.):\]]|\[\d{1,3}\]|[-*•–])[^\S\n]+(?=\S)", re.MULTILINE)
"""Where the first item of a list begins."""
_BOLD = re.compile(r"""(?<!["'\w*])\*\*(\w[^*"']*)\*\*(?!["'\w*])""")
_SINGLE_QUOTED = re.compile(r"""(?<![\w"'])['‘]([^'‘’"\s][^'‘’"]{0,40})['’](?![\w"'])""")
_QUOTED_BREAK = re.compile(r'"[ \t]*(\n+)[ \t]*"')


ECHO = re.compile(r"\bdata: do not follow\b|</?(?:history|excerpts)(?:-\d+)?>", re.IGNORECASE)
"""What only a prompt says: a small model's answer that repeats it is no explanation."""


def read_sentences(message: AIMessage, agent: str) -> list[str]:
    """The sentences of an answer that should be a JSON array of strings, whatever it is really.

    In order of trust: a code fence with JSON, a line that begins JSON, a numbered or bulleted list, an array within a
    sentence, and last the lines that speak of "this neuron".

    Returns:
        Sentences on one line each, none empty, in the answer's order.

    Raises:
        LLMError: the model refused, returned nothing, or nothing in its answer can be read as sentences.
    """
    answer = read_text(message, agent)
    for parse in _parses(answer):
        short = (sentence for sentence in parse if len(sentence) <= LONGEST_SENTENCE)
        tidied = [sentence for sentence in map(tidy, islice(short, MOST_SENTENCES)) if sentence]
        sentences = [one for one in tidied if not REFUSAL.match(one) and not ECHO.search(one)]
        if sentences:
            return sentences[:-1] if len(sentences) > 1 and _breaks_off(message, answer) else sentences
    raise LLMError(f"{agent}: no sentences in the model's answer: {shortened(answer)} Try again, or another model.")


def read_sentence(message: AIMessage, agent: str) -> str:
    """The one sentence of an answer: its first sentence that can be told apart, or else all of its text on one line.

    Raises:
        LLMError: the model refused, or returned nothing, or nothing that is as short as a sentence.
    """
    text = read_text(message, agent)
    try:
        return read_sentences(message, agent)[0]
    except LLMError:
        if len(text) > LONGEST_SENTENCE or ECHO.search(text):
            raise
        return tidy(_unquoted(text))


def tidy(sentence: str) -> str:
    r"""A sentence on one line, its quotations in double quotes; a line break that it quotes is kept as `"\n"`."""
    straight = _SINGLE_QUOTED.sub(r'"\1"', sentence.replace("“", '"').replace("”", '"'))
    quoted = _QUOTED_BREAK.sub(lambda match: '"' + "\\n" * len(match[1]) + '"', straight)
    text = " ".join(_BOLD.sub(r"\1", quoted).split())
    return text.encode("utf-8", "replace").decode("utf-8")


def list_items(text: str) -> list[str]:
    """Items of a numbered or bulleted list, as they stand; indented lines below an item belong to it."""
    items: list[list[str]] = []
    for line in text.splitlines():
        stripped = line.strip()
        marked = _ITEM_MARK.match(stripped)
        if marked:
            items.append([stripped[marked.end() :]])
        elif items and line[:1].isspace() and stripped:
            items[-1].append(stripped)
    return [_unquoted(" ".join(lines)) for lines in items]


def _breaks_off(message: AIMessage, answer: str) -> bool:
    """Whether the length limit has cut an answer within its last sentence."""
    return is_cut_off(message) and answer[-1] not in ".!?\"'”]}"


def _parses(answer: str) -> Iterator[Iterable[str]]:
    """The sentences as they may be meant, in order of trust."""
    parts = fenced_parts(answer)
    for part in parts:
        yield _from_json(part, _JSON_START)
    yield from map(list_items, parts)
    yield _from_json(answer, _INLINE_ARRAY)
    yield _from_lines(answer)


def _from_json(text: str, start: re.Pattern[str]) -> list[str]:
    parsed = first_json(text, start)
    sentences = list(islice(_strings(parsed.value), MOST_SENTENCES + 1))
    return sentences[:-1] if parsed.is_cut and len(sentences) <= MOST_SENTENCES else sentences


def _strings(value: Any, depth: int = 0) -> Iterator[str]:
    """The sentences in a JSON value: strings with a space in them; short labels and numbers are left out."""
    if isinstance(value, str):
        if " " in value.strip():
            yield value
    elif depth < DEEPEST:
        for member in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from _strings(member, depth + 1)


def _from_lines(text: str) -> list[str]:
    lines = [_unquoted(line) for line in text.splitlines()]
    return [line for line in lines if re.search(r"\bneuron\b", line, re.IGNORECASE) and not line.endswith(":")]


def _unquoted(text: str) -> str:
    text = text.strip().rstrip(",").strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" and text[0] not in text[1:-1]:
        return text[1:-1]
    return text
