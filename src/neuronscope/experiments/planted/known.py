"""What is known about planted neurons, as methods are compared with it: in sentences, as predictions, on test text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronscope.baselines.explained import NeuronScope
from neuronscope.experiments.planted.meanings import EACH, HeldOut
from neuronscope.experiments.planted.neurons import PlantedSubject
from neuronscope.interfaces import Explained
from neuronscope.state import Instruments
from neuronscope.types import Exemplar, ExemplarIds, Neuron

Floats = NDArray[np.floating[Any]]


class Paper(NeuronScope):
    """What `explain` has found with the settings of the paper, scored with ours: on the same test set as all others."""

    name = "paper"


class OwnSentences:
    """A plain sentence about each meaning, its author's first: as far as the simulator reads, this is the ceiling.

    Args:
        subject: whose neurons it knows.
    """

    name = "own_sentences"

    def __init__(self, subject: PlantedSubject) -> None:
        self._subject = subject

    async def explain(self, neuron: Neuron, exemplars: ExemplarIds, instruments: Instruments) -> Explained:
        """Return the sentences."""
        meanings = self._subject.planted(neuron).meanings
        return Explained(sentences=[meaning.concept.author[0] for meaning in meanings])


class ExactTruth:
    """Where each meaning holds, by its strength: what the best reader of the best sentences would predict.

    It does not know the grades, which occurrences count, or the noise.

    Args:
        subject: whose neurons it knows.
    """

    name = "exact_truth"

    def __init__(self, subject: PlantedSubject) -> None:
        self._subject = subject

    async def explain(self, neuron: Neuron, exemplars: ExemplarIds, instruments: Instruments) -> Explained:
        """Return the predictions."""
        meanings = self._subject.planted(neuron).meanings

        def predict(shown: Sequence[Exemplar]) -> list[NDArray[np.float32]]:
            return [
                np.max(
                    [meaning.strength * (meaning.concept.ground_truth(each.tokens, "") == 1) for meaning in meanings],
                    axis=0,
                ).astype(np.float32)
                for each in shown
            ]

        return Explained(predict=predict)


def draw_held_out(subject: PlantedSubject, neuron: Neuron, text: Sequence[Exemplar], seed: int = 0) -> HeldOut:
    """Draw a neuron's held-out sequences.

    Args:
        subject: whose neuron it is.
        neuron: the neuron.
        text: sequences of the test split: see `experiments.texts.read_split`.
        seed: another seed draws others.
    """
    concepts = [meaning.concept for meaning in subject.planted(neuron).meanings]
    order = np.random.default_rng([seed, neuron.index]).permutation(len(text)).tolist()
    having = np.zeros(len(concepts), dtype=np.int64)
    lacking = 0
    chosen: list[tuple[Exemplar, Floats]] = []
    for number in order:
        exemplar = text[number]
        truth = np.stack([concept.ground_truth(exemplar.tokens, "") for concept in concepts])
        has = (truth == 1).any(axis=1)
        if (has & (having < EACH)).any():
            having += has
        elif lacking < EACH * len(concepts) and (truth == 0).all():
            lacking += 1
        else:
            continue
        chosen.append((exemplar, truth))
        if lacking >= EACH * len(concepts) and (having >= EACH).all():
            break
    activations = subject.activations([each.token_ids for each, _ in chosen], [0])[0]
    peaks = [subject.of_meanings(neuron, each.token_ids).max(axis=1) for each, _ in chosen]
    return HeldOut(
        [
            Exemplar(each.tokens, each.token_ids, row[:, neuron.index], each.sequence_id, each.source)
            for (each, _), row in zip(chosen, activations, strict=True)
        ],
        [truth for _, truth in chosen],
        [int(peak.argmax()) if peak.any() else -1 for peak in peaks],
    )
