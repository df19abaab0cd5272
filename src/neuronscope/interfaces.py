"""What the parts expect of each other: anything that fits may take a part's place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from neuronscope.llm.usage import UsageTracker
    from neuronscope.types import Exemplar, Neuron


@runtime_checkable
class Subject(Protocol):
    """The language model being explained; a planted or remote model fits as well as a loaded one."""

    @property
    def tokenizer(self) -> Any:
        """A transformers tokenizer: text to token ids and back."""

    @property
    def n_layers(self) -> int:
        """How many layers have neurons."""

    def width(self, layer: int) -> int:
        """How many neurons one layer has."""

    def activations(
        self, token_ids: Sequence[Sequence[int]], layers: Sequence[int]
    ) -> dict[int, list[NDArray[np.float32]]]:
        """Raw (signed) activations of whole layers on a batch of sequences of any lengths.

        Args:
            token_ids: sequences without the model's BOS, which the subject adds itself and whose activation it
                discards.
            layers: layer numbers, from 0.

        Returns:
            For each layer, one `(len(sequence), width)` array per sequence.
        """


@runtime_checkable
class Simulator(Protocol):
    """Predicts a neuron's activations from an explanation and the tokens alone."""

    def simulate(self, explanations: Sequence[str], exemplars: Sequence[Exemplar]) -> list[NDArray[np.float32]]:
        """Predict every explanation on every exemplar.

        It is called in a worker thread, and never sees the truth: the exemplars' activations are blanked.

        Returns:
            One `(n_explanations, seq_len)` array per exemplar, on the scale 0-10.
        """


@runtime_checkable
class BatchSimulator(Simulator, Protocol):
    """A simulator that predicts for several neurons in one call, in common batches."""

    def simulate_many(
        self, requests: Sequence[tuple[Sequence[str], Sequence[Exemplar]]]
    ) -> list[list[NDArray[np.float32]]]:
        """`simulate` for each request: explanations, and the exemplars on which each of them is to be predicted."""


@runtime_checkable
class CountedSimulator(Simulator, Protocol):
    """A simulator that asks a language model, whose requests are counted with the neuron that they are made for."""

    def counted_by(self, usage: UsageTracker) -> Simulator:
        """The same simulator, whose requests this tracker counts."""


@runtime_checkable
class ExemplarSource(Protocol):
    """Where a neuron's exemplars come from: an `ExemplarStore`, or one of yours."""

    def exemplars(self, neuron: Neuron, split: str = "train", n: int = 20) -> list[Exemplar]:
        """The neuron's `n` top sequences of a split, strongest first."""

    def random_sequences(self, neuron: Neuron, split: str = "test", n: int = 20, seed: int = 0) -> list[Exemplar]:
        """`n` sequences drawn without regard to activation, none of them among the top ones."""

    def by_id(self, neuron: Neuron, sequence_ids: Sequence[int]) -> list[Exemplar]:
        """Exemplars of given sequences, in the order asked."""
