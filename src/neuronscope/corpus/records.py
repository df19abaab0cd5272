"""From a record, of whatever file or dataset, to a document: which field holds the text, and is it a conversation?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from neuronscope.corpus.documents import Document, Turn
from neuronscope.errors import CorpusError

TEXT_FIELD = "text"
"""The field of a record that holds the text, unless there is none of that name."""
SAMPLE_RECORDS = 100
"""Records that are looked at, at most, to find the field."""
_SAMPLE_CHARACTERS = 10_000_000

_USUAL_FIELDS = ("content", "body", "document", "article", "raw_content", "passage")
"""What datasets call the text, where it is not `TEXT_FIELD`; the first that is there goes before longer ones."""
_PROMPT_FIELDS = {"instruction", "prompt", "question", "query", "input"}
_ANSWER_FIELDS = {"output", "response", "answer", "completion", "solution", "chosen", "target"}
_CLEARLY_LONGER = 2.0
"""A field is the text if it has more than so many times the characters of any other field with prose."""

_SPEAKERS = {
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "ai": "assistant",
    "model": "assistant",
}
"""What datasets call the two sides, where it is not what chat templates call them."""

_WORD = re.compile(r"[^\W\d_]{2,}")


def read_records(
    records: Iterable[tuple[str, Mapping[str, Any]]],
    text_field: str | None,
    name: str,
    source: str,
    *,
    own_source: bool = False,
) -> Iterator[Document]:
    """The documents of records, one at a time; a record with a null in place of its text is passed over.

    Args:
        records: pairs of a position that an error can name, such as `"line 7"`, and the record.
        text_field: the field that holds the text or the turns. None looks for it; see `find_text_field`.
        name: the file or dataset, for errors.
        source: the documents' source.
        own_source: whether a string in a record's field `"source"` goes before that.

    Raises:
        CorpusError: a record has no text in that field, or no field, or several, could be the text.
    """
    remaining = iter(records)
    if text_field is None:
        sample = _sample(remaining)
        if not sample:
            return
        text_field = find_text_field([record for _, record in sample], name)
        remaining = chain(sample, remaining)
    for position, record in remaining:
        if record.get(text_field, "") is None:
            continue
        own = record.get("source") if own_source else None
        yield _document(record, text_field, own if isinstance(own, str) else source, f"{name}, {position}")


def find_text_field(records: Sequence[Mapping[str, Any]], name: str) -> str:
    """The field that holds the text, by a file's or dataset's first records, of which some may lack it.

    `"text"`, if there is one that is not always null; else the first field with the turns of conversations; else one of
    the usual names; else the field with most prose, if no other has half as much.

    Args:
        records: the first records, at least one.
        name: the file or dataset, for errors.

    Raises:
        CorpusError: there is no such field, several could be it, or the records are prompts and answers in two fields.
    """
    fields = list(dict.fromkeys(field for record in records for field in record))
    values = {field: [record[field] for record in records if record.get(field) is not None] for field in fields}
    if values.get(TEXT_FIELD):
        return TEXT_FIELD
    conversations = [field for field in fields if _are_conversations(values[field])]
    if conversations:
        return conversations[0]
    if TEXT_FIELD in values:
        return TEXT_FIELD
    usual = [field for field in _USUAL_FIELDS if _have_text(values.get(field, ()))]
    if usual:
        return usual[0]
    sizes = {field: _size_of_prose(values[field]) for field in fields}
    prose = sorted((field for field in fields if sizes[field]), key=lambda field: -sizes[field])
    first = f"of its first {len(records)} records" if len(records) > 1 else "of its first record"
    remedy = (
        "Name the field, open_corpus(..., text_field='...') or hf:...?text=... of a dataset, or call it 'text'. A "
        "prompt and its answer are one conversation: {'messages': [{'role': 'user', 'content': ...}, ...]}."
    )
    if not prose:
        raise CorpusError(f"{name}: {first} there is no field with text, only {sorted(fields)}. {remedy}")
    strings = {field.lower() for field in fields if any(_text(value) for value in values[field])}
    is_two_sided = strings & _PROMPT_FIELDS and strings & _ANSWER_FIELDS
    if is_two_sided or any(sizes[field] * _CLEARLY_LONGER >= sizes[prose[0]] for field in prose[1:]):
        raise CorpusError(f"{name}: {first} several fields have text, {sorted(strings)}; which is it? {remedy}")
    return prose[0]


def turns_of(value: Any) -> tuple[Turn, ...] | None:
    """The turns of a conversation, if this is one: a list of `{role, content}` or of `{from, value}`."""
    if not isinstance(value, list):
        return None
    turns = [_turn(item) for item in value]
    return None if None in turns else tuple(turn for turn in turns if turn)


def _sample(records: Iterator[tuple[str, Mapping[str, Any]]]) -> list[tuple[str, Mapping[str, Any]]]:
    """The first records, no more of them than it takes to find the text."""
    sample: list[tuple[str, Mapping[str, Any]]] = []
    characters = 0
    for position, record in records:
        sample.append((position, record))
        characters += sum(len(value) for value in record.values() if isinstance(value, str))
        decided = record.get(TEXT_FIELD) is not None
        if decided or len(sample) == SAMPLE_RECORDS or characters > _SAMPLE_CHARACTERS:
            break
    return sample


def _are_conversations(values: Sequence[Any]) -> bool:
    turns = [turns_of(value) for value in values]
    return any(turns) and None not in turns


def _have_text(values: Sequence[Any]) -> bool:
    texts = [text for value in values if (text := _text(value))]
    return any("://" not in text.partition(" ")[0] for text in texts)


def _size_of_prose(values: Sequence[Any]) -> int:
    """How many characters a field has, if most of its strings are text of some words, and not names or addresses."""
    texts = [text for value in values if (text := _text(value))]
    prose = [text for text in texts if not text.isascii() or (len(_WORD.findall(text)) > 1 and len(text.split()) > 1)]
    return sum(map(len, texts)) if 2 * len(prose) >= len(texts) else 0


def _text(value: Any) -> str | None:
    """A string, or the bytes of one."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return None
    return value if isinstance(value, str) else None


def _turn(item: Any) -> Turn | None:
    for speaker, words in (("role", "content"), ("from", "value")):
        if isinstance(item, Mapping) and isinstance(role := item.get(speaker), str) and words in item:
            content = _words(item[words])
            return None if content is None else Turn(_SPEAKERS.get(role.lower(), role.lower()), content)
    return None


def _words(content: Any) -> str | None:
    """A content's text: a string, nothing at all (a call of a tool), or parts of which some are text."""
    if content is None:
        return ""
    if isinstance(content, list) and all(isinstance(part, Mapping) for part in content):
        return "".join(part["text"] for part in content if isinstance(part.get("text"), str))
    return content if isinstance(content, str) else None


def _document(record: Mapping[str, Any], text_field: str, source: str, position: str) -> Document:
    value = record.get(text_field)
    text = _text(value)
    if text is not None:
        return Document(text, source)
    turns = turns_of(value)
    if turns is None:
        raise CorpusError(
            f"{position}: no text in the field {text_field!r}; its fields are {sorted(record)}. Correct it, or name "
            "another field: open_corpus(..., text_field='...'), or hf:...?text=... of a dataset."
        )
    return Document.conversation(turns, source)
