"""Parts of what `explain` has found, scored through the same entry point as every baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neuronscope.baselines.registry import Explanations, baseline, explanation_of
from neuronscope.interfaces import Explained
from neuronscope.results import sortable

if TYPE_CHECKING:
    from neuronscope.results import NeuronExplanation
    from neuronscope.state import Instruments
    from neuronscope.types import ExemplarIds, Neuron


class _Found:
    """What is made of what `explain` has found."""

    name: str

    def __init__(self, explanations: Explanations) -> None:
        self._explanations = explanations

    def _of(self, neuron: Neuron) -> NeuronExplanation:
        return explanation_of(neuron, self._explanations, self.name)


@baseline("neuronscope", of_explanations=True)
class NeuronScope(_Found):
    """All modes that `explain` has found: what the baselines are compared with.

    Args:
        explanations: what was found of each neuron.
    """

    name = "neuronscope"

    async def explain(self, neuron: Neuron, exemplars: ExemplarIds, instruments: Instruments) -> Explained:
        """Return the modes' explanations, at the cost of finding them.

        Raises:
            ConfigurationError: the neuron's explanation is not known, or has no modes.
        """
        found = self._of(neuron)
        return Explained(sentences=[mode.explanation for mode in found.modes], usage=found.usage)


@baseline("first_mode", of_explanations=True)
class FirstMode(_Found):
    """The mode with the best validation score alone: what more than one mode brings.

    Args:
        explanations: what was found of each neuron.
    """

    name = "first_mode"

    async def explain(self, neuron: Neuron, exemplars: ExemplarIds, instruments: Instruments) -> Explained:
        """Return one mode's explanation, at the cost of finding all.

        Raises:
            ConfigurationError: the neuron's explanation is not known, or has no modes.
        """
        found = self._of(neuron)
        best = max(found.modes, key=lambda mode: sortable(mode.val_score))  # they are in the order of test scores
        return Explained(sentences=[best.explanation], usage=found.usage)


@baseline("unrefined", of_explanations=True)
class Unrefined(_Found):
    """The same modes before refinement, each by its representative: what refinement brings with their number held.

    Args:
        explanations: what was found of each neuron.
    """

    name = "unrefined"

    async def explain(self, neuron: Neuron, exemplars: ExemplarIds, instruments: Instruments) -> Explained:
        """Return the representatives, at the cost of all that comes before refinement.

        Raises:
            ConfigurationError: the neuron's explanation is not known, or has no modes.
        """
        found = self._of(neuron)
        return Explained(
            sentences=[mode.representative for mode in found.modes],
            earlier_usage=found.usage.of_agents("hypothesis", "decomposition"),
        )
