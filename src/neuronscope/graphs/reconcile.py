"""Where the modes meet: what becomes of each after a round, in sight of all of them.

With `objective="joint"` a candidate counts by what it adds to the prediction of all modes together. The modes take
their turns, the one with the best score of its own first, and each turn sees what the turns before it have changed.
Modes whose predictions have become one are merged; when refinement ends, a mode without which the others predict no
worse is dropped; of a language model's, which may say more than the simulator reads, one that harms. With `"neuron"`
and `"mode"` nothing happens but the choice of each mode's best candidate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from langchain_core.messages import ToolMessage
from langgraph.runtime import Runtime
from langgraph.types import Overwrite
from numpy.typing import NDArray

from neuronscope.config import ExplainConfig
from neuronscope.errors import NeuronScopeError
from neuronscope.graphs.objective import correlations, strength_alone, strengths_of
from neuronscope.graphs.probe import read_probes
from neuronscope.graphs.tools import artifacts, score_explanations
from neuronscope.graphs.unexplained import find_unexplained
from neuronscope.metrics.bootstrap import Resampling
from neuronscope.metrics.correlation import deviation_of_gain, largest_errors
from neuronscope.metrics.joint import joint_prediction, scaled
from neuronscope.results import Attempt, Failure, Measured, Mode, PredictionError, sortable
from neuronscope.state import Instruments, RefinementState
from neuronscope.types import ExemplarIds, normalise

SAME_PREDICTION = 0.95
"""Modes whose predictions on validation text correlate more than this say the same."""

LEAST_CONTRIBUTION = 0.004
"""A mode without which the others' joint validation score falls by less adds nothing; where it rises by more, the mode
harms."""
LEAST_STRENGTH = 0.5
"""Of 10: a mode that beside the others stands for less activation than this explains nothing."""
DEVIATIONS, DRAWS = 2.0, 200
"""A candidate of a language model gains so many standard deviations of the gain, over so many samples of the validation
sequences: what is narrower than the meaning gains a little on them by chance."""

Floats = NDArray[np.float64]


async def reconcile(state: RefinementState, runtime: Runtime[Instruments]) -> RefinementState:
    """Take in what the round has measured: attempts join histories, modes change, and some settle.

    An error of ours on the way leaves the modes as they were, and settles them all.
    """
    answers = latest_answers(state)
    failures = [message.artifact for message in answers if isinstance(message.artifact, Failure)]
    probes = read_probes(state, answers)
    modes = [replace(mode, probes=[*mode.probes, *probes.get(mode.representative, [])]) for mode in state["modes"]]
    if state.get("phase") == "probes":
        return {"modes": modes, "probed_iteration": state["iteration"], "phase": "proposals", "failures": failures}
    if any(isinstance(message.artifact, Failure) for message in answers if message.name == score_explanations.name):
        return _update(modes, [mode.representative for mode in modes], failures, state)
    found = [one for part in artifacts(answers, score_explanations.name, list[Measured]) for one in part]
    try:
        return await _reconcile(modes, found, failures, state, runtime.context)
    except NeuronScopeError as error:
        failures = [*failures, Failure("refinement", str(error))]
        return _update(modes, [mode.representative for mode in modes], failures, state)


async def _reconcile(
    modes: list[Mode],
    found: Sequence[Measured],
    failures: list[Failure],
    state: RefinementState,
    instruments: Instruments,
) -> RefinementState:
    config, iteration = instruments.config, state.get("iteration", 0)
    before = set(state.get("settled", []))
    own = [[one for one in found if one.mode == mode.representative or len(modes) == 1] for mode in modes]
    candidates = [[one for one in measured if one.score is not None] for measured in own]
    failed = {
        mode.representative: next((one.failure for one in measured if one.failure), "")
        for mode, measured in zip(modes, own, strict=True)
    }
    failures += [Failure("refinement", f'{failure} (mode "{name}")') for name, failure in failed.items() if failure]
    joint = config.objective == "joint"
    if joint:
        modes = await _improve_together(modes, candidates, state, instruments)
    else:
        modes = [_improve(mode, measured, iteration) for mode, measured in zip(modes, candidates, strict=True)]
    settled = [
        mode.representative
        for mode in modes
        if mode.representative not in before and (failed[mode.representative] or not is_open(mode, iteration, config))
    ]
    unexplained: list[int] = []
    if joint:
        modes = await _merge(modes, state, instruments)
        if iteration >= config.max_iterations or len(before) + len(settled) >= len(modes):
            modes = await _drop_superfluous(modes, state, instruments)
            unexplained = await find_unexplained(modes, state, instruments)
    if config.feedback == "errors":
        modes = await note_errors(modes, state, instruments)
    update = _update(modes, settled, failures, state)
    return {**update, "unexplained": unexplained} if unexplained else update


def _update(modes: list[Mode], settled: list[str], failures: list[Failure], state: RefinementState) -> RefinementState:
    return {
        "modes": [mode if mode.history else _unmeasured(mode) for mode in modes],
        "settled": settled,
        "iteration": state.get("iteration", 0) + 1,
        "proposals": Overwrite({}),  # type: ignore[typeddict-item]  # LangGraph's way to replace, not add
        "failures": failures,
    }


def latest_answers(state: RefinementState) -> list[ToolMessage]:
    """This round's tool messages."""
    answered = set(state.get("answered_calls", []))
    messages = state.get("messages", [])
    return [one for one in messages if isinstance(one, ToolMessage) and one.tool_call_id in answered]


