"""Fuzzing: does an explanation know where in a text the neuron fires? After delphi (EleutherAI)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuronscope.metrics.classification import Answers, classified, confusion, threshold
from neuronscope.metrics.data import Material, Sequences
from neuronscope.metrics.evaluator import Bench
from neuronscope.metrics.judge import Judge, shuffled
from neuronscope.metrics.registry import metric
from neuronscope.metrics.stimuli import Marked, fuzz
from neuronscope.metrics.table import Measurement


@metric(
    "fuzzing",
    rows=["fuzzing_balanced_accuracy", "fuzzing_f1"],
    tells="does it know *where* in a text?",
    chance="0.5; see below",
    place=40,
)
async def fuzzings(material: Material, bench: Bench) -> list[Measurement]:
    """Whether marks are right, as the simulator says, and then as the language model does."""
    validation, test = fuzzed(material.validation, bench.seed), fuzzed(material.test, bench.seed)
    truth = np.array([item.right for item in validation], dtype=bool)
    rows = []
    for number, explanation in enumerate(material.explanations):
        limit, note = threshold(_mark_scores(material.validation, validation, number), truth)
        says = _mark_scores(material.test, test, number) > limit
        rows += fuzzing_rows(material, explanation, test, says, material.simulator, note)
    return rows + (await judged_fuzzings(material, bench.judge, bench.seed) if bench.judge else [])


async def judged_fuzzings(material: Material, judge: Judge, seed: int) -> list[Measurement]:
    """Whether marks are right, as the judge says."""
    items = fuzzed(material.test, seed)
    mixed = [items[place] for place in shuffled(len(items), seed)]
    rows = []
    for explanation in material.explanations:
        says = await judge.check(explanation, [item.text for item in mixed])
        rows += fuzzing_rows(material, explanation, mixed, says, judge.name)
    return rows


class Fuzzed(NamedTuple):
    """A text of which a judge says whether its marks are right."""

    place: int
    """Which sequence it is of; two texts have the same."""
    text: Marked
    """The marked text."""
    right: bool
    """Whether the marked tokens are those that fire."""


def fuzzed(sequences: Sequences, seed: int) -> list[Fuzzed]:
    """Each sequence that fires twice: rightly and wrongly marked."""
    pairs = [(place, fuzz(exemplar, sequences.level, seed)) for place, exemplar in enumerate(sequences.exemplars)]
    return [
        Fuzzed(place, text, right)
        for place, pair in pairs
        if pair is not None
        for text, right in zip(pair, (True, False), strict=True)
    ]


def fuzzing_rows(
    material: Material, explanation: str, items: Sequence[Fuzzed], says: Answers, judge: str, note: str = ""
) -> list[Measurement]:
    """Balanced accuracy and F1 of answers to "are these marks right?", one for each item.

    Intervals draw sequences: both texts of one come and go together.
    """
    answered = [(item, bool(answer)) for item, answer in zip(items, says, strict=True) if answer is not None]
    places, row_of = np.unique([item.place for item, _ in answered], return_inverse=True)
    truth = np.array([item.right for item, _ in answered], dtype=bool)
    counts = np.zeros((len(places), 4))
    np.add.at(counts, row_of, confusion(truth, np.array([answer for _, answer in answered], dtype=bool)))
    strata = np.zeros(len(places))
    return classified(material, "fuzzing", explanation, counts, strata, judge, len(items) - len(answered), note)


def _mark_scores(sequences: Sequences, items: Sequence[Fuzzed], explanation: int) -> NDArray[np.float64]:
    """The mean prediction on the marked tokens of each item."""
    rows = sequences.rows(explanation)
    return np.array([rows[item.place][item.text.marks].mean() for item in items], dtype=np.float64)
