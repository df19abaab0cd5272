"""Conditions: what a token can be, how strongly the neuron then activates, and what conditions predict on a text.

They are objects throughout the package. `english` writes them as a sentence where an explanation leaves it, and reads
them from one where it comes in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from neuronscope.offline.tokens import TokenFeatures

Array = NDArray[np.float32]
Form = Literal["word", "part", "ending", "beginning", "kind"]

STRENGTH_LEVELS = (10.0, 6.0, 3.6, 2.2, 1.3, 0.8)
"""The strengths, on the scale 0-10, that a sentence can express; each is 0.6 of the one before."""
DEFAULT_STRENGTH = 6.0
"""What a sentence without a strength word means."""
PART_SHARE = 0.5
"""A word that turns up as the continuation of another word activates at this share of its strength."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that a token can be, and how strongly the neuron then activates."""

    text: str
    """Lower-case text of the token, word or phrase; empty for any token (that comes after `after`)."""
    after: tuple[str, ...] = ()
    """Lower-case texts, one of which must come directly before; empty for anything."""
    strength: float = DEFAULT_STRENGTH
    """On the scale 0-10; 0 for an exception."""
    form: Form = "word"
    """A whole token or word, a part that continues a word, or a word's ending or beginning; or a kind of tokens, whose
    phrase the text is (`kinds.PHRASES`), which is told from its place and not from its text."""

    @property
    def specificity(self) -> int:
        """Which of several conditions decides: an exception, then what comes after something, then what has a text."""
        return (4 if self.strength == 0 else 0) + (2 if self.after else 0) + (1 if self.text else 0)

    @property
    def has_neighbours(self) -> bool:
        """Whether the meaning of its word can be compared: it is no part, no function word, no symbol."""
        return self.form == "word" and self.strength > 0 and len(self.text) > 2 and self.text[0].isalpha()

    @property
    def pattern(self) -> Condition:
        """The condition whatever its strength: that of 0."""
        return replace(self, strength=0.0)


def predict(conditions: Iterable[Condition], tokens: TokenFeatures) -> Array:
    """The strength of the most specific condition on each token, of exceptions 0; NaN where none applies.

    Of equally specific conditions the strongest counts. An exception outranks every condition that is not one.
    """
    values = np.full(len(tokens.contents), np.nan, dtype=np.float32)
    rank = np.full(len(tokens.contents), -1, dtype=np.int64)
    for condition in conditions:
        specific = condition.specificity
        for position, share in matches(condition, tokens):
            value = condition.strength * share
            if specific > rank[position] or (specific == rank[position] and value > values[position]):
                rank[position], values[position] = specific, value
    return values


def matches(condition: Condition, tokens: TokenFeatures) -> list[tuple[int, float]]:
    """Where a condition holds, and the share of its strength that counts there."""
    if not _can_match(condition, tokens.text):
        return []
    found = _with_text(condition, tokens)
    if condition.after:
        found = [each for each in found if any(tokens.preceded_by(each[0], before) for before in condition.after)]
    return found


def _can_match(condition: Condition, text: str) -> bool:
    """Whether a text has the letters of a condition at all: most have not, and that is quickly seen."""
    if condition.text not in text:
        return False
    return not condition.after or any(before in text or before[1:] in text for before in condition.after)


def _with_text(condition: Condition, tokens: TokenFeatures) -> list[tuple[int, float]]:
    """Where a condition's text stands, and the share of its strength that counts there."""
    if not condition.text:
        return [(position, 1.0) for position in range(len(tokens.contents))]
    if condition.form == "kind":
        return []
    if condition.form in ("ending", "beginning"):
        return _words_with(condition, tokens)
    positions = tokens.positions.get(condition.text, [])
    if condition.form == "part":
        return [(position, 1.0) for position in positions if tokens.continues[position]]
    if positions:
        whole = not condition.text[0].isalpha()  # a digit is as much itself inside a number
        return [(position, 1.0 if whole or not tokens.continues[position] else PART_SHARE) for position in positions]
    spread = []
    for first, last in tokens.spans(condition.text):
        spread += [(position, PART_SHARE) for position in range(first, last)] + [(last, 1.0)]
    return spread


def _words_with(condition: Condition, tokens: TokenFeatures) -> list[tuple[int, float]]:
    """Tokens at which words with an ending or a beginning are complete, or begun."""
    ending = condition.form == "ending"
    matches = []
    for position, word in enumerate(tokens.word_of):
        if word < 0:
            continue
        text = tokens.words[word]
        fits = text.endswith(condition.text) if ending else text.startswith(condition.text)
        following = position + 1 < len(tokens.contents) and tokens.continues[position + 1]
        if fits and (not following if ending else not tokens.continues[position]):
            matches.append((position, 1.0))
    return matches
