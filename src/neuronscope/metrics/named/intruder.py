"""Intruders: have the neuron's texts anything in common at all?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronscope.llm.embeddings import unit_length
from neuronscope.metrics.bootstrap import Estimate, Resampling, estimate, ratio
from neuronscope.metrics.context import MetricContext, name_of
from neuronscope.metrics.correlation import assign_exemplars
from neuronscope.metrics.data import EvaluationData
from neuronscope.metrics.registry import metric
from neuronscope.metrics.stimuli import ROUND_SIZE, Round, draw_intruder_rounds
from neuronscope.metrics.table import Measurement, measurement

INTRUDER_ROUNDS = 20
"""Intruder rounds at most."""

TOO_FEW = f"the neuron is active on fewer than {ROUND_SIZE - 1} of these sequences, or inactive on none"
NO_ANSWER = "no answer could be read"


@metric(
    "intruder",
    results=["intruder_accuracy"],
    question="have the neuron's texts anything in common at all?",
    baseline="0.2",
    order=60,
)
async def score_intruders(data: EvaluationData, context: MetricContext) -> list[Measurement]:
    """How often the intruder is found, by the embeddings of what stands up to the marks, and by the language model."""
    drawn, results = _draw_rounds(data, context.seed), []
    for explanation, rounds in drawn:
        vectors = await context.embed([text.focus for each in rounds for text in each.texts]) if rounds else None
        guesses = [] if vectors is None else [odd_one_out(part) for part in np.split(vectors, len(rounds))]
        results.append(_intruder_result(data, explanation, rounds, guesses, name_of(context.embeddings)))
    if judge := context.judge:
        for explanation, rounds in drawn:
            picked = await judge.pick_intruders([each.texts for each in rounds])
            results.append(_intruder_result(data, explanation, rounds, picked, judge.name))
    return results


def _draw_rounds(data: EvaluationData, seed: int) -> list[tuple[str | None, list[Round]]]:
    """Intruder rounds of the neuron, and of each explanation where there are several.

    An explanation's rounds have the sequences that it fits better than the others do, or as well.
    """
    test = data.test
    inactive = test.subset(~test.active).exemplars

    def rounds(chosen: NDArray[np.bool_]) -> list[Round]:
        return draw_intruder_rounds(test.subset(chosen).exemplars, inactive, test.level, INTRUDER_ROUNDS, seed)

    found: list[tuple[str | None, list[Round]]] = [(None, rounds(test.active))]
    if len(data.explanations) > 1 and test.exemplars:
        belongs = assign_exemplars(test.predicted, test.actual)
        found += [(text, rounds(test.active & own)) for text, own in zip(data.explanations, belongs, strict=True)]
    return found


def _intruder_result(
    data: EvaluationData, explanation: str | None, rounds: Sequence[Round], guesses: Sequence[int | None], judge: str
) -> Measurement:
    """The share of rounds whose intruder was found; intervals draw rounds, each of which has an intruder of its own."""
    answered = [(each, guess) for each, guess in zip(rounds, guesses, strict=True) if guess is not None]
    right = np.array([guess == each.intruder for each, guess in answered], dtype=bool)
    found = accuracy(right, 1 / ROUND_SIZE, data.resampling, NO_ANSWER if rounds else TOO_FEW)
    return measurement(
        "intruder_accuracy",
        explanation,
        found,
        n=len(answered),
        baseline=1 / ROUND_SIZE,
        judge=judge,
        abstentions=len(rounds) - len(answered),
    )


def accuracy(right: NDArray[np.bool_], baseline: float, resampling: Resampling, why: str) -> Estimate:
    """The share of right answers, with its interval.

    Args:
        right: whether each answer is right, shape `(n,)`.
        baseline: the value of a guess.
        resampling: how many draws, and their seed.
        why: the note where there is no answer.
    """
    values = right.astype(float)
    even = np.zeros(len(right))
    return estimate(lambda weights: ratio(weights @ values, weights.sum(axis=1)), even, baseline, resampling, why)


def odd_one_out(vectors: NDArray[np.floating[Any]]) -> int:
    """The vector least like the others: the one with the smallest mean cosine similarity to them.

    Args:
        vectors: shape `(n, dimensions)`, at least two.
    """
    unit = unit_length(vectors)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, 0.0)
    return int(np.argmin(similarity.sum(axis=1)))
