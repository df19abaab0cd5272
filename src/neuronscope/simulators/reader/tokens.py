"""A subject's tokens as the reader's own: each by itself, so that what comes later never changes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


class Pieces:
    """Encodes tokens one by one and remembers them.

    Args:
        tokenizer: the reader's.
        capacity: how many are remembered.
    """

    def __init__(self, tokenizer: Any, capacity: int = 100_000) -> None:
        self._tokenizer = tokenizer
        self._of: dict[str, list[int]] = {}
        self._capacity = capacity
        self._filler = self.encode_texts([" "])[0][:1] or [0]

    def encode_texts(self, texts: Sequence[str]) -> list[list[int]]:
        """Each text's ids, special tokens read as text."""
        ids: list[list[int]] = self._tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)[
            "input_ids"
        ]
        return ids

    def remember(self, tokens: Iterable[str]) -> None:
        """Encode tokens that are not known yet, all together."""
        wanted = list(dict.fromkeys(tokens))
        missing = [token for token in wanted if token not in self._of]
        if len(self._of) + len(missing) > self._capacity:
            self._of.clear()
            missing = wanted
        if missing:
            self._of.update(zip(missing, self.encode_texts(missing), strict=True))

    def encode(self, tokens: Sequence[str]) -> tuple[list[int], list[int]]:
        """Ids, and for each token the index of its last one. A token without text has a space's."""
        self.remember(tokens)
        ids: list[int] = []
        last: list[int] = []
        for token in tokens:
            ids += self._of[token] or self._filler
            last.append(len(ids) - 1)
        return ids, last
