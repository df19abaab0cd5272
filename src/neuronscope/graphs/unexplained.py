"""What no mode explains: strong train exemplars, from which is drafted once more."""

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
"""From fewer exemplars than this nothing is drafted again."""


async def unexplained_by(modes: Sequence[Mode], state: RefinementState, instruments: Instruments) -> list[int]:
    """Ids of the train exemplars whose strongest token the modes together predict too low, strongest first.

    There are none after a second draft, nor where the settings allow no second one.

    Raises:
        NeuronScopeError: the simulator or the store failed.
    """
    config = instruments.config
    if not config.second_hypothesis or state.get("is_second") or any(mode.val_score is None for mode in modes):
        return []
    neuron, ids, scorer = state["neuron"], state["exemplars"], instruments.scorer
    sequences, texts = ids.of("train"), [mode.explanation for mode in modes]
    strengths = await strengths_of(texts, neuron, ids, instruments)
    predicted = await scorer.predict(neuron, texts, sequences)
    missed: dict[int, float] = {}
    for exemplar, rows in zip(await scorer.exemplars(neuron, sequences), predicted, strict=True):
        actual = normalise(exemplar.activations, ids.maximum)
        place = int(np.argmax(actual))
        peak = float(actual[place])
        if peak >= STRONG and joint_prediction(rows, strengths)[place] < EXPLAINED * peak:
            missed[exemplar.sequence_id] = peak
    strongest_first = sorted(missed, key=lambda number: -missed[number])
    return strongest_first[: config.n_train_exemplars] if len(missed) >= ENOUGH else []
