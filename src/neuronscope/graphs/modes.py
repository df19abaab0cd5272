"""What a mode was when its refinement began, and what it is after some attempts."""

from __future__ import annotations

from dataclasses import replace

from neuronscope.result import Attempt, Mode


def representative(mode: Mode) -> str:
    """What a mode's refinement began with."""
    return mode.history[0].explanation if mode.history else mode.explanation


def refined(mode: Mode, history: list[Attempt]) -> Mode:
    """The mode with the best attempt of its history; the earliest of equals, so only a better one replaces it."""
    if not history:
        return mode
    best = max(history, key=lambda attempt: attempt.val_score)
    return replace(mode, explanation=best.explanation, val_score=best.val_score, history=history)
