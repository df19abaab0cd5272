"""What the parts expect of each other: anything that fits may take a part's place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from neuronscope.llm.usage import UsageTracker
    from neuronscope.metrics.context import MetricContext
    from neuronscope.metrics.data import EvaluationData
    from neuronscope.metrics.table import Measurement
    from neuronscope.results import Failure, Usage
    from neuronscope.state import Instruments
    from neuronscope.types import Exemplar, ExemplarIds, Neuron, Stratum

    Predict = Callable[[Sequence[Exemplar]], Sequence[NDArray[np.floating[Any]]]]
    """From exemplars without activations to arrays of shape `(tokens,)`, on any scale."""


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
class SitedSubject(Subject, Protocol):
    """A subject with units at more sites than its MLPs, as a loaded one has; for one of your own this is optional."""

    @property
    def sites(self) -> Collection[str]:
        """The names of its sites, `"mlp"` among them if it has neurons."""

    def width(self, layer: int, site: str = "mlp") -> int:
        """How many units one layer has at a site."""

    def activations(
        self, token_ids: Sequence[Sequence[int]], layers: Sequence[int], site: str = "mlp"
    ) -> dict[int, list[NDArray[np.float32]]]:
        """As `Subject.activations`, of one site."""


class ModelSubject(SitedSubject, Protocol):
    """A subject that is a torch model in this process, as `load_subject` gives it: sites read its modules."""

    @property
    def model(self) -> Any:
        """The model."""

    @property
    def layers(self) -> Sequence[nn.Module]:
        """The decoder's layers, from 0."""

    @property
    def projections(self) -> Sequence[nn.Module]:
        """Each layer's MLP's output projection."""


class Tap(NamedTuple):
    """One tensor of a forward pass: what a module takes, or what it gives."""

    module: nn.Module
    """The module."""
    side: Literal["input", "output"] = "input"
    """Which side of it."""
    item: int | str = 0
    """Which one, where it takes or gives several: a position, or the name of an argument or of an output's field."""


class Site(Protocol):
    """Where scalars live in a model, one layer like another: neurons, latents of a dictionary, residual coordinates.

    `neuronscope.register_site` makes it known by its name, which `Neuron.site` and `site=` then take.
    """

    @property
    def name(self) -> str:
        """Small letters, digits, dots, hyphens and underscores: it is part of file names."""

    @property
    def fingerprint(self) -> str:
        """Of its own weights and settings, part of a store's identity; the model's are in the subject's."""

    @property
    def signed(self) -> bool:
        """Whether a unit's large negative values mean something: of MLP neurons they do, of ReLU latents not."""

    def taps(self, subject: ModelSubject, layer: int) -> Sequence[Tap]:
        """The tensors that it reads in one layer.

        Raises:
            SubjectError: the model has no such place in this layer.
        """

    def width(self, subject: ModelSubject, layer: int) -> int:
        """How many units one layer has."""

    def read(self, tensors: Sequence[torch.Tensor], layer: int) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """The units' activations at each token.

        Args:
            tensors: in the order of `taps`, `(tokens, d)` each: the tokens of a whole batch, one after the other, with
                what stands in front of sequences and pads them, whose activations are thrown away. Read only.
            layer: the layer.

        Returns:
            Dense `(tokens, width)`; or sparse, the units' indices and their values, `(tokens, k)` each.
        """


@runtime_checkable
class WritingSite(Protocol):
    """A site whose units write into the residual stream."""

    def write_direction(self, subject: ModelSubject, layer: int, index: int) -> torch.Tensor:
        """What one unit adds to the residual stream at activation 1, of shape `(hidden,)`."""


@runtime_checkable
class Simulator(Protocol):
    """Predicts a neuron's activations from an explanation and the tokens alone."""

    def simulate(self, explanations: Sequence[str], exemplars: Sequence[Exemplar]) -> list[NDArray[np.float32]]:
        """Predict every explanation on every exemplar.

        It is called in a worker thread, and never sees the ground truth: the exemplars' activations are blanked.

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


@runtime_checkable
class StratifiedSource(Protocol):
    """A source that knows how many sequences a split has, as an `ExemplarStore` does: corpus scores need one."""

    def strata(
        self, neuron: Neuron, split: str = "test", *, top: int = 20, ranked: int = 40, random: int = 60, seed: int = 0
    ) -> list[Stratum]:
        """A whole split in parts, and what is drawn of each: the top sequences, the other listed ones, the rest."""


@runtime_checkable
class Metric(Protocol):
    """A kind of score, with one result or several: `@neuronscope.metrics.metric` makes one of a function."""

    @property
    def name(self) -> str:
        """What `metrics=` calls it."""

    @property
    def results(self) -> Sequence[str]:
        """The names of its results, `Measurement.metric`."""

    @property
    def question(self) -> str:
        """What it answers."""

    @property
    def baseline(self) -> str:
        """The value without any knowledge."""

    @property
    def needs(self) -> Mapping[str, str]:
        """What it cannot do without, "llm" or "subject", and what that does for it."""

    @property
    def hard_negatives(self) -> bool:
        """Whether it uses hard negatives, which are chosen only then."""

    @property
    def measure(self) -> Callable[[EvaluationData, MetricContext], Awaitable[list[Measurement]]]:
        """From the held-out sequences with their predictions, and models and settings, to rows of the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """What an `Explainer` has found out: sentences, or predictions, or both."""

    sentences: Sequence[str] = ()
    """Explanations, one for each thing that the neuron responds to; the simulator makes predictions of them."""
    predict: Predict | None = None
    """Its own predictions: from exemplars without activations to arrays of shape `(tokens,)`, on any scale."""
    usage: Usage | None = None
    """What it cost; None is what the instruments have counted."""
    earlier_usage: Usage | None = None
    """What it cost before, which is added to what the instruments have counted."""
    failures: Sequence[Failure] = ()
    """What went wrong on the way to what was found."""


@runtime_checkable
class Explainer(Protocol):
    """A baseline, or a method of one's own: `Session.score_explainer` scores it as `explain_neuron` is scored."""

    @property
    def name(self) -> str:
        """What tables call it."""

    async def explain(self, neuron: Neuron, exemplars: ExemplarIds, instruments: Instruments) -> Explained:
        """Find out what a neuron responds to.

        Args:
            neuron: the neuron.
            exemplars: which sequences may be used for what: train is to be read, validation only to select; the
                test sequences are left out. `await instruments.scorer.exemplars(neuron, exemplars.train)` gets them.
            instruments: the model, the store, the simulator, the language model, the settings, and the scorer.

        Raises:
            NeuronScopeError: it cannot.
        """
