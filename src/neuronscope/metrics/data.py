"""What all metrics are computed from: held-out sequences, what every explanation predicts on them, hard negatives."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronscope.interfaces import ExemplarSource
from neuronscope.metrics.bootstrap import Resampling
from neuronscope.metrics.correlation import PerSequence as PerSequence
from neuronscope.metrics.scorer import Scorer
from neuronscope.metrics.stimuli import match_hard_negatives, max_activations
from neuronscope.types import Exemplar, ExemplarIds, Neuron

HARD_NEGATIVE_POOL = 100
"""Random test sequences from which hard negatives are chosen."""

Embed = Callable[[Sequence[str]], Awaitable[NDArray[np.floating[Any]]]]
"""From texts to vectors of shape `(texts, dimensions)`."""


@dataclass(frozen=True, slots=True)
class Sequences:
    """Held-out sequences with their activations, and with what every explanation predicts on them."""

    exemplars: list[Exemplar]
    """With their activations."""
    predicted: list[NDArray[np.float32]]
    """Per sequence, shape `(explanations, tokens)`, 0-10."""
    top: NDArray[np.bool_]
    """Which of them were drawn as the neuron's top ones, shape `(sequences,)`; the others were drawn at random."""
    level: float
    """The activation above which the neuron is active on a token, and so on its sequence."""

    @property
    def actual(self) -> list[NDArray[np.float32]]:
        """Per sequence the activations, shape `(tokens,)`."""
        return [exemplar.activations for exemplar in self.exemplars]

    @property
    def texts(self) -> list[str]:
        """The sequences as text."""
        return [exemplar.text for exemplar in self.exemplars]

    @property
    def active(self) -> NDArray[np.bool_]:
        """Which sequences the neuron is active on, shape `(sequences,)`."""
        return np.asarray(max_activations(self.exemplars) > self.level)

    def predictions(self, explanation: int) -> list[NDArray[np.float32]]:
        """One explanation's predictions, per sequence of shape `(tokens,)`."""
        return [array[explanation] for array in self.predicted]

    def max_predictions(self, explanation: int) -> NDArray[np.float64]:
        """One explanation's largest prediction in each sequence, shape `(sequences,)`."""
        return np.array([each.max(initial=0.0) for each in self.predictions(explanation)], dtype=np.float64)

    def subset(self, chosen: NDArray[np.bool_]) -> Sequences:
        """Those of the sequences that a mask of shape `(sequences,)` has."""
        indices = np.flatnonzero(chosen).tolist()
        return Sequences(
            [self.exemplars[index] for index in indices],
            [self.predicted[index] for index in indices],
            self.top[indices],
            self.level,
        )

    def concatenate(self, other: Sequences) -> Sequences:
        """These sequences, then the others."""
        return Sequences(
            self.exemplars + other.exemplars,
            self.predicted + other.predicted,
            np.concatenate([self.top, other.top]),
            self.level,
        )


@dataclass(frozen=True, slots=True)
class EvaluationData:
    """Everything that the metrics are computed from."""

    explanations: list[str]
    """What is measured."""
    validation: Sequences
    """What calibrations and thresholds are fitted on."""
    test: Sequences
    """What the numbers come from: the test set of `explain_neuron` with the same settings."""
    hard_negatives: Sequences
    """Test sequences that resemble those on which the neuron is active, and on which it is inactive."""
    simulator: str
    """The simulator's name."""
    resampling: Resampling
    """How intervals are made."""

    def with_negatives(self) -> list[tuple[str, Sequences]]:
        """The test sequences on which the neuron is active, with each kind of negatives."""
        test = self.test
        return [("random", test), ("hard negatives", test.subset(test.active).concatenate(self.hard_negatives))]


async def gather(
    scorer: Scorer,
    store: ExemplarSource,
    neuron: Neuron,
    ids: ExemplarIds,
    explanations: Sequence[str],
    embed: Embed | None,
    *,
    simulator: str,
    activation_threshold: float,
    resampling: Resampling,
) -> EvaluationData:
    """Fetch the sequences and have every explanation predicted on them.

    Args:
        scorer: predicts; it asks the store for the sequences.
        store: where hard negatives are drawn from.
        neuron: the neuron.
        ids: its held-out sequences.
        explanations: what is measured.
        embed: how texts are compared; None chooses no hard negatives.
        simulator: the simulator's name, for the table.
        activation_threshold: the neuron is active above this share of its largest activation.
        resampling: how intervals are made.

    Raises:
        NeuronScopeError: the store or the simulator fails.
    """
    chosen = await scorer.exemplars(neuron, [*ids.train, *ids.validation, *ids.test])
    level = activation_threshold * float(max_activations(chosen).max(initial=0.0))

    async def sequences(top: Sequence[int], random: Sequence[int]) -> Sequences:
        strong = await scorer.exemplars(neuron, top)
        active = [exemplar.sequence_id for exemplar in strong if exemplar.activations.max(initial=0.0) > 0]
        sequence_ids = [*active, *random]
        return Sequences(
            await scorer.exemplars(neuron, sequence_ids),
            await scorer.predict(neuron, explanations, sequence_ids) if explanations else _blank(len(sequence_ids)),
            np.arange(len(sequence_ids)) < len(active),
            level,
        )

    test = await sequences(ids.test, ids.test_random)
    negatives = [] if embed is None else await _find_hard_negatives(store, neuron, test, embed, resampling.seed)
    return EvaluationData(
        list(explanations),
        await sequences(ids.validation, ids.validation_random),
        test,
        await sequences([], negatives),
        simulator,
        resampling,
    )


async def _find_hard_negatives(
    store: ExemplarSource, neuron: Neuron, test: Sequences, embed: Embed, seed: int
) -> list[int]:
    """A sequence like each on which the neuron is active, on which it is inactive, and none of the test set."""
    known = {exemplar.sequence_id for exemplar in test.exemplars}
    active = test.subset(test.active)
    if not active.exemplars:
        return []
    drawn = await asyncio.to_thread(store.random_sequences, neuron, "test", HARD_NEGATIVE_POOL + len(known), seed)
    pool = [exemplar for exemplar in drawn if exemplar.sequence_id not in known][:HARD_NEGATIVE_POOL]
    if not pool:
        return []
    vectors = await embed([*active.texts, *(exemplar.text for exemplar in pool)])
    allowed = max_activations(pool) <= test.level
    found = match_hard_negatives(vectors[: len(active.exemplars)], vectors[len(active.exemplars) :], allowed)
    return [pool[index].sequence_id for index in found]


def _blank(n: int) -> list[NDArray[np.float32]]:
    """The predictions of no explanation on n sequences."""
    return [np.zeros((0, 0), dtype=np.float32)] * n
