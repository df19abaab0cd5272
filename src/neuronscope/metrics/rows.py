"""From answers to rows of the table, whoever gave the answers; None is an answer that could not be had."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuronscope.metrics.classification import accuracy, classify, confusion
from neuronscope.metrics.data import Material, Sequences
from neuronscope.metrics.generation import Compared
from neuronscope.metrics.retrieval import auc_of_pairs, mean_difference
from neuronscope.metrics.stimuli import ROUND_SIZE, Marked, Round, fuzz
from neuronscope.metrics.table import Measurement, measurement

Answers = Sequence[bool | None] | NDArray[np.bool_]

TOO_FEW = f"fewer than {ROUND_SIZE - 1} of these sequences fire, or none is silent"
NO_ANSWER = "no answer could be read"


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


def detection_rows(
    material: Material, explanation: str, held: Sequences, says: Answers, judge: str, negatives: str, note: str = ""
) -> list[Measurement]:
    """Balanced accuracy and F1 of answers to "does it fire?", one for each sequence held."""
    answered = np.array([answer is not None for answer in says], dtype=bool)
    truth = held.fires[answered]
    counts = confusion(truth, np.array([answer for answer in says if answer is not None], dtype=bool))
    return _classified(
        material, "detection", explanation, counts, truth, judge, len(answered) - len(truth), note, negatives
    )


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
    return _classified(material, "fuzzing", explanation, counts, strata, judge, len(items) - len(answered), note)


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


def concept_rows(
    material: Material, explanation: str, compared: Compared, judge: str, abstentions: int
) -> list[Measurement]:
    """CoSy's two scores of the mean activations of written texts, held against those of random sequences."""
    concept, control = compared.written, compared.control
    if not len(concept):
        why = "the model wrote no text that could be read"
    elif not len(control):
        why = "there are no random sequences to hold against"
    else:
        why = "the neuron does the same on all random sequences"
    scores = {
        "concept_auc": (auc_of_pairs(compared.wins, material.resampling, why), 0.5),
        "concept_mad": (mean_difference(concept, control, material.resampling, why), 0.0),
    }
    return [
        measurement(
            metric,
            explanation,
            found,
            n=len(concept) + len(control),
            chance=chance,
            judge=judge,
            negatives="random",
            abstentions=abstentions,
        )
        for metric, (found, chance) in scores.items()
    ]


def _classified(
    material: Material,
    metric: str,
    explanation: str,
    counts: NDArray[np.float64],
    strata: NDArray[Any],
    judge: str,
    abstentions: int,
    note: str,
    negatives: str = "",
) -> list[Measurement]:
    balanced, harmonic = classify(counts, strata, material.resampling)
    return [
        measurement(
            f"{metric}_{name}",
            explanation,
            found if found.note else found._replace(note=note),
            n=len(counts),
            chance=chance if len(counts) else None,
            judge=judge,
            negatives=negatives,
            abstentions=abstentions,
        )
        for name, (found, chance) in (("balanced_accuracy", balanced), ("f1", harmonic))
    ]
