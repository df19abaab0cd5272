"""What judges are asked about: marked tokens, rounds with an intruder, and hard negatives."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuronscope.config import ACTIVATION_THRESHOLD as ACTIVATION_THRESHOLD
from neuronscope.llm.embeddings import unit_length
from neuronscope.types import Exemplar

ROUND_SIZE = 5
"""Texts of an intruder round, the intruder included."""

FOCUS_WORDS = 8
"""Words up to a marked token that stand for it where a text is compared by its embedding."""


class Marked(NamedTuple):
    """A text with some of its tokens marked, and nothing that says whether rightly."""

    tokens: Sequence[str]
    """The text of each token."""
    marks: NDArray[np.bool_]
    """Which tokens are marked, shape `(tokens,)`."""

    @property
    def focus(self) -> str:
        """The words up to and including the last marked token: what the neuron's activation there depends on."""
        last = int(np.flatnonzero(self.marks)[-1]) if self.marks.any() else len(self.tokens) - 1
        return " ".join("".join(self.tokens[: last + 1]).split()[-FOCUS_WORDS:])


class Round(NamedTuple):
    """Texts on which the neuron is active, and one among them on which it is inactive."""

    texts: tuple[Marked, ...]
    intruder: int
    """Its index."""


def max_activations(exemplars: Sequence[Exemplar]) -> NDArray[np.float64]:
    """Each sequence's largest activation, shape `(sequences,)`."""
    return np.array([exemplar.activations.max(initial=0.0) for exemplar in exemplars], dtype=np.float64)


def active_tokens(exemplar: Exemplar, level: float) -> NDArray[np.bool_]:
    """On which tokens the neuron is active: those above the level, shape `(tokens,)`."""
    return np.asarray(exemplar.activations > level)


def fuzz(exemplar: Exemplar, level: float, seed: int) -> tuple[Marked, Marked] | None:
    """The same text twice: its activating tokens marked, and as many others marked in their stead.

    Both have the same words, so only knowing *where* the neuron activates tells them apart (delphi's fuzzing of
    activating examples). Where fewer than that are inactive, all inactive tokens are marked.

    Returns:
        Rightly and wrongly marked; None where no token is active, or every one is.
    """
    active = active_tokens(exemplar, level)
    if active.all() or not active.any():
        return None
    generator = np.random.default_rng([seed, exemplar.sequence_id])
    return Marked(exemplar.tokens, active), Marked(exemplar.tokens, _others(active, int(active.sum()), generator))


def draw_intruder_rounds(
    active: Sequence[Exemplar], inactive: Sequence[Exemplar], level: float, n: int, seed: int
) -> list[Round]:
    """Rounds of an intruder test: four texts with activity, and one without, in a random order.

    Activating tokens are marked; the intruder has as many marks, on tokens drawn at random, as the others have on
    average. Every round has an intruder of its own.

    Args:
        active: sequences on which the neuron is active.
        inactive: sequences on which it is not.
        level: the activation above which the neuron is active on a token.
        n: how many rounds; fewer if there are fewer inactive sequences, none if there are fewer than four active ones.
        seed: seeds what is drawn.
    """
    if len(active) < ROUND_SIZE - 1:
        return []
    drawn = random.Random(seed)
    rounds = []
    for intruder in drawn.sample(list(inactive), min(n, len(inactive))):
        others = drawn.sample(list(active), ROUND_SIZE - 1)
        marked = [Marked(exemplar.tokens, active_tokens(exemplar, level)) for exemplar in others]
        n_marks = max(1, round(float(np.mean([text.marks.sum() for text in marked]))))
        generator = np.random.default_rng([seed, intruder.sequence_id])
        index = drawn.randrange(ROUND_SIZE)
        none_active = np.zeros(len(intruder.tokens), dtype=bool)
        marked.insert(index, Marked(intruder.tokens, _others(none_active, n_marks, generator)))
        rounds.append(Round(tuple(marked), index))
    return rounds


def match_hard_negatives(
    active: NDArray[np.floating[Any]], candidates: NDArray[np.floating[Any]], allowed: NDArray[np.bool_]
) -> list[int]:
    """For each text with activity the candidate most like it by cosine similarity; no candidate twice.

    The most similar pairs are matched first.

    Args:
        active: embeddings of texts on which the neuron is active, shape `(active, dimensions)`.
        candidates: embeddings, shape `(candidates, dimensions)`.
        allowed: on which candidates the neuron is inactive, shape `(candidates,)`.

    Returns:
        Indices of candidates, at most one per active text, the most similar first.
    """
    if not len(active) or not allowed.any():
        return []
    similarity = unit_length(active) @ unit_length(candidates).T
    similarity[:, ~allowed] = -np.inf
    chosen: list[int] = []
    for _ in range(min(len(active), int(allowed.sum()))):
        text, candidate = np.unravel_index(int(np.argmax(similarity)), similarity.shape)
        chosen.append(int(candidate))
        similarity[text, :] = -np.inf
        similarity[:, candidate] = -np.inf
    return chosen


def _others(active: NDArray[np.bool_], n: int, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Marks on up to n of the inactive tokens."""
    inactive = np.flatnonzero(~active)
    marks = np.zeros(len(active), dtype=bool)
    marks[generator.permutation(inactive)[:n]] = True
    return marks
