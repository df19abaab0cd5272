"""Intruders: have the neuron's texts anything in common at all?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronscope.llm.embeddings import unit_length
from neuronscope.metrics.bootstrap import Estimate, Resampling, estimate, ratio
from neuronscope.metrics.correlation import assign_exemplars
from neuronscope.metrics.data import Material
from neuronscope.metrics.evaluator import Bench, name_of
from neuronscope.metrics.registry import metric
from neuronscope.metrics.stimuli import ROUND_SIZE, Round, intruder_rounds
from neuronscope.metrics.table import Measurement, measurement

INTRUDER_ROUNDS = 20
"""Intruder rounds at most."""

TOO_FEW = f"fewer than {ROUND_SIZE - 1} of these sequences fire, or none is silent"
NO_ANSWER = "no answer could be read"


@metric(
    "intruder",
    rows=["intruder_accuracy"],
    tells="have the neuron's texts anything in common at all?",
    chance="0.2",
    place=60,
)
async def intruders(material: Material, bench: Bench) -> list[Measurement]:
    """How often the intruder is found, by the embeddings of what stands up to the marks, and by the language model."""
    tests, rows = rounds_of(material, bench.seed), []
    for explanation, rounds in tests:
        vectors = await bench.embed([text.focus for each in rounds for text in each.texts]) if rounds else None
        guesses = [] if vectors is None else [odd_one_out(part) for part in np.split(vectors, len(rounds))]
        rows.append(intruder_row(material, explanation, rounds, guesses, name_of(bench.embeddings)))
    if judge := bench.judge:
        for explanation, rounds in tests:
            found = await judge.find([each.texts for each in rounds])
            rows.append(intruder_row(material, explanation, rounds, found, judge.name))
    return rows


def rounds_of(material: Material, seed: int) -> list[tuple[str | None, list[Round]]]:
    """Intruder rounds of the neuron, and of each explanation where there are several.

    An explanation's rounds have the sequences that it fits better than the others do, or as well.
    """
    test = material.test
    silent = test.only(~test.fires).exemplars

    def rounds(chosen: NDArray[np.bool_]) -> list[Round]:
        return intruder_rounds(test.only(chosen).exemplars, silent, test.level, INTRUDER_ROUNDS, seed)

    found: list[tuple[str | None, list[Round]]] = [(None, rounds(test.fires))]
    if len(material.explanations) > 1 and test.exemplars:
        belongs = assign_exemplars(test.predicted, test.actual)
        found += [(text, rounds(test.fires & own)) for text, own in zip(material.explanations, belongs, strict=True)]
    return found


def intruder_row(
    material: Material, explanation: str | None, rounds: Sequence[Round], guesses: Sequence[int | None], judge: str
) -> Measurement:
    """The share of rounds whose intruder was found; intervals draw rounds, each of which has an intruder of its own."""
    answered = [(each, guess) for each, guess in zip(rounds, guesses, strict=True) if guess is not None]
    right = np.array([guess == each.intruder for each, guess in answered], dtype=bool)
    found = accuracy(right, 1 / ROUND_SIZE, material.resampling, NO_ANSWER if rounds else TOO_FEW)
    return measurement(
        "intruder_accuracy",
        explanation,
        found,
        n=len(answered),
        chance=1 / ROUND_SIZE,
        judge=judge,
        abstentions=len(rounds) - len(answered),
    )


def accuracy(right: NDArray[np.bool_], chance: float, resampling: Resampling, why: str) -> Estimate:
    """The share of right answers, with its interval.

    Args:
        right: whether each answer is right, shape `(n,)`.
        chance: the value of a guess.
        resampling: how many draws, and their seed.
        why: the note where there is no answer.
    """
    values = right.astype(float)
    even = np.zeros(len(right))
    return estimate(lambda weights: ratio(weights @ values, weights.sum(axis=1)), even, chance, resampling, why)


def odd_one_out(vectors: NDArray[np.floating[Any]]) -> int:
    """The vector least like the others: the one with the smallest mean cosine similarity to them.

    Args:
        vectors: shape `(n, dimensions)`, at least two.
    """
    unit = unit_length(vectors)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, 0.0)
    return int(np.argmin(similarity.sum(axis=1)))
