"""A subject's tokens as the reader's own: each by itself, so that what comes later never changes them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any


class Pieces:
    """Encodes tokens one by one and remembers them."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._filler = self.encode_text(" ")[:1] or [0]
        self._of = lru_cache(maxsize=100_000)(self._encode)

    def encode_text(self, text: str) -> list[int]:
        """A text's ids, special tokens read as text."""
        ids = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [int(i) for i in ids]

    def encode(self, tokens: Sequence[str]) -> tuple[list[int], list[int]]:
        """Ids, and for each token the index of its last one. A token without text has a space's."""
        ids: list[int] = []
        last: list[int] = []
        for token in tokens:
            ids += self._of(token)
            last.append(len(ids) - 1)
        return ids, last

    def _encode(self, token: str) -> list[int]:
        return self.encode_text(token) or self._filler
