"""What judges are asked about: sequences that fire or not, marked tokens, rounds with an intruder, near misses."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuronscope.config import FIRING_SHARE as FIRING_SHARE
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
        """The words up to and including the last marked token: where the neuron looks, and no further."""
        last = int(np.flatnonzero(self.marks)[-1]) if self.marks.any() else len(self.tokens) - 1
        return " ".join("".join(self.tokens[: last + 1]).split()[-FOCUS_WORDS:])


class Round(NamedTuple):
    """Texts on which the neuron fires, and one among them on which it does not."""

    texts: tuple[Marked, ...]
    intruder: int
    """Its place."""


def peaks(exemplars: Sequence[Exemplar]) -> NDArray[np.float64]:
    """Each sequence's largest activation, shape `(sequences,)`."""
    return np.array([exemplar.activations.max(initial=0.0) for exemplar in exemplars], dtype=np.float64)


def firing_tokens(exemplar: Exemplar, level: float) -> NDArray[np.bool_]:
    """Which tokens fire: those above the level, shape `(tokens,)`."""
    return np.asarray(exemplar.activations > level)


def fuzz(exemplar: Exemplar, level: float, seed: int) -> tuple[Marked, Marked] | None:
    """The same text twice: its firing tokens marked, and as many others marked in their stead.

    Both have the same words, so only knowing *where* the neuron fires tells them apart (delphi's fuzzing of activating
    examples). Where fewer than that are silent, all silent tokens are marked.

    Returns:
        Rightly and wrongly marked; None where no token fires, or every one does.
    """
    fires = firing_tokens(exemplar, level)
    if fires.all() or not fires.any():
        return None
    generator = np.random.default_rng([seed, exemplar.sequence_id])
    return Marked(exemplar.tokens, fires), Marked(exemplar.tokens, _others(fires, int(fires.sum()), generator))


def intruder_rounds(
    firing: Sequence[Exemplar], silent: Sequence[Exemplar], level: float, n: int, seed: int
) -> list[Round]:
    """Rounds of an intruder test: four texts that fire, and one that does not, in an order that gives nothing away.

    Firing tokens are marked; the intruder has as many marks, on tokens drawn at random, as the others have on average.
    Every round has an intruder of its own.

    Args:
        firing: sequences on which the neuron fires.
        silent: sequences on which it does not.
        level: the activation above which a token fires.
        n: how many rounds; fewer if there are fewer silent sequences, none if there are fewer than four firing ones.
        seed: seeds what is drawn.
    """
    if len(firing) < ROUND_SIZE - 1:
        return []
    drawn = random.Random(seed)
    rounds = []
    for intruder in drawn.sample(list(silent), min(n, len(silent))):
        others = drawn.sample(list(firing), ROUND_SIZE - 1)
        marked = [Marked(exemplar.tokens, firing_tokens(exemplar, level)) for exemplar in others]
        n_marks = max(1, round(float(np.mean([text.marks.sum() for text in marked]))))
        generator = np.random.default_rng([seed, intruder.sequence_id])
        place = drawn.randrange(ROUND_SIZE)
        silence = np.zeros(len(intruder.tokens), dtype=bool)
        marked.insert(place, Marked(intruder.tokens, _others(silence, n_marks, generator)))
        rounds.append(Round(tuple(marked), place))
    return rounds


def near_misses(
    firing: NDArray[np.floating[Any]], candidates: NDArray[np.floating[Any]], allowed: NDArray[np.bool_]
) -> list[int]:
    """For each firing text the candidate most like it by cosine similarity; no candidate twice.

    The pairs that are most alike choose first.

    Args:
        firing: embeddings, shape `(firing, dimensions)`.
        candidates: embeddings, shape `(candidates, dimensions)`.
        allowed: which candidates do not fire, shape `(candidates,)`.

    Returns:
        Places among the candidates, at most one per firing text, the most alike first.
    """
    if not len(firing) or not allowed.any():
        return []
    similarity = unit_length(firing) @ unit_length(candidates).T
    similarity[:, ~allowed] = -np.inf
    chosen: list[int] = []
    for _ in range(min(len(firing), int(allowed.sum()))):
        text, candidate = np.unravel_index(int(np.argmax(similarity)), similarity.shape)
        chosen.append(int(candidate))
        similarity[text, :] = -np.inf
        similarity[:, candidate] = -np.inf
    return chosen


def _others(fires: NDArray[np.bool_], n: int, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Marks on up to n of the tokens that do not fire."""
    silent = np.flatnonzero(~fires)
    marks = np.zeros(len(fires), dtype=bool)
    marks[generator.permutation(silent)[:n]] = True
    return marks
