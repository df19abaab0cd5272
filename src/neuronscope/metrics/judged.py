"""The metrics for which a judge answers questions or writes texts: what a judge must be able to do, and the rows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import numpy as np

from neuronscope.metrics.data import Material
from neuronscope.metrics.generation import Rows, compare
from neuronscope.metrics.measures import rounds_of
from neuronscope.metrics.rows import concept_rows, detection_rows, fuzzed, fuzzing_rows, intruder_row
from neuronscope.metrics.stimuli import Marked
from neuronscope.metrics.table import Measurement

CONCEPT_TEXTS = 10
"""Texts that are written for an explanation (PRISM's number)."""

Measure = Callable[[Sequence[str]], Awaitable[Rows]]
"""From texts to the neuron's activations on the tokens of each; texts without a token are left out."""


class Judge(Protocol):
    """Reads explanations and texts, and never sees an activation. An answer that cannot be had is None."""

    @property
    def name(self) -> str:
        """How the table calls it."""

    async def detect(self, explanation: str, texts: Sequence[str]) -> list[bool | None]:
        """Whether the neuron fires somewhere in each text, if the explanation is true."""

    async def check(self, explanation: str, texts: Sequence[Marked]) -> list[bool | None]:
        """Whether each text's marked tokens are such as the explanation speaks of."""

    async def find(self, rounds: Sequence[Sequence[Marked]]) -> list[int | None]:
        """The place, from 0, of the one text in each round on which the neuron does not fire."""

    async def write(self, explanation: str, n: int) -> list[str]:
        """Up to n texts in which the neuron fires, if the explanation is true."""


async def judged_detections(material: Material, judge: Judge, seed: int) -> list[Measurement]:
    """Whether each sequence fires, as the judge says; every sequence is asked about once."""
    everything = material.test.beside(material.near_misses)
    order = _shuffled(len(everything.exemplars), seed)
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


async def judged_fuzzings(material: Material, judge: Judge, seed: int) -> list[Measurement]:
    """Whether marks are right, as the judge says."""
    items = fuzzed(material.test, seed)
    shuffled = [items[place] for place in _shuffled(len(items), seed)]
    rows = []
    for explanation in material.explanations:
        says = await judge.check(explanation, [item.text for item in shuffled])
        rows += fuzzing_rows(material, explanation, shuffled, says, judge.name)
    return rows


async def judged_intruders(material: Material, judge: Judge, seed: int) -> list[Measurement]:
    """How often the judge finds the intruder."""
    return [
        intruder_row(material, explanation, rounds, await judge.find([each.texts for each in rounds]), judge.name)
        for explanation, rounds in rounds_of(material, seed)
    ]


async def concepts(material: Material, judge: Judge, measure: Measure, control: Rows | None) -> list[Measurement]:
    """CoSy's AUC and MAD: the judge writes, the subject reads, the neuron's mean activation on each text counts.

    Args:
        material: the evaluation's.
        judge: who writes.
        measure: what the neuron does on texts.
        control: what it does on the texts of the corpus that these are compared with; None takes the random test
            sequences, none of which is a top one.
    """
    others = material.test.only(~material.test.top).actual if control is None else control
    others = [row for row in others if row.size]
    rows = []
    for explanation in material.explanations:
        texts = (await judge.write(explanation, CONCEPT_TEXTS))[:CONCEPT_TEXTS]
        compared = compare(await measure(texts), others)
        abstentions = CONCEPT_TEXTS - len(compared.written)
        rows += concept_rows(material, explanation, compared, judge.name, abstentions)
    return rows


def _shuffled(n: int, seed: int) -> list[int]:
    """An order that gives nothing away."""
    order: list[int] = np.random.default_rng(seed).permutation(n).tolist()
    return order
