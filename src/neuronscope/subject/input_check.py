"""Whether a model can read given token ids."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch

from neuronscope.errors import SubjectError


def check_input(name: str, model: Any, tokenizer: Any, rows: torch.Tensor) -> None:
    """Fail in words here; an index error on a GPU would take the whole process down.

    Args:
        name: what the subject is called.
        model: the model.
        tokenizer: its tokenizer.
        rows: input ids, `(batch, length)`.

    Raises:
        SubjectError: the model does not know an id, or reads fewer tokens at once.
    """
    vocabulary = _vocabulary(model)
    if vocabulary is None:
        return
    low, high = int(rows.min()), int(rows.max())
    if low < 0 or high >= vocabulary:
        own = low >= 0 and high < _size(tokenizer)
        raise SubjectError(
            f"{name} knows token ids 0 to {vocabulary - 1}, not {low if low < 0 else high}. "
            + (
                f"Its own tokenizer has {_size(tokenizer)} tokens: some were added, and the model has no "
                "embedding for them. Give it some, model.resize_token_embeddings(len(tokenizer)), or load the "
                "tokenizer that was saved with the model."
                if own
                else "Tokenize with the subject's own tokenizer."
            )
        )
    context = _setting(model, "max_position_embeddings")
    if context is not None and rows.shape[1] > context:
        raise SubjectError(
            f"{name} reads at most {context} tokens at once, BOS included; got {rows.shape[1]}. Use shorter sequences."
        )


def _vocabulary(model: Any) -> int | None:
    """How many token ids a model knows, if it tells."""
    with suppress(AttributeError, NotImplementedError):
        return int(model.get_input_embeddings().weight.shape[0])
    return _setting(model, "vocab_size")


def _setting(model: Any, name: str) -> int | None:
    config: Any = getattr(model, "config", None)
    found = getattr(config.get_text_config() if hasattr(config, "get_text_config") else config, name, None)
    return found if isinstance(found, int) else None


def _size(tokenizer: Any) -> int:
    return len(tokenizer) if hasattr(tokenizer, "__len__") else 0
