"""What a mode was when its refinement began, and what it is after some attempts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from neuronscope.results import Attempt, Experiment, Mode, best_attempt


def representative(mode: Mode) -> str:
    """What a mode's refinement began with."""
    return mode.history[0].explanation if mode.history else mode.explanation


def refined(mode: Mode, history: list[Attempt], experiments: Sequence[Experiment] = ()) -> Mode:
    """The mode with the best attempt of its history, and with what was tried out."""
    if not history:
        return mode
    best = best_attempt(history)
    return replace(
        mode,
        explanation=best.explanation,
        val_score=best.val_score,
        history=history,
        experiments=list(experiments),
        generation_score=generation_score(best.explanation, experiments),
    )


def generation_score(explanation: str, experiments: Sequence[Experiment]) -> float | None:
    """The share of the texts written from an explanation, to fire the neuron, that do; None without such texts."""
    fired = [
        trial.fired
        for experiment in experiments
        if experiment.explanation == explanation
        for trial in experiment.trials
        if trial.expected
    ]
    return sum(fired) / len(fired) if fired else None
