"""What refinement optimises, and how candidates are measured by it.

`objective="joint"`: the validation score of all the neuron's modes together, with the candidate in its mode's place.
`"neuron"`: the candidate's own score on the neuron's whole validation set (the paper's appendix C). `"mode"`: its own
score on D_k, the sequences that belong to its mode, and random ones (the paper's equation 1).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronscope.errors import NeuronScopeError
from neuronscope.metrics import feedback
from neuronscope.metrics.correlation import Correlation, pearson_rows
from neuronscope.metrics.halving import successive_halving
from neuronscope.metrics.scorer import Predictions
from neuronscope.results import Measured, Mode
from neuronscope.state import Instruments, RefinementState
from neuronscope.types import SCALE, ExemplarIds, Neuron

Floats = NDArray[np.floating[Any]]

Candidates = Mapping[str, Sequence[str]]
"""Explanations by the representative of the mode that they are for; of no mode under ""."""


def proposals_of(state: RefinementState) -> dict[str, list[str]]:
    """What this round has to measure, by the representative of the mode; in round 0 the representatives themselves.

    An agent may also name its mode by the explanation that it has now.
    """
    modes, proposals = state["modes"], state.get("proposals", {})
    if not proposals:
        return {mode.representative: [mode.representative] for mode in modes if not mode.history}
    names = {mode.explanation: mode.representative for mode in modes} | {
        one.representative: one.representative for one in modes
    }
    return {names.get(name, name): _stripped(texts) for name, texts in proposals.items()}


def _stripped(texts: Sequence[str]) -> list[str]:
    return [stripped for text in texts if (stripped := text.strip())]


def candidates_of(state: RefinementState, explanations: Sequence[str]) -> Candidates:
    """Which of these explanations is for which mode, as far as the round's proposals tell."""
    proposals = proposals_of(state)
    wanted = list(dict.fromkeys(explanations))
    found = {name: [text for text in wanted if text in texts] for name, texts in proposals.items()}
    proposed = {text for texts in found.values() for text in texts}
    return {**found, "": [text for text in wanted if text not in proposed]}


async def measure(candidates: Candidates, state: RefinementState, instruments: Instruments) -> list[Measured]:
    """Score candidates on validation text, all modes' at the same time, so that the simulator sees few large batches.

    Where the simulator fails on one mode's candidates, these say so, and the others have their scores.

    Raises:
        NeuronScopeError: the simulator or the store failed on all of them.
    """
    modes, wanted = {mode.representative: mode for mode in state["modes"]}, [*filter(itemgetter(1), candidates.items())]
    current = await _ModePredictions.of(state, instruments) if instruments.config.objective == "joint" else None
    outcomes = await asyncio.gather(
        *(_measure(modes.get(name), texts, state, instruments, current) for name, texts in wanted),
        return_exceptions=True,
    )
    found: list[Measured] = []
    errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    fatal = [error for error in errors if not isinstance(error, NeuronScopeError) or len(errors) == len(outcomes)]
    if fatal:
        raise fatal[0]
    for (name, texts), outcome in zip(wanted, outcomes, strict=True):
        if isinstance(outcome, BaseException):
            found += [Measured(text, None, None, 0, name, str(outcome)) for text in texts]
        else:
            found += [replace(measured, mode=name) for measured in outcome]
    return found


async def _measure(
    mode: Mode | None,
    texts: Sequence[str],
    state: RefinementState,
    instruments: Instruments,
    current: _ModePredictions | None,
) -> list[Measured]:
    """Score one mode's candidates: by successive halving if the settings allow, and there is an attempt to beat."""
    neuron, scorer = state["neuron"], instruments.scorer
    sequences = await sequences_of(mode, state, instruments)
    seen = dict.fromkeys(texts, len(sequences))
    if instruments.config.halving and mode is not None and mode.history and sequences:
        comparison = await _Comparison.of(mode, sequences, state, instruments, current)
        truth = [exemplar.activations for exemplar in await scorer.exemplars(neuron, sequences)]
        results = await successive_halving(comparison.predict, texts, truth, await comparison.reference())
        seen = {text: result.sequences for text, result in zip(texts, results, strict=True)}
        finished = [text for text, result in zip(texts, results, strict=True) if result.score is not None]
    else:
        finished = list(texts)
    scores = dict(zip(finished, await scorer.score(neuron, finished, sequences), strict=True))
    return [_measured(text, scores.get(text), seen[text]) for text in texts]


def _measured(text: str, score: Correlation | None, sequences: int) -> Measured:
    return Measured(text, None, None, sequences) if score is None else Measured(text, *score, sequences)


