"""Detection: does an explanation know which texts make the neuron fire? After delphi (EleutherAI)."""

from __future__ import annotations

import numpy as np

from neuronscope.metrics.classification import Answers, classified, confusion, threshold
from neuronscope.metrics.data import Material, Sequences
from neuronscope.metrics.evaluator import Bench
from neuronscope.metrics.judge import Judge, shuffled
from neuronscope.metrics.registry import metric
from neuronscope.metrics.table import Measurement


@metric(
    "detection",
    rows=["detection_balanced_accuracy", "detection_f1"],
    tells="does it know *which* texts fire?",
    chance="0.5; see below",
    near_misses=True,
    place=30,
)
async def detections(material: Material, bench: Bench) -> list[Measurement]:
    """Whether each sequence fires, as the simulator says, and then as the language model does."""
    rows = []
    for negatives, held in material.against():
        for number, explanation in enumerate(material.explanations):
            limit, note = threshold(material.validation.strongest(number), material.validation.fires)
            says = held.strongest(number) > limit
            rows += detection_rows(material, explanation, held, says, material.simulator, negatives, note)
    return rows + (await judged_detections(material, bench.judge, bench.seed) if bench.judge else [])


async def judged_detections(material: Material, judge: Judge, seed: int) -> list[Measurement]:
    """Whether each sequence fires, as the judge says; every sequence is asked about once."""
    everything = material.test.beside(material.near_misses)
    order = shuffled(len(everything.exemplars), seed)
    texts = everything.texts
    rows = []
    for explanation in material.explanations:
        said = await judge.detect(explanation, [texts[place] for place in order])
        answers = [answer for _, answer in sorted(zip(order, said, strict=True), key=lambda pair: pair[0])]
        of_test, of_misses = answers[: len(material.test.exemplars)], answers[len(material.test.exemplars) :]
        of_firing = [answer for answer, fires in zip(of_test, material.test.fires, strict=True) if fires]
        for (negatives, held), says in zip(material.against(), (of_test, of_firing + of_misses), strict=True):
            rows += detection_rows(material, explanation, held, says, judge.name, negatives)
    return rows


def detection_rows(
    material: Material, explanation: str, held: Sequences, says: Answers, judge: str, negatives: str, note: str = ""
) -> list[Measurement]:
    """Balanced accuracy and F1 of answers to "does it fire?", one for each sequence held."""
    answered = np.array([answer is not None for answer in says], dtype=bool)
    truth = held.fires[answered]
    counts = confusion(truth, np.array([answer for answer in says if answer is not None], dtype=bool))
    return classified(
        material, "detection", explanation, counts, truth, judge, len(answered) - len(truth), note, negatives
    )
