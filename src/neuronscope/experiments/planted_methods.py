"""What methods are compared with on planted neurons: what is known about them, told in three ways."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neuronscope.baselines.explained import NeuronScope
from neuronscope.experiments.planted import PlantedSubject
from neuronscope.interfaces import Explained
from neuronscope.state import Instruments
from neuronscope.types import Exemplar, ExemplarIds, Neuron


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
