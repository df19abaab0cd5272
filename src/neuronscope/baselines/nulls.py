"""Nulls: explanations that have nothing to do with the neuron. What scores no better has explained nothing."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from neuronscope.arguments import integer
from neuronscope.baselines.best_of_k import best_by_validation
from neuronscope.baselines.registry import Explanations, baseline
from neuronscope.errors import ConfigurationError
from neuronscope.interfaces import Explained
from neuronscope.text import distinct

if TYPE_CHECKING:
    from neuronscope.results import NeuronExplanation
    from neuronscope.state import Instruments
    from neuronscope.types import ExemplarIds, Neuron


@baseline("another_neuron", of_explanations=True)
class AnotherNeuron:
    """All modes of another neuron, drawn at random: of the same layer, if another one of it is known.

    Args:
        explanations: what was found of each neuron.
    """

    name = "another_neuron"

    def __init__(self, explanations: Explanations) -> None:
        self._explanations = explanations

    async def explain(self, neuron: Neuron, exemplars: ExemplarIds, instruments: Instruments) -> Explained:
        """Return the other neuron's explanations.

        Raises:
            ConfigurationError: no other neuron's explanation is known.
        """
        others = _others(neuron, self._explanations, self.name)
        near = [each for each in others if each.neuron.layer == neuron.layer] or others
        chosen = _generator(neuron, instruments, self.name).choice(near)
        return Explained(sentences=[mode.explanation for mode in chosen.modes])


@baseline("random_description", of_explanations=True)
class RandomDescription:
    """A sentence drawn at random from those of other neurons; of several, the one with the best validation score.

    With as many as a best of k has, it says how much of that score is choosing.

    Args:
        explanations: what was found of each neuron.
        k: how many to draw; fewer where there are no more.
    """

    def __init__(self, explanations: Explanations, k: int = 1) -> None:
        self._explanations = explanations
        self.k = integer(k, "k", least=1)

    @property
    def name(self) -> str:
        """With the number of sentences, if that is not 1."""
        return "random_description" if self.k == 1 else f"random_description:{self.k}"

    async def explain(self, neuron: Neuron, exemplars: ExemplarIds, instruments: Instruments) -> Explained:
        """Draw the sentences and return the best.

        Raises:
            ConfigurationError: no other neuron's explanation is known.
        """
        others = _others(neuron, self._explanations, self.name)
        sentences = distinct([mode.explanation for each in others for mode in each.modes])
        # one order for every k, so that the draws of a smaller k are among those of a larger one
        drawn = _generator(neuron, instruments, "random_description").sample(sentences, len(sentences))[: self.k]
        if self.k == 1:
            return Explained(sentences=drawn)
        return Explained(sentences=[await best_by_validation(drawn, neuron, exemplars, instruments)])


def _others(neuron: Neuron, explanations: Explanations, name: str) -> list[NeuronExplanation]:
    """The explanations of all other neurons that have modes, in the neurons' order."""
    same = (neuron.site, neuron.layer, neuron.index)
    found = [
        each
        for other, each in sorted(explanations.items())
        if (other.site, other.layer, other.index) != same and each.modes
    ]
    if not found:
        raise ConfigurationError(
            f"The baseline {name!r} takes the explanation of another neuron than {neuron}, and none is known. Compare "
            "several neurons."
        )
    return found


def _generator(neuron: Neuron, instruments: Instruments, name: str) -> random.Random:
    return random.Random(f"{instruments.config.seed}/{neuron}/{name}")