@dataclass(frozen=True, slots=True)
class _ModePredictions:
    """What the modes predict as they are now, each by its strength."""

    strengths: Mapping[str, float]
    """By representative, of the modes that have a score."""
    predicted: Mapping[str, Predictions]
    """Of the same modes, per validation sequence shape `(tokens,)`."""

    @classmethod
    async def of(cls, state: RefinementState, instruments: Instruments) -> _ModePredictions:
        neuron, ids = state["neuron"], state["exemplars"]
        present = [mode for mode in state["modes"] if mode.val_score is not None]
        if not present:
            return cls({}, {})
        names, texts = [mode.representative for mode in present], [mode.explanation for mode in present]
        strengths = await strengths_of(texts, neuron, ids, instruments)
        rows = await instruments.scorer.predict(neuron, texts, ids.of("validation"))
        predicted = {
            name: [row[index] * np.float32(strength) for row in rows]
            for index, (name, strength) in enumerate(zip(names, strengths, strict=True))
        }
        return cls(dict(zip(names, strengths, strict=True)), predicted)

    def others(self, mode: Mode) -> Predictions:
        """The largest prediction of the other modes, per sequence; empty where there are none."""
        rest = [rows for name, rows in self.predicted.items() if name != mode.representative]
        return [np.maximum.reduce(rows) for rows in zip(*rest, strict=True)]


@dataclass(frozen=True, slots=True)
class _Comparison:
    """What the candidates of one mode are compared by: their own predictions, or those of all modes with them."""

    neuron: Neuron
    sequences: Sequence[int]
    best: str
    strength: float
    """Of the mode."""
    others: Predictions
    """What the other modes predict together, per sequence shape `(tokens,)`; empty where that does not matter."""
    instruments: Instruments

    @classmethod
    async def of(
        cls,
        mode: Mode,
        sequences: Sequence[int],
        state: RefinementState,
        instruments: Instruments,
        current: _ModePredictions | None,
    ) -> _Comparison:
        if current is None:
            return cls(state["neuron"], sequences, mode.explanation, SCALE, [], instruments)
        own = current.strengths.get(mode.representative) or await strength_alone(mode.explanation, state, instruments)
        return cls(state["neuron"], sequences, mode.explanation, own, current.others(mode), instruments)

    async def predict(self, texts: Sequence[str], indices: Sequence[int]) -> Predictions:
        """What each text predicts on these sequences, together with the other modes."""
        own = await self.instruments.scorer.predict(self.neuron, texts, [self.sequences[index] for index in indices])
        if not self.others:
            return own
        factor = np.float32(self.strength)
        return [np.maximum(rows * factor, self.others[index]) for rows, index in zip(own, indices, strict=True)]

    async def reference(self) -> list[Floats]:
        """What the mode's explanation so far predicts, in the same way."""
        return [rows[0] for rows in await self.predict([self.best], range(len(self.sequences)))]


async def sequences_of(mode: Mode | None, state: RefinementState, instruments: Instruments) -> list[int]:
    """The validation sequences that a mode's candidates are scored on.

    With `objective="mode"` these are the top ones that its representative fits at least as well as the other modes'
    representatives do, and the random ones: representatives do not change, so neither does the assignment.
    """
    ids = state["exemplars"]
    everything = ids.of("validation")
    if instruments.config.objective != "mode" or mode is None or not everything:
        return everything
    names = [one.representative for one in state["modes"]]
    belongs = await instruments.scorer.assign(state["neuron"], names, everything)
    return own_sequences(ids.validation, ids.validation_random, belongs[names.index(mode.representative)])


def own_sequences(top: list[int], random: list[int], belongs: NDArray[np.bool_]) -> list[int]:
    """The top sequences that belong to a mode, and the random ones; all of them if none belongs to it."""
    own = [number for number, is_own in zip(top, belongs, strict=False) if is_own]
    return [*(own or top), *random]


async def strengths_of(
    explanations: Sequence[str], neuron: Neuron, ids: ExemplarIds, instruments: Instruments
) -> list[float]:
    """The strength of each mode's explanation together with the others: see `metrics.feedback.strengths_of`."""
    return await feedback.strengths_of(explanations, neuron, ids, instruments.scorer)


async def strength_alone(explanation: str, state: RefinementState, instruments: Instruments) -> float:
    """The strength of an explanation if there were no other mode: for one to which the others leave nothing."""
    (strength,) = await strengths_of([explanation], state["neuron"], state["exemplars"], instruments)
    return strength or SCALE


def correlations(rows: Floats, truth: Floats) -> list[float | None]:
    """Pearson's r of each row with the ground truth; None where it cannot be measured."""
    return [correlation.value for correlation in pearson_rows(rows, truth)]
