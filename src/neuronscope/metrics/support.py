"""Which modes have evidence, and how surely: the interval of the number of modes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronscope.metrics.bootstrap import CONFIDENCE, Resampling, draw_weights
from neuronscope.metrics.correlation import assign_exemplars, pearson_statistic
from neuronscope.metrics.joint import LEAST_SEEN

Floats = NDArray[np.floating[Any]]

SUPPORTING = 5
"""Active test sequences of its own that a mode needs as evidence."""


def own_active_sequences(predicted: Sequence[Floats], actual: Sequence[Floats], level: float) -> NDArray[np.bool_]:
    """Which sequences speak for which mode: shape `(modes, sequences)`.

    The neuron is active there, the mode predicts something, and no other mode fits as well.

    Args:
        predicted: per sequence, shape `(modes, tokens)`, 0-10.
        actual: per sequence, shape `(tokens,)`.
        level: the activation above which the neuron is active.
    """
    belongs = assign_exemplars(predicted, actual)
    active = np.array([part.max(initial=0.0) for part in actual]) > level
    applies = np.stack([part.max(axis=1, initial=0.0) for part in predicted], axis=1) >= LEAST_SEEN
    own: NDArray[np.bool_] = belongs & applies & active & (belongs.sum(axis=0) == 1)
    return own


def number_interval(
    own: NDArray[np.bool_],
    predicted: Sequence[Floats],
    actual: Sequence[Floats],
    strata: NDArray[Any],
    resampling: Resampling,
) -> tuple[int, int]:
    """The interval of how many modes have evidence: a correlation above 0, and enough active sequences of their own.

    Args:
        own: shape `(modes, sequences)`, see `own_active_sequences`.
        predicted: per sequence of the test set, shape `(modes, tokens)`; the first of the sequences.
        actual: of the same sequences, shape `(tokens,)`.
        strata: each sequence's stratum for the resampling.
        resampling: how many draws, and their seed.
    """
    weights = draw_weights(strata, resampling)
    enough = weights @ own.T >= SUPPORTING
    of_test = weights[:, : len(actual)]
    positive = [
        np.nan_to_num(pearson_statistic([rows[mode] for rows in predicted], actual)(of_test)) > 0
        for mode in range(len(own))
    ]
    tail = (1 - CONFIDENCE) / 2
    supported = (enough & np.stack(positive, axis=1)).sum(axis=1)
    low, high = np.quantile(supported, [tail, 1 - tail], method="nearest")
    return int(low), int(high)
