"""How many of a neuron's known meanings a method has found, and whether it tells them apart.

1. Draw held-out sequences: of each meaning some that have it, and others that have none. No agent has seen them, and
   they are the same for all methods.
2. A simulator predicts each explanation on them.
3. Modes and meanings are matched one to one, so that the sum of the agreements is largest (Hungarian method); a pair
   whose prediction and ground truth correlate less than `FOUND` is none. F1 is of the pairs: a merged mode counts once,
   and so does a meaning that is split.
4. ARI compares two ways to group the sequences: by the meaning that is strongest, and by the mode that fits best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuronscope.metrics.correlation import assign_exemplars, pearson_rows
from neuronscope.types import Exemplar

Floats = NDArray[np.floating[Any]]

FOUND = 0.5
"""From this correlation on a mode has found a meaning. A prediction that is right wherever it is made reaches it with a
quarter of the meaning's tokens; one that is made on all of them, with three times as many others besides."""
EACH = 10
"""Held-out sequences with each meaning, and for each meaning as many without any."""


class Match(NamedTuple):
    """A mode and the meaning that it has found."""

    mode: int
    meaning: int
    agreement: float
    """Correlation of the mode's prediction with the meaning's ground truth."""


@dataclass(frozen=True, slots=True)
class MeaningScores:
    """What a method has found of one neuron's meanings."""

    meanings: int
    """How many there are."""
    modes: int
    """How many the method has found."""
    matches: tuple[Match, ...]
    ari: float | None
    """Adjusted Rand index, 1 for the true grouping and 0 by chance; None where there is one meaning, and nothing to
    tell apart."""

    @property
    def f1(self) -> float:
        """Of meanings: the harmonic mean of the share of modes that are matched, and of meanings that are."""
        return 2 * len(self.matches) / (self.modes + self.meanings)

    @property
    def number_error(self) -> int:
        """By how many the number of modes is wrong."""
        return abs(self.modes - self.meanings)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self) | {
            "matches": [list(each) for each in self.matches],
            "f1": self.f1,
            "number_error": self.number_error,
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> MeaningScores:
        """What `to_dict` gave."""
        matches = tuple(Match(*each) for each in saved["matches"])
        return cls(saved["meanings"], saved["modes"], matches, saved["ari"])


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Sequences on which a neuron's meanings are known."""

    exemplars: list[Exemplar]
    """With the neuron's activations."""
    ground_truth: list[Floats]
    """For each, shape `(meanings, tokens)`: 1 where a meaning holds, 0 where not, NaN for what is left out; of real
    units what they do."""
    dominant: list[int]
    """For each the meaning that is strongest in it; -1 where none is active."""
    found: float = FOUND
    """From which agreement on a mode has found a meaning."""


def score_meanings(predicted: Sequence[Floats], held_out: HeldOut) -> MeaningScores:
    """Compare modes with meanings.

    Args:
        predicted: for each held-out exemplar, shape `(modes, tokens)`; without a mode, 0 rows.
        held_out: what is known.
    """
    truth = np.concatenate(held_out.ground_truth, axis=1)
    modes = len(predicted[0]) if predicted else 0
    if not modes:
        ari = None if len(truth) < 2 else 0.0
        return MeaningScores(len(truth), 0, (), ari)
    matches = match_meanings(np.concatenate(predicted, axis=1), truth, held_out.found)
    return MeaningScores(len(truth), modes, matches, _ari(predicted, held_out) if len(truth) > 1 else None)


def match_meanings(predicted: Floats, truth: Floats, found: float = FOUND) -> tuple[Match, ...]:
    """Match modes to meanings, each to one at most.

    Args:
        predicted: shape `(modes, tokens)`.
        truth: shape `(meanings, tokens)`; what is NaN does not count for its meaning.
        found: pairs that agree less are none.
    """
    from scipy.optimize import linear_sum_assignment

    agreement = np.zeros((len(predicted), len(truth)))
    for number, row in enumerate(truth):
        counts = np.isfinite(row)
        agreement[:, number] = [each.value or 0.0 for each in pearson_rows(predicted[:, counts], row[counts])]
    agreement = np.where(agreement >= found, agreement, 0.0)
    rows, columns = linear_sum_assignment(agreement, maximize=True)
    pairs = [Match(int(i), int(j), float(agreement[i, j])) for i, j in zip(rows, columns, strict=True)]
    return tuple(pair for pair in pairs if pair.agreement > 0)


def _ari(predicted: Sequence[Floats], held_out: HeldOut) -> float:
    """Of the sequences on which a meaning is active; those that several modes fit equally are a group by themselves."""
    from sklearn.metrics import adjusted_rand_score

    active = [number for number, meaning in enumerate(held_out.dominant) if meaning >= 0]
    belongs = assign_exemplars(
        [predicted[number] for number in active], [held_out.exemplars[number].activations for number in active]
    )
    groups = np.where(belongs.sum(axis=0) == 1, belongs.argmax(axis=0), -1)
    return float(adjusted_rand_score([held_out.dominant[number] for number in active], groups))
