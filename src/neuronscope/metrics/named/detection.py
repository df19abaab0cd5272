"""Detection: does an explanation know on which texts the neuron is active? After delphi (EleutherAI)."""

from __future__ import annotations

import numpy as np

from neuronscope.metrics.classification import Answers, classification_results, confusion, threshold
from neuronscope.metrics.context import MetricContext
from neuronscope.metrics.data import EvaluationData, Sequences
from neuronscope.metrics.judge import Judge, shuffled
from neuronscope.metrics.registry import metric
from neuronscope.metrics.table import Measurement


@metric(
    "detection",
    results=["detection_balanced_accuracy", "detection_f1"],
    question="does it know *which* texts activate the neuron?",
    baseline="0.5; see below",
    hard_negatives=True,
    order=30,
)
async def score_detection(data: EvaluationData, context: MetricContext) -> list[Measurement]:
    """Whether the neuron is active on each sequence, as the simulator says, and then as the language model does."""
    results = []
    for negatives, sequences in data.with_negatives():
        for index, explanation in enumerate(data.explanations):
            limit, note = threshold(data.validation.max_predictions(index), data.validation.active)
            answers = sequences.max_predictions(index) > limit
            results += _detection_results(data, explanation, sequences, answers, data.simulator, negatives, note)
    return results + (await judge_detection(data, context.judge, context.seed) if context.judge else [])


async def judge_detection(data: EvaluationData, judge: Judge, seed: int) -> list[Measurement]:
    """Whether the neuron is active on each sequence, as the judge says; every sequence is asked about once."""
    texts, n_test = data.test.concatenate(data.hard_negatives).texts, len(data.test.exemplars)
    order = shuffled(len(texts), seed)
    results = []
    for explanation in data.explanations:
        in_order = await judge.detect(explanation, [texts[index] for index in order])
        answers = [answer for _, answer in sorted(zip(order, in_order, strict=True), key=lambda pair: pair[0])]
        of_test, of_negatives = answers[:n_test], answers[n_test:]
        of_active = [answer for answer, active in zip(of_test, data.test.active, strict=True) if active]
        for (negatives, sequences), predicted in zip(
            data.with_negatives(), (of_test, of_active + of_negatives), strict=True
        ):
            results += _detection_results(data, explanation, sequences, predicted, judge.name, negatives)
    return results


def _detection_results(
    data: EvaluationData,
    explanation: str,
    sequences: Sequences,
    answers: Answers,
    judge: str,
    negatives: str,
    note: str = "",
) -> list[Measurement]:
    """Balanced accuracy and F1 of answers to "is the neuron active?", one for each sequence."""
    answered = np.array([answer is not None for answer in answers], dtype=bool)
    truth = sequences.active[answered]
    counts = confusion(truth, np.array([answer for answer in answers if answer is not None], dtype=bool))
    n_missing = len(answered) - len(truth)
    return classification_results(data, "detection", explanation, counts, truth, judge, n_missing, note, negatives)
