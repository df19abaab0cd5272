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

Floats = NDArray[np.floating[Any]]

LEAST_SEEN = 1.0
"""An explanation applies to a token, or in some text, if the simulator predicts at least this of it."""


def fit_strengths(predicted: Floats, actual: Floats) -> list[float]:
    """The strength of each mode, by non-negative least squares of the activations on the modes' predictions.

    Args:
        predicted: shape `(modes, tokens)`, 0-10.
        actual: shape `(tokens,)`, on the same scale.

    Returns:
        One number from 0 to 10 for each mode: 0 for one whose predictions make those of the others worse.
    """
    from scipy.optimize import nnls

    coefficients, _ = nnls(np.asarray(predicted, dtype=np.float64).T, np.asarray(actual, dtype=np.float64))
    return [float(min(SCALE, SCALE * coefficient)) for coefficient in coefficients]


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
