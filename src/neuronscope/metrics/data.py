"""What all metrics share: the held-out sequences, what every explanation predicts on them, and near misses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronscope.interfaces import ExemplarSource
from neuronscope.metrics.bootstrap import Resampling
from neuronscope.metrics.scorer import Scorer
from neuronscope.metrics.stimuli import near_misses, peaks
from neuronscope.types import Exemplar, ExemplarIds, Neuron

NEAR_MISS_POOL = 100
"""Random test sequences among which near misses are looked for."""

Rows = Sequence[NDArray[np.floating[Any]]]
"""Per sequence, shape `(tokens,)`."""

SILENT = "the neuron does the same on all of these tokens"
NO_SEQUENCES = "there are no such sequences"

Embed = Callable[[Sequence[str]], Awaitable[NDArray[np.floating[Any]]]]
"""From texts to vectors of shape `(texts, dimensions)`."""


@dataclass(frozen=True, slots=True)
class Sequences:
    """Sequences with the truth, and with what every explanation predicts on them."""

    exemplars: list[Exemplar]
    """With their true activations."""
    predicted: list[NDArray[np.float32]]
    """Per sequence, shape `(explanations, tokens)`, 0-10."""
    top: NDArray[np.bool_]
    """Which of them were drawn as the neuron's top ones, shape `(sequences,)`; the others were drawn at random."""
    level: float
    """The activation above which a token, and with it a sequence, fires."""

    @property
    def actual(self) -> list[NDArray[np.float32]]:
        """Per sequence the true activations, shape `(tokens,)`."""
        return [exemplar.activations for exemplar in self.exemplars]

    @property
    def texts(self) -> list[str]:
        """The sequences as text."""
        return [exemplar.text for exemplar in self.exemplars]

    @property
    def fires(self) -> NDArray[np.bool_]:
        """Which sequences have a token that fires, shape `(sequences,)`."""
        return np.asarray(peaks(self.exemplars) > self.level)

    def rows(self, explanation: int) -> list[NDArray[np.float32]]:
        """One explanation's predictions, per sequence of shape `(tokens,)`."""
        return [array[explanation] for array in self.predicted]

    def strongest(self, explanation: int) -> NDArray[np.float64]:
        """One explanation's largest prediction in each sequence, shape `(sequences,)`."""
        return np.array([row.max(initial=0.0) for row in self.rows(explanation)], dtype=np.float64)

    def only(self, chosen: NDArray[np.bool_]) -> Sequences:
        """Some of the sequences."""
        places = np.flatnonzero(chosen).tolist()
        return Sequences(
            [self.exemplars[place] for place in places],
            [self.predicted[place] for place in places],
            self.top[places],
            self.level,
        )

    def beside(self, other: Sequences) -> Sequences:
        """These sequences, then the others."""
        return Sequences(
            self.exemplars + other.exemplars,
            self.predicted + other.predicted,
            np.concatenate([self.top, other.top]),
            self.level,
        )


@dataclass(frozen=True, slots=True)
class Material:
    """Everything that the metrics are computed from."""

    explanations: list[str]
    """What is measured."""
    validation: Sequences
    """What calibrations and thresholds are fitted on."""
    test: Sequences
    """What the numbers come from: the test set of `explain_neuron` with the same settings."""
    near_misses: Sequences
    """Test sequences that resemble those on which the neuron fires, and on which it does not."""
    simulator: str
    """The simulator's name."""
    resampling: Resampling
    """How intervals are made."""

    def against(self) -> list[tuple[str, Sequences]]:
        """The test sequences that fire, beside each kind of those that do not."""
        test = self.test
        return [("random", test), ("near misses", test.only(test.fires).beside(self.near_misses))]


async def gather(
    scorer: Scorer,
    store: ExemplarSource,
    neuron: Neuron,
    ids: ExemplarIds,
    explanations: Sequence[str],
    embed: Embed | None,
    *,
    simulator: str,
    firing_share: float,
    resampling: Resampling,
) -> Material:
    """Fetch the sequences and have everything predicted.

    Args:
        scorer: predicts; it asks the store for the sequences.
        store: where near misses are drawn from.
        neuron: the neuron.
        ids: its held-out sequences.
        explanations: what is measured.
        embed: how texts are compared; None looks for no near misses.
        simulator: the simulator's name, for the table.
        firing_share: a token fires above this share of the neuron's largest activation.
        resampling: how intervals are made.

    Raises:
        NeuronScopeError: the store or the simulator fails.
    """
    chosen = await scorer.exemplars(neuron, [*ids.train, *ids.validation, *ids.test])
    level = firing_share * float(peaks(chosen).max(initial=0.0))

    async def sequences(top: Sequence[int], random: Sequence[int]) -> Sequences:
        strong = await scorer.exemplars(neuron, top)
        active = [exemplar.sequence_id for exemplar in strong if exemplar.activations.max(initial=0.0) > 0]
        numbers = [*active, *random]
        return Sequences(
            await scorer.exemplars(neuron, numbers),
            await scorer.predict(neuron, explanations, numbers) if explanations else _blank(len(numbers)),
            np.arange(len(numbers)) < len(active),
            level,
        )

    test = await sequences(ids.test, ids.test_random)
    misses = [] if embed is None else await _find_near_misses(store, neuron, test, embed, resampling.seed)
    return Material(
        list(explanations),
        await sequences(ids.validation, ids.validation_random),
        test,
        await sequences([], misses),
        simulator,
        resampling,
    )


async def _find_near_misses(
    store: ExemplarSource, neuron: Neuron, test: Sequences, embed: Embed, seed: int
) -> list[int]:
    """As many sequences as fire, each like one of them, none of them firing, and none of the test set."""
    known = {exemplar.sequence_id for exemplar in test.exemplars}
    firing = test.only(test.fires)
    if not firing.exemplars:
        return []
    drawn = await asyncio.to_thread(store.random_sequences, neuron, "test", NEAR_MISS_POOL + len(known), seed)
    pool = [exemplar for exemplar in drawn if exemplar.sequence_id not in known][:NEAR_MISS_POOL]
    if not pool:
        return []
    vectors = await embed([*firing.texts, *(exemplar.text for exemplar in pool)])
    allowed = peaks(pool) <= test.level
    found = near_misses(vectors[: len(firing.exemplars)], vectors[len(firing.exemplars) :], allowed)
    return [pool[place].sequence_id for place in found]


def _blank(n: int) -> list[NDArray[np.float32]]:
    """The predictions of no explanation on n sequences."""
    return [np.zeros((0, 0), dtype=np.float32)] * n
