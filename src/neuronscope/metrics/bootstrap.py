"""How sure a number is: bootstrap intervals over whole sequences, since the tokens of a sequence depend on each other.

A statistic is a function of weights: how often each sequence counts. With all weights 1 it gives the value itself;
with the counts of draws with replacement, the values that other samples of the same kind might have given.

SciPy's `bootstrap`, to whose intervals the tests hold ours, is not used: it takes no group of one sequence and no draw
for which a statistic is undefined, and hands on values in place of weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""From weights of shape `(draws, sequences)` to values of shape `(draws,)`, NaN where a draw leaves it undefined."""

Sizes = Mapping[int, int]
"""How many sequences each stratum was drawn from."""

NO_VARIATION = "the neuron does the same on all of these tokens"
NO_SEQUENCES = "there are no such sequences"
CONSTANT = "the prediction is the same everywhere"

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

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends; None where there is nothing to measure."""
        return None if self.low is None or self.high is None else (self.low, self.high)


def not_measured(note: str) -> Estimate:
    """The answer where there is nothing to measure, and why."""
    return Estimate(None, None, None, note)


def estimate(
    statistic: Statistic,
    strata: NDArray[Any],
    baseline: float,
    resampling: Resampling,
    why: str,
    sizes: Sizes | None = None,
) -> Estimate:
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
        sizes: how many sequences each stratum was drawn from, if all of these are meant: what is estimated is then the
            value on all of them. None means the sequences at hand.
    """
    value = float(statistic(sampling_weights(strata, sizes)[None])[0]) if len(strata) else np.nan
    if not np.isfinite(value):
        return not_measured(why)
    drawn = statistic(draw_weights(strata, resampling, sizes))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.where(np.isfinite(drawn), drawn, baseline), [tail, 1 - tail])
    return Estimate(value, min(float(low), value), max(float(high), value))


def sampling_weights(strata: NDArray[Any], sizes: Sizes | None) -> Floats:
    """For how many sequences each one stands, itself among them: shape `(sequences,)`."""
    weights = np.ones(len(strata))
    for stratum in () if sizes is None else np.unique(strata):
        members = strata == stratum
        weights[members] = sizes[stratum] / members.sum()  # type: ignore[index]  # there are sizes
    return weights


def draw_weights(strata: NDArray[Any], resampling: Resampling, sizes: Sizes | None = None) -> Floats:
    """How often each sequence is drawn, with replacement within its stratum: shape `(draws, sequences)`.

    With the sizes of the strata, for how many sequences it then stands. Of a stratum of M sequences from which n were
    drawn only the share 1 - n/M is unknown, so the draws differ from each other by so much less (the finite population
    correction): not at all where the whole stratum is at hand.
    """
    generator = np.random.default_rng(resampling.seed)
    weights = np.zeros((resampling.n, len(strata)))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        even = np.full(len(members), 1 / len(members))
        weights[:, members] = generator.multinomial(len(members), even, size=resampling.n)
        if sizes is not None:
            n, size = len(members), sizes[stratum]
            correction = np.sqrt((1 - n / size) * n / (n - 1)) if n > 1 else 0.0
            weights[:, members] = size / n * (1 + correction * (weights[:, members] - 1))
    return weights


def ratio(above: Floats, below: Floats) -> Floats:
    """The quotient; NaN where there is nothing to divide by: a millionth of a standard deviation is rounding."""
    defined = below > 1e-12
    return np.where(defined, above / np.where(defined, below, 1.0), np.nan)
