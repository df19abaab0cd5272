"""What no mode explains: strong train exemplars, from which a second hypothesis is made."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neuronscope.graphs.objective import strengths_of
from neuronscope.metrics.joint import joint_prediction
from neuronscope.results import Mode
from neuronscope.state import Instruments, RefinementState
from neuronscope.types import normalise

STRONG = 2.5
"""An exemplar that asks for an explanation reaches this activation, of 10."""
EXPLAINED = 0.5
"""At an exemplar's strongest token the modes explain it if they predict this share of the activation."""
ENOUGH = 3
"""From fewer exemplars than this no second hypothesis is made."""
LEAST_SHARE = 0.6
"""Nor is one made, without a language model, from a smaller share of the strong exemplars: it found nothing then."""


async def find_unexplained(modes: Sequence[Mode], state: RefinementState, instruments: Instruments) -> list[int]:
    """Ids of the train exemplars whose strongest token the modes together predict too low, strongest first.

    There are none after a second hypothesis, nor where the settings allow none.

    Raises:
        NeuronScopeError: the simulator or the store failed.
    """
    config = instruments.config
    if (
        not config.second_hypothesis
        or state.get("is_second_hypothesis")
        or any(mode.val_score is None for mode in modes)
    ):
        return []
    neuron, ids, scorer = state["neuron"], state["exemplars"], instruments.scorer
    sequences, texts = ids.of("train"), [mode.explanation for mode in modes]
    strengths = await strengths_of(texts, neuron, ids, instruments)
    predicted = await scorer.predict(neuron, texts, sequences)
    unexplained: dict[int, float] = {}
    n_strong = 0
    for exemplar, rows in zip(await scorer.exemplars(neuron, sequences), predicted, strict=True):
        actual = normalise(exemplar.activations, ids.maximum)
        position = int(np.argmax(actual))
        largest = float(actual[position])
        n_strong += largest >= STRONG
        if largest >= STRONG and joint_prediction(rows, strengths)[position] < EXPLAINED * largest:
            unexplained[exemplar.sequence_id] = largest
    strongest_first = sorted(unexplained, key=lambda sequence_id: -unexplained[sequence_id])
    enough = ENOUGH if instruments.asks_a_language_model else max(ENOUGH, LEAST_SHARE * n_strong)
    return strongest_first[: config.n_train_exemplars] if len(unexplained) >= enough else []
