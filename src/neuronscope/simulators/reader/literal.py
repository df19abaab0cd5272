"""What a sentence quotes, read literally and causally."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neuronscope.offline.conditions import PART_SHARE, Condition
from neuronscope.offline.tokens import ends_with
from neuronscope.simulators.hybrid import near_quoted
from neuronscope.simulators.reader.batch import Array, Batch, Flags, Positions
from neuronscope.simulators.reader.sentence import sentence_of
from neuronscope.simulators.reader.vectors import Vectors

EXCEPTION = 4
"""The specificity from which a condition is an exception."""


def exact(explanation: str, batch: Batch, vectors: Vectors) -> Array | None:
    """The prediction, 0 to 10, of a sentence of nothing but quotes and grammar; None for any other one.

    What is not quoted, but close in meaning to a quoted word, activates a little.
    """
    sentence = sentence_of(explanation)
    if not sentence.is_exact:
        return None
    strength, applies, _ = literal(sentence.parse.conditions, batch, PART_SHARE)
    quoted = _with_neighbours(explanation)
    near = np.zeros(len(batch), dtype=np.float32)
    if quoted:
        cosines = batch.vectors @ vectors.stack([condition.text for condition in quoted]).T
        near = batch.words.of(near_quoted(cosines, quoted))
    return np.where(applies, strength * 10, near).astype(np.float32)


def words_of_exact(explanation: str) -> list[str]:
    """What of an explanation `exact` compares by its meaning."""
    return [condition.text for condition in _with_neighbours(explanation)]


def _with_neighbours(explanation: str) -> list[Condition]:
    return [condition for condition in sentence_of(explanation).parse.conditions if condition.has_neighbours]


def literal(conditions: Sequence[Condition], batch: Batch, part_share: float = 1.0) -> tuple[Array, Flags, Flags]:
    """For each token the strength of the most specific condition, whether one applies, whether as an exception."""
    rank = np.full(len(batch), -1)
    strength = np.zeros(len(batch), dtype=np.float32)
    for condition in conditions:
        pattern = condition.pattern
        if pattern not in batch.matches:
            batch.matches[pattern] = _matches(pattern, batch)
        at = batch.matches[pattern]
        values = np.full(len(at), condition.strength / 10, dtype=np.float32)
        if condition.form == "word" and condition.text[:1].isalpha() and part_share != 1:
            inside = batch.continues[at] & batch.contents.among([condition.text])[at]
            values[inside & ~batch.words.among([condition.text])[at]] *= part_share
        specific = condition.specificity
        decides = (specific > rank[at]) | ((specific == rank[at]) & (values > strength[at]))
        rank[at[decides]], strength[at[decides]] = specific, values[decides]
    return strength, rank >= 0, rank >= EXCEPTION


def _matches(condition: Condition, batch: Batch) -> Positions:
    """The tokens where a condition applies."""
    wanted = condition.text
    inside = np.zeros(len(batch), dtype=np.bool_)
    if not wanted:
        matched = np.ones(len(batch), dtype=np.bool_)
    elif condition.form == "ending":
        matched = batch.words.where(lambda word: word.endswith(wanted))
    elif condition.form == "beginning":
        matched = batch.words.where(lambda word: word.startswith(wanted))
    elif condition.form == "part":
        matched = batch.contents.among([wanted]) & batch.continues
    else:
        matched = batch.contents.among([wanted]) | batch.words.among([wanted])
        inside = _ends_within(condition, batch, matched)
    if condition.after:
        matched = matched & np.any([batch.after(before) for before in condition.after], axis=0)
    return np.flatnonzero(matched | inside)


def _ends_within(condition: Condition, batch: Batch, besides: Flags) -> Flags:
    """The tokens at whose end a text ends that is more than one token, or less, and stands after what it should."""
    found = np.zeros(len(batch), dtype=np.bool_)
    wanted = condition.text
    if len(wanted) < 3:
        return found
    for position in np.flatnonzero(batch.ending_in(wanted) & ~besides).tolist():
        text = batch.texts[batch.text_of[position]]
        whole = f"{batch.left(position)}{text.folded[position - batch.first[position]]}".rstrip(" ")
        if not whole.endswith(wanted):
            continue
        outer = whole[: len(whole) - len(wanted)]
        bounded = not (outer[-1:].isalnum() and wanted[0].isalnum())
        found[position] = bounded and (
            not condition.after or any(ends_with(outer, before) for before in condition.after)
        )
    return found
