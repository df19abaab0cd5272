"""From a record, of whatever file or dataset, to a document: which field holds the text, and is it a conversation?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from neuronscope.corpus.documents import Document, Turn
from neuronscope.errors import CorpusError

TEXT_FIELD = "text"
"""The field of a record that holds the text, unless there is none of that name."""

_SPEAKERS = {"human": "user", "prompter": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant"}
"""What datasets call the two sides, where it is not what chat templates call them."""


def read_records(
    records: Iterable[tuple[str, Mapping[str, Any]]],
    text_field: str | None,
    name: str,
    source: str,
    *,
    own_source: bool = False,
    nulls: bool = False,
) -> Iterator[Document]:
    """The documents of records, one at a time.

    Args:
        records: pairs of a place that an error can name, such as `"line 7"`, and the record.
        text_field: the field that holds the text or the turns. None looks at the first record: `"text"`, or else the
            first field with the turns of a conversation, or else the longest string.
        name: the file or dataset, for errors.
        source: the documents' source.
        own_source: whether a string in a record's field `"source"` goes before that.
        nulls: whether a record may have a null in place of its text, as tables do; it is passed over.

    Raises:
        CorpusError: a record has no text in that field, or the first one has none at all.
    """
    for place, record in records:
        if text_field is None:
            text_field = find_text_field(record, name)
        if nulls and record.get(text_field, "") is None:
            continue
        own = record.get("source") if own_source else None
        yield _document(record, text_field, own if isinstance(own, str) else source, f"{name}, {place}")


def find_text_field(record: Mapping[str, Any], name: str) -> str:
    """The field of a first record that holds its text; see `read_records`."""
    strings = {field: len(value) for field, value in record.items() if isinstance(value, str)}
    if TEXT_FIELD in strings:
        return TEXT_FIELD
    conversations = [field for field, value in record.items() if turns_of(value)]
    if conversations:
        return conversations[0]
    if not strings:
        raise CorpusError(
            f"{name}: its first record has no field with text, only {sorted(record)}. "
            "Put the text into a field called 'text'."
        )
    return max(strings, key=lambda field: strings[field])


def turns_of(value: Any) -> tuple[Turn, ...] | None:
    """The turns of a conversation, if this is one: a list of `{role, content}` or of `{from, value}`."""
    if not isinstance(value, list):
        return None
    turns = [_turn(item) for item in value]
    return None if None in turns else tuple(turn for turn in turns if turn)


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


def _document(record: Mapping[str, Any], text_field: str, source: str, place: str) -> Document:
    value = record.get(text_field)
    if isinstance(value, str):
        return Document(value, source)
    turns = turns_of(value)
    if turns is None:
        raise CorpusError(
            f"{place}: no text in the field {text_field!r}; its fields are {sorted(record)}. Correct it, or name "
            "another field: open_corpus(..., text_field='...'), or hf:...?text=... of a dataset."
        )
    return Document.conversation(turns, source)