def is_open(mode: Mode, iteration: int, config: ExplainConfig) -> bool:
    """Whether a mode may still improve: it was measured, and has gained enough in the last `patience` rounds."""
    if mode.best is None or mode.best.val_score is None:
        return False
    if config.patience is None:
        return True
    last, gained = 0, 0.0
    for attempt in mode.history:
        gained += max(attempt.gain or 0.0, 0.0)
        if gained > 0 and gained >= config.min_improvement:
            last, gained = attempt.iteration, 0.0
    return iteration - last < config.patience or iteration == 0


def _unmeasured(mode: Mode) -> Mode:
    """A mode whose representative could not be scored: it stays, without a score."""
    return replace(mode, history=[Attempt(0, mode.explanation, None)])


def _improve(mode: Mode, candidates: Sequence[Measured], iteration: int) -> Mode:
    """Add the candidate with the best score of its own; only a better one replaces the mode's explanation."""
    if not candidates:
        return mode
    best = max(candidates, key=lambda one: sortable(one.score))
    gain = None if not mode.history else _difference(sortable(best.score), sortable(mode.val_score))
    return _with_attempt(mode, Attempt(iteration, best.explanation, best.score, gain=gain))


def _difference(score: float, before: float) -> float:
    """A gain. Rounding alone is none: a longer sentence that predicts the same must not replace a mode's."""
    return round(score - before, 9)


def _with_attempt(mode: Mode, attempt: Attempt) -> Mode:
    history = [*mode.history, attempt]
    if not attempt.accepted:
        return replace(mode, history=history)
    scores = [one.val_score for one in history if one.accepted]
    return replace(mode, explanation=attempt.explanation, val_score=max(scores, key=sortable), history=history)


async def _improve_together(
    modes: list[Mode], candidates: Sequence[Sequence[Measured]], state: RefinementState, instruments: Instruments
) -> list[Mode]:
    """Give each mode, one after another, the candidate that adds most to the prediction of all modes together."""
    ids = state["exemplars"]
    sequences = selecting(ids)
    measured = [index for index, own in enumerate(candidates) if own]
    if not sequences or not measured:
        return modes
    neuron, iteration = state["neuron"], state.get("iteration", 0)
    present = [index for index, mode in enumerate(modes) if index in measured or mode.val_score is not None]
    texts = [modes[index].explanation for index in present]
    strengths = [0.0] * len(modes)
    for index, strength in zip(present, await strengths_of(texts, neuron, ids, instruments), strict=True):
        strengths[index] = strength
    predicted = await instruments.scorer.pooled(neuron, texts, sequences)
    rows = np.zeros((len(modes), predicted.shape[1]))
    rows[present] = scaled(predicted, [strengths[index] for index in present])
    truth = await instruments.scorer.ground_truth(neuron, sequences)
    (reached,) = correlations(rows.max(axis=0)[None], truth)
    improved = list(modes)
    for index in sorted(measured, key=lambda index: -sortable(modes[index].val_score)):
        mode, own = modes[index], candidates[index]
        if not mode.history:
            attempt = Attempt(iteration, own[0].explanation, own[0].score, joint_score=reached)
            improved[index] = _with_attempt(mode, attempt)
            continue
        strength = strengths[index] or await strength_alone(mode.explanation, state, instruments)
        predicted = await instruments.scorer.pooled(neuron, [one.explanation for one in own], sequences)
        others = np.delete(rows, index, axis=0).max(axis=0, initial=0.0)
        together = correlations(np.maximum(scaled(predicted, [strength] * len(own)), others), truth)
        best = max(range(len(own)), key=lambda number: sortable(together[number]))
        gain = _difference(together[best] or 0.0, reached or 0.0)
        candidate, needed = scaled(predicted[best][None], [strength])[0], instruments.config.min_improvement
        if instruments.asks_a_language_model and gain >= needed:
            pair = np.maximum(np.stack([rows[index], candidate]), others)
            needed = max(needed, DEVIATIONS * await _deviation(pair, truth, sequences, state, instruments))
        attempt = Attempt(
            iteration,
            own[best].explanation,
            own[best].score,
            joint_score=together[best],
            gain=gain,
            needed=needed,
        )
        improved[index] = _with_attempt(mode, attempt)
        if attempt.accepted:
            rows[index] = candidate
            reached = together[best]
    return improved


async def _deviation(
    pair: Floats, truth: NDArray[np.float32], sequences: Sequence[int], state: RefinementState, instruments: Instruments
) -> float:
    """How much the gain of the second of two predictions over the first varies between samples of the sequences."""
    exemplars = await instruments.scorer.exemplars(state["neuron"], sequences)
    lengths, resampling = [len(one.tokens) for one in exemplars], Resampling(DRAWS, instruments.config.seed)
    before, after = pair
    return await asyncio.to_thread(deviation_of_gain, before, after, truth.astype(np.float64), lengths, resampling)


