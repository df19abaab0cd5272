"""From documents to token ids: plain text as text, conversations through the subject's chat template.

Corpus text is not trusted: a string in it that looks like one of the tokenizer's special tokens is tokenized as text.
Those that a chat template writes itself become the special tokens that the model was trained on.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any

from neuronscope.corpus.documents import Document, Turn
from neuronscope.subject.tokens import leading_ids

_LABELLED = "labels-1"
_FIXED_DATE = "{% macro strftime_now(format) %}26 Jul 2024{% endmacro %}"
"""Some templates write today's date; the same corpus must give the same tokens tomorrow. This date is Llama 3's own."""

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


def _chat_template(tokenizer: Any) -> str | None:
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(template, dict):  # several, by name
        template = template.get("default")
    return _FIXED_DATE + template if template and "strftime_now" in template else template


def _encode_texts(texts: list[str], tokenizer: Any) -> list[list[int]]:
    if not texts:
        return []
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
        ids: list[int] = tokenizer.apply_chat_template(
            messages,
            chat_template=template,
            return_dict=False,
            sanitize_control_tokens=True,
            tokenizer_kwargs={"verbose": False},
        )
    except TemplateError as error:
        _say_refused(str(error))
        return None
    return ids[next((len(front) for front in fronts if tuple(ids[: len(front)]) == front), 0) :]


@lru_cache(maxsize=64)
def _say_refused(reason: str) -> None:
    """Once for each reason: a dataset may have many such conversations."""
    _log.warning("The chat template refuses some conversations (%s); they are read as labelled text.", reason)
