"""A simulator reads an exemplar's text with its own tokenizer; here its predictions come back to the subject's tokens.

The two are aligned by character positions. Exemplars are text from corpora: a string in one that looks like a special
token of the simulator is read as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from neuronscope.errors import SimulatorError
from neuronscope.locks import lock_of
from neuronscope.subject.tokens import token_strings

Number = TypeVar("Number", bound=np.generic)
Positions = NDArray[np.int64]
Offsets = list[tuple[int, int]]


@dataclass(frozen=True, slots=True, eq=False)
class Aligned:
    """One exemplar as a simulator's tokens, and the way back to the subject's."""

    token_ids: list[int]
    """The simulator's ids of the text, without the special tokens that it may want around it."""
    _first: Positions
    """For each of the subject's tokens, the first of the simulator's tokens whose largest value it takes."""
    _end: Positions
    """One past the last of them."""

    def project(self, values: NDArray[Number]) -> NDArray[Number]:
        """Bring predictions back to the subject's tokens.

        A subject token takes the largest value of the simulator tokens that overlap it. Where the simulator's tokenizer
        skips its characters (as WordPiece does whitespace), it takes the value of the nearest simulator token before
        it, or, at the start of the text, after it. A text of which the simulator reads nothing has zeros.

        Args:
            values: shape `(..., len(token_ids))`.

        Returns:
            Shape `(..., number of subject tokens)`, of the same dtype.

        Raises:
            SimulatorError: not one value for each token id.
        """
        if values.shape[-1:] != (len(self.token_ids),):
            raise SimulatorError(
                f"Predictions have shape {values.shape}, but the simulator reads the text as {len(self.token_ids)} "
                "tokens: the last axis needs one value for each of Aligned.token_ids."
            )
        if not self.token_ids or not self._first.size:
            return np.zeros((*values.shape[:-1], self._first.size), dtype=values.dtype)
        padded = np.concatenate([values, values[..., -1:]], axis=-1)  # reduceat wants every bound to be a position
        bounds = np.stack([self._first, self._end], axis=1).ravel()
        largest: NDArray[Number] = np.maximum.reduceat(padded, bounds, axis=-1)[..., ::2]
        return largest


def align(tokens: Sequence[str], tokenizer: Any, token_ids: Sequence[int] | None = None) -> Aligned:
    """Read an exemplar's text with a simulator's tokenizer.

    A character that spans several subject tokens belongs to each of them. Where both tokenizers split the text alike,
    each subject token takes the value of its own counterpart.

    Args:
        tokens: the exemplar's token strings; joined, they are the text.
        tokenizer: the simulator's, a fast transformers tokenizer.
        token_ids: the subject's ids of these tokens. Where they mean the same token strings to the simulator, as they
            do if it shares the subject's tokenizer, they are kept, a conversation's special tokens included.
            Without them the text is read anew, and all of it is plain text: so a prompt is safe from its exemplars.

    Raises:
        SimulatorError: the tokenizer does not say which characters its tokens stand for.
    """
    if token_ids is not None and _means_the_same(tokens, tokenizer, token_ids):
        return _one_to_one([int(token) for token in token_ids])
    if not getattr(tokenizer, "is_fast", False):
        raise SimulatorError(
            f"The simulator's tokenizer, a {type(tokenizer).__name__}, does not say which characters its tokens stand "
            "for, so its predictions cannot be brought to the subject's tokens. Choose a simulator with a fast "
            "tokenizer (a tokenizer.json), or one that shares the subject's tokenizer."
        )
    text = "".join(tokens)
    ids, offsets = _encode(text, tokenizer)
    simulator_starts, simulator_ends = _simulator_spans(offsets)
    ends = np.cumsum([len(token) for token in tokens], dtype=np.int64)
    starts = np.concatenate([[0], ends])[: ends.size]
    if np.array_equal(starts, simulator_starts):
        return _one_to_one(ids)
    starts, ends = _widen_empty(starts, ends, np.minimum(starts, len(text) - 1))
    return Aligned(ids, *_overlaps(starts, ends, simulator_starts, simulator_ends))


def _means_the_same(tokens: Sequence[str], tokenizer: Any, token_ids: Sequence[int]) -> bool:
    known = len(tokenizer)
    return all(0 <= token < known for token in token_ids) and token_strings(tokenizer, token_ids) == list(tokens)


def _one_to_one(token_ids: list[int]) -> Aligned:
    positions = np.arange(len(token_ids), dtype=np.int64)
    return Aligned(token_ids, positions, positions + 1)


def _encode(text: str, tokenizer: Any) -> tuple[list[int], Offsets]:
    """The ids of a text, none of them special, and the characters that each stands for."""
    with lock_of(tokenizer):  # a fast one must not be used by two threads at once
        encoded = tokenizer(
            text,
            add_special_tokens=False,
            split_special_tokens=True,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
    ids: list[int] = encoded["input_ids"]
    offsets: Offsets = encoded["offset_mapping"]
    spelt_out = _spelt_out(ids, offsets, tokenizer)
    return _encode_parts(text, spelt_out, tokenizer) if spelt_out else (ids, offsets)


def _spelt_out(ids: list[int], offsets: Offsets, tokenizer: Any) -> list[int]:
    """Where to cut a text so that no string in it becomes a special token.

    Unigram has its special tokens among its pieces and finds them in a text whatever it is told.
    """
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    spans = zip(ids, offsets, strict=True)
    return sorted({start + 1 for token, (start, end) in spans if token in special and end - start > 1})


def _encode_parts(text: str, cuts: list[int], tokenizer: Any) -> tuple[list[int], Offsets]:
    ids: list[int] = []
    offsets: Offsets = []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        part_ids, part_offsets = _encode(text[start:end], tokenizer)
        ids += part_ids
        offsets += [(start + left, start + right) for left, right in part_offsets]
    return ids, offsets


def _simulator_spans(offsets: Offsets) -> tuple[Positions, Positions]:
    """Where each of the simulator's tokens starts and ends, none of them empty.

    Tokenizers that trim spaces off their offsets leave a token that is only a space nothing: it stands for the
    character before.
    """
    starts, ends = np.array(offsets, dtype=np.int64).reshape(-1, 2).T
    return _widen_empty(starts, ends, np.maximum(starts - 1, 0))


def _widen_empty(starts: Positions, ends: Positions, positions: Positions) -> tuple[Positions, Positions]:
    """Give each empty span the one character at its position."""
    empty = starts >= ends
    return np.where(empty, positions, starts), np.where(empty, positions + 1, ends)


def _overlaps(
    starts: Positions, ends: Positions, simulator_starts: Positions, simulator_ends: Positions
) -> tuple[Positions, Positions]:
    """For each span, the range of simulator tokens that overlap it, else the nearest one before it, else the first.

    The simulator's spans come in the order of the text.
    """
    first = np.searchsorted(simulator_ends, starts, side="right")
    end = np.searchsorted(simulator_starts, ends, side="left")
    nearest = np.maximum(first - 1, 0)
    skipped = first >= end
    return np.where(skipped, nearest, first), np.where(skipped, nearest + 1, end)
