"""All modes of a neuron as one prediction: at every token the largest of theirs, each scaled by its strength.

A strength is the activation, 0 to 10, that a mode's explanation stands for where it applies fully, which is where the
simulator predicts 10 of it. Strengths are fitted on train text; a single mode's score does not depend on them, since a
correlation is blind to scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronscope.types import SCALE

ROUNDS = 4
"""Of fitting strengths to what each mode's prediction decides."""

INACTIVE_WEIGHT = 0.5
"""What the error on a token counts where the neuron is inactive; its square is a quarter."""

Floats = NDArray[np.floating[Any]]

LEAST_SEEN = 1.0
"""An explanation applies to a token, or in some text, if the simulator predicts at least this of it."""


def fit_strengths(predicted: Floats, actual: Floats) -> list[float]:
    """The strength of each mode with which the largest of their predictions comes nearest to the activations.

    Non-negative least squares would fit the sum of the predictions, and leaves 0 to a mode that speaks of the same
    tokens as another one. So the least squared error is looked for from the strength that each mode has alone, in a few
    rounds: each mode is fitted on the tokens where its prediction is the largest. The best of all these is taken.
    Tokens where the neuron is inactive count a quarter: they tell how well a sentence is read rather than how strong
    the activation is where it applies.

    Args:
        predicted: shape `(modes, tokens)`, 0-10.
        actual: shape `(tokens,)`, on the same scale.

    Returns:
        One number from 0 to 10 for each mode.
    """
    from scipy.optimize import nnls

    actual = np.asarray(actual, dtype=np.float64)
    weights = np.where(actual >= LEAST_SEEN, 1.0, INACTIVE_WEIGHT)
    rows, truth = np.asarray(predicted, dtype=np.float64) * weights, actual * weights
    tried = [np.array([_coefficient(row, truth, 0.0) for row in rows])]
    if len(rows) > 1:
        for _ in range(ROUNDS):
            owner = (tried[-1][:, None] * rows).argmax(axis=0)
            own = [owner == number for number in range(len(rows))]
            fitted = [
                _coefficient(row[its], truth[its], before)
                for row, its, before in zip(rows, own, tried[-1], strict=True)
            ]
            tried.append(np.array(fitted))
    tried.append(nnls(rows.T, truth)[0])
    errors = [float((((one[:, None] * rows).max(axis=0) - truth) ** 2).sum()) for one in tried]
    best = tried[int(np.argmin(np.round(errors, 9)))]
    return [float(min(SCALE, SCALE * coefficient)) for coefficient in best]


def _coefficient(row: Floats, truth: Floats, default: float) -> float:
    """Of what least squares makes of one mode's predictions, as far as it predicts anything."""
    energy = float(row @ row)
    return max(float(row @ truth) / energy, 0.0) if energy > 0 else default


def scaled(predicted: Floats, strengths: Sequence[float | None]) -> NDArray[np.float64]:
    """Each mode's prediction times its strength.

    Args:
        predicted: shape `(modes, tokens)`, 0-10.
        strengths: one for each mode; None, where none was fitted, leaves the prediction as it is.
    """
    factors = [1.0 if strength is None else strength / SCALE for strength in strengths]
    return np.asarray(factors, dtype=np.float64)[:, None] * predicted


def joint_prediction(predicted: Floats, strengths: Sequence[float | None]) -> NDArray[np.float64]:
    """What all modes together predict, shape `(tokens,)`; the arguments are those of `scaled`, of one mode at least."""
    together: NDArray[np.float64] = scaled(predicted, strengths).max(axis=0)
    return together
