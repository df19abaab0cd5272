"""Fuzzing: does an explanation know where in a text the neuron is active? After delphi (EleutherAI)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuronscope.metrics.classification import Answers, classification_results, confusion, threshold
from neuronscope.metrics.context import MetricContext
from neuronscope.metrics.data import EvaluationData, Sequences
from neuronscope.metrics.judge import Judge, shuffled
from neuronscope.metrics.registry import metric
from neuronscope.metrics.stimuli import Marked, fuzz
from neuronscope.metrics.table import Measurement


@metric(
    "fuzzing",
    results=["fuzzing_balanced_accuracy", "fuzzing_f1"],
    question="does it know *where* in a text?",
    baseline="0.5; see below",
    order=40,
)
async def score_fuzzing(data: EvaluationData, context: MetricContext) -> list[Measurement]:
    """Whether marks are right, as the simulator says, and then as the language model does."""
    validation = fuzz_sequences(data.validation, context.seed)
    test = fuzz_sequences(data.test, context.seed)
    truth = np.array([stimulus.right for stimulus in validation], dtype=bool)
    results = []
    for index, explanation in enumerate(data.explanations):
        limit, note = threshold(_mark_scores(data.validation, validation, index), truth)
        answers = _mark_scores(data.test, test, index) > limit
        results += _fuzzing_results(data, explanation, test, answers, data.simulator, note)
    return results + (await judge_fuzzing(data, context.judge, context.seed) if context.judge else [])


async def judge_fuzzing(data: EvaluationData, judge: Judge, seed: int) -> list[Measurement]:
    """Whether marks are right, as the judge says."""
    stimuli = fuzz_sequences(data.test, seed)
    mixed = [stimuli[index] for index in shuffled(len(stimuli), seed)]
    results = []
    for explanation in data.explanations:
        answers = await judge.check(explanation, [stimulus.text for stimulus in mixed])
        results += _fuzzing_results(data, explanation, mixed, answers, judge.name)
    return results


class FuzzedText(NamedTuple):
    """A text of which a judge says whether its marks are right."""

    sequence: int
    """The index of its sequence; two texts have the same."""
    text: Marked
    """The marked text."""
    right: bool
    """Whether the marked tokens are those on which the neuron is active."""


def fuzz_sequences(sequences: Sequences, seed: int) -> list[FuzzedText]:
    """Each sequence on which the neuron is active twice: rightly and wrongly marked."""
    pairs = [(index, fuzz(exemplar, sequences.level, seed)) for index, exemplar in enumerate(sequences.exemplars)]
    return [
        FuzzedText(index, text, right)
        for index, pair in pairs
        if pair is not None
        for text, right in zip(pair, (True, False), strict=True)
    ]


def _fuzzing_results(
    data: EvaluationData,
    explanation: str,
    stimuli: Sequence[FuzzedText],
    answers: Answers,
    judge: str,
    note: str = "",
) -> list[Measurement]:
    """Balanced accuracy and F1 of answers to "are these marks right?", one for each stimulus.

    Intervals draw sequences: both texts of one come and go together.
    """
    answered = [(each, bool(answer)) for each, answer in zip(stimuli, answers, strict=True) if answer is not None]
    sequences, row_of = np.unique([stimulus.sequence for stimulus, _ in answered], return_inverse=True)
    truth = np.array([stimulus.right for stimulus, _ in answered], dtype=bool)
    counts = np.zeros((len(sequences), 4))
    np.add.at(counts, row_of, confusion(truth, np.array([answer for _, answer in answered], dtype=bool)))
    strata, n_missing = np.zeros(len(sequences)), len(stimuli) - len(answered)
    return classification_results(data, "fuzzing", explanation, counts, strata, judge, n_missing, note)


def _mark_scores(sequences: Sequences, stimuli: Sequence[FuzzedText], explanation: int) -> NDArray[np.float64]:
    """The mean prediction on the marked tokens of each stimulus."""
    predicted = sequences.predictions(explanation)
    means = [predicted[stimulus.sequence][stimulus.text.marks].mean() for stimulus in stimuli]
    return np.array(means, dtype=np.float64)