def selecting(ids: ExemplarIds) -> list[int]:
    """The validation sequences on which modes are chosen together: top, random, and those of all other ranks."""
    return [*ids.of("validation"), *ids.validation_others]


async def _merge(modes: list[Mode], state: RefinementState, instruments: Instruments) -> list[Mode]:
    """Make one of modes whose predictions have become one; the better keeps its name and takes the other's atoms."""
    sequences = state["exemplars"].of("validation")
    if len(modes) < 2 or not sequences or any(mode.val_score is None for mode in modes):
        return modes
    rows = await instruments.scorer.pooled(state["neuron"], [mode.explanation for mode in modes], sequences)
    order = sorted(range(len(modes)), key=lambda index: -sortable(modes[index].val_score))
    merged: dict[int, Mode] = {}
    for index in order:
        same = correlations(rows[list(merged)], rows[index]) if merged else []
        same_mode = next(
            (one for one, r in zip(merged, same, strict=True) if r is not None and r > SAME_PREDICTION), None
        )
        if same_mode is None:
            merged[index] = modes[index]
        else:
            atoms = dict.fromkeys([*merged[same_mode].atoms, *modes[index].atoms])
            merged[same_mode] = replace(merged[same_mode], atoms=list(atoms))
    return [merged[index] for index in sorted(merged)]


async def _drop_superfluous(modes: list[Mode], state: RefinementState, instruments: Instruments) -> list[Mode]:
    """Drop, one by one, the mode that contributes least, as long as they predict hardly worse without it.

    Before that go those that stand for hardly any activation.
    """
    ids = state["exemplars"]
    sequences = selecting(ids)
    if len(modes) < 2 or not sequences or any(mode.val_score is None for mode in modes):
        return modes
    truth = await instruments.scorer.ground_truth(state["neuron"], sequences)

    written = instruments.asks_a_language_model
    texts = [mode.explanation for mode in modes]
    fitted = await strengths_of(texts, state["neuron"], ids, instruments)
    strong = [mode for mode, strength in zip(modes, fitted, strict=True) if strength >= LEAST_STRENGTH]
    modes = modes if written else strong or modes

    async def reached(some: Sequence[Mode]) -> float:
        texts = [mode.explanation for mode in some]
        strengths = await strengths_of(texts, state["neuron"], ids, instruments)
        together = joint_prediction(await instruments.scorer.pooled(state["neuron"], texts, sequences), strengths)
        return sortable(correlations(together[None], truth)[0])

    now = await reached(modes)
    while len(modes) > 1:
        without = [await reached([*modes[:index], *modes[index + 1 :]]) for index in range(len(modes))]
        index = max(range(len(modes)), key=without.__getitem__)
        if without[index] < now + (LEAST_CONTRIBUTION if written else -LEAST_CONTRIBUTION):
            break
        modes, now = [*modes[:index], *modes[index + 1 :]], without[index]
    return modes


async def note_errors(modes: list[Mode], state: RefinementState, instruments: Instruments) -> list[Mode]:
    """Note on each mode's best attempt where it fails most on feedback text.

    With `objective="joint"` nothing that another mode predicts is a false negative: else each mode would be asked to
    take over what the others explain.
    """
    ids, neuron, scorer = state["exemplars"], state["neuron"], instruments.scorer
    sequences = ids.of("feedback")
    measured = {
        mode.representative: mode.explanation for mode in modes if mode.best and mode.best.val_score is not None
    }
    if not sequences or not measured:
        return modes
    exemplars = await scorer.exemplars(neuron, sequences)
    found = await scorer.predict(neuron, list(measured.values()), sequences)
    predicted: list[Floats] = [rows.astype(np.float64) for rows in found]
    if instruments.config.objective == "joint":
        strengths = await strengths_of(list(measured.values()), neuron, ids, instruments)
        predicted = [
            _leave_out_errors_of_others(scaled(rows, strengths), normalise(exemplar.activations, ids.maximum))
            for rows, exemplar in zip(predicted, exemplars, strict=True)
        ]
    errors = {
        name: largest_errors([rows[index] for rows in predicted], exemplars, ids.maximum)
        for index, name in enumerate(measured)
    }
    return [
        _with_errors(mode, errors[mode.representative]) if mode.representative in errors else mode for mode in modes
    ]


def _leave_out_errors_of_others(rows: Floats, actual: Floats) -> Floats:
    """The prediction that each mode's errors are taken from: all modes' together, with the errors of others left out.

    Args:
        rows: shape `(modes, tokens)`, each by its strength.
        actual: shape `(tokens,)`, on the same scale.
    """
    together = np.broadcast_to(rows.max(axis=0), rows.shape)
    by_another = (together > actual) & (rows < together)
    return np.where(by_another, actual, together)


def _with_errors(mode: Mode, errors: tuple[PredictionError, ...]) -> Mode:
    best = mode.best
    history = [replace(attempt, errors=errors) if attempt is best else attempt for attempt in mode.history]
    return replace(mode, history=history)
