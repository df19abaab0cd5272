"""From documents to token ids: plain text as text, conversations through the subject's chat template.

Corpus text is not trusted: a string in it that looks like one of the tokenizer's special tokens is tokenized as text.
Those that a chat template writes itself become the special tokens that the model was trained on.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterator, Sequence
from copy import deepcopy
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

from neuronscope.corpus.documents import Document, Turn
from neuronscope.locks import lock_of
from neuronscope.subject.tokens import leading_ids

_LABELLED = "labels-1"
_FIXED_DATE = "{% macro strftime_now(format) %}26 Jul 2024{% endmacro %}"
"""Some templates write today's date; the same corpus must give the same tokens tomorrow. This date is Llama 3's own."""

_CUTS_TRIED = 40
"""Places of a long text that are tried for a cut, of each kind."""
_CONTEXT_CHARACTERS = 256
"""Characters on either side that decide whether a cut changes the tokens there."""

_log = logging.getLogger(__name__)


def chat_format(tokenizer: Any) -> str:
    """A short name for how conversations are written for a subject: another chat template gives another name."""
    template = _chat_template(tokenizer)
    return _LABELLED if template is None else f"template-{hashlib.sha256(template.encode()).hexdigest()[:16]}"


def encode(documents: Sequence[Document], tokenizer: Any, leading: Sequence[int] | None = None) -> list[list[int]]:
    """The token ids of each document, without the tokens that the subject puts in front of every text.

    A conversation is written with the tokenizer's chat template; where there is none, or where it refuses the turns
    (some refuse a system's turn), as its labelled text.

    Args:
        documents: the documents.
        tokenizer: the subject's transformers tokenizer.
        leading: what the subject puts in front; None is what the tokenizer does.
    """
    template = _chat_template(tokenizer)
    # Templates write the BOS themselves, where a text has one; the subject puts its own in front of every sequence.
    fronts = {tuple(leading or ()), leading_ids(tokenizer)} - {()}
    chats = [_encode_turns(document.turns, template, tokenizer, fronts) for document in documents]
    texts = [document.text for document, chat in zip(documents, chats, strict=True) if chat is None]
    encoded = iter(_encode_texts(texts, tokenizer))
    return [next(encoded) if chat is None else chat for chat in chats]


def encode_in_pieces(
    document: Document, tokenizer: Any, n_characters: int, leading: Sequence[int] | None = None
) -> Iterator[list[int]]:
    """The token ids of one long document, some at a time: what nobody asks for is never tokenized.

    The text is cut where the tokens around the cut are those of the text in one piece: nearly always between words. A
    conversation that goes through a chat template is one piece.

    Args:
        document: the document.
        tokenizer: the subject's transformers tokenizer.
        n_characters: roughly how many characters a piece has.
        leading: as for `encode`.
    """
    if document.turns and _chat_template(tokenizer) is not None:
        yield from encode([document], tokenizer, leading)
        return
    text, piece = document.text, _Cut(0, 0)
    while len(text) - piece.start > 2 * n_characters:
        cut = _cut(text, piece.start + n_characters, tokenizer)
        (ids,) = _encode_texts([text[piece.start : cut.end]], tokenizer)
        yield ids[piece.n_extra :]
        piece = cut
    (ids,) = _encode_texts([text[piece.start :]], tokenizer)
    yield ids[piece.n_extra :]


class _Cut(NamedTuple):
    """Between two pieces of a text."""

    end: int
    """Where the first ends."""
    start: int
    """Where the second begins: behind a space, if the tokenizer writes one before every text."""
    n_extra: int = 0
    """How many of the second piece's tokens stand for such a space, where the text has none."""


def _cut(text: str, near: int, tokenizer: Any) -> _Cut:
    window = range(near, max(near - 10_000, _CONTEXT_CHARACTERS), -1)
    spaces = (at for at in window if text[at] == " " and not (text[at - 1].isspace() or text[at + 1].isspace()))
    for at in [*islice(spaces, _CUTS_TRIED), *window[:_CUTS_TRIED]]:
        left, right = text[at - _CONTEXT_CHARACTERS : at], text[at : at + _CONTEXT_CHARACTERS]
        whole, before, behind, behind_space = _encode_texts([left + right, left, right, right[1:]], tokenizer)
        if before + behind == whole:
            return _Cut(at, at)
        if right[0] == " " and before + behind_space == whole:
            return _Cut(at, at + 1)
        if before + behind[1:] == whole:
            return _Cut(at, at, n_extra=1)
    return _Cut(near, near)


def own_copy(tokenizer: Any) -> Any:
    """A copy of a fast tokenizer, for a thread of its own: padding, truncation and more are settings of the object.

    Whoever else uses the tokenizer in the meantime changes them, and a text would come out cut or padded. One that
    cannot be copied, or is no fast one, is returned as it is.
    """
    if not getattr(tokenizer, "is_fast", False):
        return tokenizer
    with lock_of(tokenizer):
        try:
            return deepcopy(tokenizer)
        except Exception:  # noqa: BLE001 - parts written in Python may refuse in any way, and work all the same
            return tokenizer


def _chat_template(tokenizer: Any) -> str | None:
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(template, dict):  # several, by name
        template = template.get("default")
    return _FIXED_DATE + template if template and "strftime_now" in template else template


def _encode_texts(texts: list[str], tokenizer: Any) -> list[list[int]]:
    if not texts:
        return []
    with lock_of(tokenizer):  # a fast one must not be used by two threads at once
        ids: list[list[int]] = tokenizer(
            texts,
            add_special_tokens=False,
            split_special_tokens=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]
    return ids


def _encode_turns(
    turns: Sequence[Turn], template: str | None, tokenizer: Any, fronts: Collection[tuple[int, ...]]
) -> list[int] | None:
    """The ids of a conversation, or None if it is to be read as labelled text."""
    if not turns or template is None:
        return None
    from jinja2 import TemplateError

    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    try:
        with lock_of(tokenizer):
            ids: list[int] = tokenizer.apply_chat_template(
                messages,
                chat_template=template,
                return_dict=False,
                sanitize_control_tokens=True,
                tokenizer_kwargs={"verbose": False},
            )
    except TemplateError as error:
        _warn_refused(str(error))
        return None
    return ids[next((len(front) for front in fronts if tuple(ids[: len(front)]) == front), 0) :]


@lru_cache(maxsize=64)
def _warn_refused(reason: str) -> None:
    """Once for each reason: a dataset may have many such conversations."""
    _log.warning("The chat template refuses some conversations (%s); they are read as labelled text.", reason)
