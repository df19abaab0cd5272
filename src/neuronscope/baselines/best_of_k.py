"""Many sentences, and validation selects one: what choosing alone brings, without refinement and without modes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neuronscope.arguments import integer
from neuronscope.baselines.single_pass import write_sentences
from neuronscope.interfaces import Explained
from neuronscope.results import sortable

if TYPE_CHECKING:
    from neuronscope.state import Instruments
    from neuronscope.types import ExemplarIds, Neuron


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
        sentences = await write_sentences(self.k, self.name, neuron, exemplars, instruments)
        validation = exemplars.of("validation")
        scores = await instruments.scorer.score(neuron, sentences, validation)
        ranked = sorted(zip(sentences, scores, strict=True), key=lambda pair: -sortable(pair[1].value))
        return Explained(sentences=[sentence for sentence, _ in ranked[:1]])
