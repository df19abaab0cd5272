"""How sure a number is: bootstrap intervals over whole sequences, since the tokens of a sequence depend on each other.

A statistic is a function of weights: how often each sequence counts. With all weights 1 it gives the value itself;
with the counts of draws with replacement, the values that other samples of the same kind might have given.

SciPy's `bootstrap`, to whose intervals the tests hold ours, is not used: it takes no group of one sequence and no draw
for which a statistic is undefined, and hands on values in place of weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""From weights of shape `(draws, sequences)` to values of shape `(draws,)`, NaN where a draw leaves it undefined."""

CONFIDENCE = 0.95
"""Share of the resampled values that lie within an interval."""


class Resampling(NamedTuple):
    """How intervals are made."""

    n: int = 1000
    """Draws with replacement."""
    seed: int = 0
    """The same seed draws the same sequences."""


class Estimate(NamedTuple):
    """A number with its interval, or none; never NaN."""

    value: float | None
    """What the sequences at hand give; None where there is nothing to measure."""
    low: float | None
    """Lower end of the interval, at most `value`."""
    high: float | None
    """Upper end, at least `value`."""
    note: str = ""
    """Why the number says little, or why there is none."""


def not_measured(note: str) -> Estimate:
    """The answer where there is nothing to measure, and why."""
    return Estimate(None, None, None, note)


def estimate(statistic: Statistic, strata: NDArray[Any], baseline: float, resampling: Resampling, why: str) -> Estimate:
    """A statistic's value and its percentile interval.

    Draws leave the size of every stratum as it is, as the sampling did: so many top sequences, so many random ones.
    A draw for which the statistic is undefined counts as the baseline; to pass over it would hide how much rests on a
    few sequences. If it is undefined on the sequences themselves, nothing is measured. An interval is widened to hold
    the value, which percentiles of a skewed statistic can miss.

    Args:
        statistic: what is estimated.
        strata: each sequence's stratum, shape `(sequences,)`.
        baseline: the value of a draw for which the statistic is undefined.
        resampling: how many draws, and their seed.
        why: the note where it is undefined on the sequences themselves.
    """
    value = float(statistic(np.ones((1, len(strata))))[0]) if len(strata) else np.nan
    if not np.isfinite(value):
        return not_measured(why)
    drawn = statistic(draw_weights(strata, resampling))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.where(np.isfinite(drawn), drawn, baseline), [tail, 1 - tail])
    return Estimate(value, min(float(low), value), max(float(high), value))


def draw_weights(strata: NDArray[Any], resampling: Resampling) -> Floats:
    """How often each sequence is drawn, with replacement within its stratum: shape `(draws, sequences)`."""
    generator = np.random.default_rng(resampling.seed)
    weights = np.zeros((resampling.n, len(strata)))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        even = np.full(len(members), 1 / len(members))
        weights[:, members] = generator.multinomial(len(members), even, size=resampling.n)
    return weights


def ratio(above: Floats, below: Floats) -> Floats:
    """The quotient; NaN where there is nothing to divide by: a millionth of a standard deviation is rounding."""
    defined = below > 1e-12
    return np.where(defined, above / np.where(defined, below, 1.0), np.nan)
