"""A result arranged for reading: which numbers stand where, how strongly a token is shaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from neuronscope.report.words import level, number
from neuronscope.result import Attempt, Excerpt, Experiment, Mode

OPEN_EXCERPTS = 5
"""Excerpts of a mode shown at once; the others unfold."""
STRONGEST_TOKENS = 3
"""Tokens of an excerpt whose numbers stand in print, for readers who cannot hover."""
PART_OF_CHARACTER = "▯"
"""Stands for a token without text of its own: one of several tokens that make up one character."""

_SPARK_WIDTH, _SPARK_HEIGHT, _SPARK_MARGIN = 132.0, 36.0, 5.0


@dataclass(frozen=True, slots=True)
class TokenView:
    """One token as it is painted."""

    text: str
    activation: float
    predicted: float

    @property
    def lead(self) -> str:
        """Blanks in front, which are not painted: a token of a word usually begins with the space before it."""
        return self.text[: len(self.text) - len(self.body)]

    @property
    def body(self) -> str:
        """What is painted; all of it if the token is nothing but blanks."""
        return self.text.lstrip(" ") or self.text

    @property
    def shade(self) -> int:
        """Step 0-10 of the background: what the neuron did."""
        return level(self.activation)

    @property
    def line(self) -> int:
        """Step 0-10 of the underline: what the explanation predicts."""
        return level(self.predicted)

    @property
    def title(self) -> str:
        """The numbers, as shown on hovering."""
        return f"activation {number(self.activation, 1)}, predicted {number(self.predicted, 1)}"


@dataclass(frozen=True, slots=True)
class SparkPoint:
    """One attempt within a sparkline."""

    x: float
    y: float
    title: str


@dataclass(frozen=True, slots=True)
class Sparkline:
    """Validation scores of a mode's history: a dot per attempt, a line for the best so far."""

    width: float
    height: float
    points: list[SparkPoint]
    line: str


def tokens_of(excerpt: Excerpt) -> list[TokenView]:
    """The excerpt's tokens; a number that is missing counts as 0."""
    activations = [*excerpt.activations, *[0.0] * len(excerpt.tokens)]
    predicted = [*excerpt.predicted, *[0.0] * len(excerpt.tokens)]
    numbers = zip(excerpt.tokens, activations, predicted, strict=False)
    return [TokenView(text or PART_OF_CHARACTER, actual, guess) for text, actual, guess in numbers]


def strongest(tokens: list[TokenView]) -> list[TokenView]:
    """The few tokens with the largest activations, strongest first; silent ones are left out."""
    active = [token for token in tokens if token.shade > 0]
    return sorted(active, key=lambda token: -token.activation)[:STRONGEST_TOKENS]


def best_so_far(history: list[Attempt]) -> list[float]:
    """The running maximum of the validation score."""
    return list(accumulate((attempt.val_score for attempt in history), max))


def experiments_on(mode: Mode) -> list[Experiment]:
    """The experiments whose texts were written from the mode's explanation: those that its generation score counts."""
    return [experiment for experiment in mode.experiments if experiment.explanation == mode.explanation]


def sparkline(mode: Mode) -> Sparkline | None:
    """The mode's validation history as coordinates of a small drawing; None without a history."""
    history = mode.history
    if not history:
        return None
    scores = [attempt.val_score for attempt in history]
    low, high = min(scores), max(scores)
    step = (_SPARK_WIDTH - 2 * _SPARK_MARGIN) / max(1, len(scores) - 1)
    rise = (_SPARK_HEIGHT - 2 * _SPARK_MARGIN) / (high - low) if high > low else 0.0
    floor = _SPARK_HEIGHT - _SPARK_MARGIN if high > low else _SPARK_HEIGHT / 2

    def place(position: int, score: float) -> tuple[float, float]:
        return round(_SPARK_MARGIN + position * step, 1), round(floor - (score - low) * rise, 1)

    points = [
        SparkPoint(*place(position, attempt.val_score), f"Iteration {attempt.iteration}: {number(attempt.val_score)}")
        for position, attempt in enumerate(history)
    ]
    corners = [place(position, score) for position, score in enumerate(best_so_far(history))]
    return Sparkline(_SPARK_WIDTH, _SPARK_HEIGHT, points, " ".join(f"{x},{y}" for x, y in corners))


def flatten(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """A nested mapping as rows of dotted name and text."""
    for key, value in document.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flatten(value, f"{name}.")
        elif isinstance(value, list | tuple):
            yield name, ", ".join(map(str, value))
        else:
            yield name, str(value)


def dollars(cost: float | None) -> str:
    """What something cost, to the hundredth of a cent."""
    return "unknown" if cost is None else f"${cost:.4f}"
