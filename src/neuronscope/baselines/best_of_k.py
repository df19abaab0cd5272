"""Many sentences, and validation selects one: what choosing alone brings, without refinement and without modes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from neuronscope.arguments import integer
from neuronscope.baselines.registry import baseline
from neuronscope.baselines.single_pass import write_sentences
from neuronscope.interfaces import Explained
from neuronscope.results import sortable

if TYPE_CHECKING:
    from neuronscope.state import Instruments
    from neuronscope.types import ExemplarIds, Neuron


@baseline("best_of_k")
class BestOfK:
    """The sentence with the best validation score of k sentences; of equals the earliest.

    Args:
        k: how many sentences, each a request of its own.

    Raises:
        ConfigurationError: k is not a number from 1.
    """

    def __init__(self, k: int = 8) -> None:
        self.k = integer(k, "k", least=1)

    @property
    def name(self) -> str:
        """With the number of sentences."""
        return f"best_of_k:{self.k}"

    async def explain(self, neuron: Neuron, exemplars: ExemplarIds, instruments: Instruments) -> Explained:
        """Write the sentences and take the best.

        Raises:
            LLMError: no request succeeded.
            NeuronScopeError: the simulator failed.
        """
        sentences, failures = await write_sentences(self.k, self.name, neuron, exemplars, instruments)
        best = [await best_by_validation(sentences, neuron, exemplars, instruments)] if sentences else []
        return Explained(sentences=best, failures=failures)


async def best_by_validation(
    sentences: Sequence[str], neuron: Neuron, exemplars: ExemplarIds, instruments: Instruments
) -> str:
    """The sentence with the best validation score; of equals the earliest.

    Args:
        sentences: one at least.
        neuron: the neuron.
        exemplars: which sequences may be read.
        instruments: the scorer.

    Raises:
        NeuronScopeError: the simulator failed.
    """
    scores = await instruments.scorer.score(neuron, sentences, exemplars.of("validation"))
    best, _ = max(zip(sentences, scores, strict=True), key=lambda pair: sortable(pair[1].value))
    return best
