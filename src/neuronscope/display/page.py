"""A result arranged for reading: which numbers stand where, how strongly a token is shaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

from neuronscope.display.words import level, number
from neuronscope.results import Attempt, Excerpt, Mode, Probe

OPEN_EXCERPTS = 5
"""Excerpts of a mode shown at once; the others unfold."""
STRONGEST_TOKENS = 3
"""Tokens of an excerpt whose numbers stand in print, for readers who cannot hover."""
PART_OF_CHARACTER = "▯"
"""Stands for a token without text of its own: one of several tokens that make up one character."""

_ACTIVATION, _PREDICTION = "245,148,20", "64,120,240"
_OPACITY = (0.12, 0.2, 0.28, 0.36, 0.44, 0.72, 0.78, 0.85, 0.92, 1)
"""Of the backgrounds, by step; from `_STRONG` on they need dark letters, whatever the page's are."""
_STRONG = 6

_SPARK_WIDTH, _SPARK_HEIGHT, _SPARK_MARGIN = 132.0, 36.0, 5.0


@dataclass(frozen=True, slots=True)
class TokenView:
    """One token as it is painted."""

    text: str
    activation: float
    predicted: float | None

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
        return 0 if self.predicted is None else level(self.predicted)

    @property
    def style(self) -> str:
        """How it is painted, for an HTML element's `style`."""
        return token_style(self.shade, self.line)

    @property
    def title(self) -> str:
        """The numbers, as shown on hovering."""
        return f"activation {number(self.activation, 1)}, {self.guess}"

    @property
    def guess(self) -> str:
        """What was predicted, in words."""
        return "not predicted" if self.predicted is None else f"predicted {number(self.predicted, 1)}"


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


def token_style(shade: int, line: int) -> str:
    """A token's background and underline, which read well on light and dark grounds alike.

    It stands in the element itself, in properties that JupyterLab's sanitizer lets pass: a notebook that is not
    trusted keeps no style sheet.

    Args:
        shade: step 0-10 of the background.
        line: step 0-10 of the underline.
    """
    rules = []
    if shade:
        rules.append(f"background-color:rgba({_ACTIVATION},{_OPACITY[shade - 1]})")
    if shade >= _STRONG:
        rules.append("color:#1c1200;font-weight:600")
    if line:
        width, kind = (3, "solid") if line > 6 else (3, "dashed") if line > 3 else (2, "dotted")
        rules.append(f"border-bottom:{width}px {kind} rgba({_PREDICTION},{0.5 + line / 20:g})")
    return ";".join(rules)


def tokens_of(excerpt: Excerpt) -> list[TokenView]:
    """The excerpt's tokens."""
    predicted: Sequence[float | None] = excerpt.predicted or [None] * len(excerpt.tokens)
    numbers = zip(excerpt.tokens, excerpt.activations, predicted, strict=True)
    return [TokenView(text or PART_OF_CHARACTER, actual, guess) for text, actual, guess in numbers]


def strongest(tokens: list[TokenView]) -> list[TokenView]:
    """The few tokens with the largest activations, strongest first; inactive ones are left out."""
    active = [token for token in tokens if token.shade > 0]
    return sorted(active, key=lambda token: -token.activation)[:STRONGEST_TOKENS]


class Scored(NamedTuple):
    """An attempt whose score was measured."""

    iteration: int
    score: float


def scored(history: list[Attempt]) -> list[Scored]:
    """The attempts that have a validation score."""
    return [Scored(each.iteration, each.val_score) for each in history if each.val_score is not None]


def best_so_far(attempts: list[Scored]) -> list[float]:
    """The running maximum of the validation score."""
    return list(accumulate((attempt.score for attempt in attempts), max))


def probes_on(mode: Mode) -> list[Probe]:
    """The probes whose texts were written from the mode's explanation: those that its generation score counts."""
    return [probe for probe in mode.probes if probe.explanation == mode.explanation]


def sparkline(mode: Mode) -> Sparkline | None:
    """The mode's validation history as coordinates of a small drawing; None if it has no score."""
    history = scored(mode.history)
    if not history:
        return None
    scores = [attempt.score for attempt in history]
    low, high = min(scores), max(scores)
    step = (_SPARK_WIDTH - 2 * _SPARK_MARGIN) / max(1, len(scores) - 1)
    rise = (_SPARK_HEIGHT - 2 * _SPARK_MARGIN) / (high - low) if high > low else 0.0
    floor = _SPARK_HEIGHT - _SPARK_MARGIN if high > low else _SPARK_HEIGHT / 2

    def point_at(position: int, score: float) -> tuple[float, float]:
        return round(_SPARK_MARGIN + position * step, 1), round(floor - (score - low) * rise, 1)

    points = [
        SparkPoint(*point_at(position, attempt.score), f"Iteration {attempt.iteration}: {number(attempt.score)}")
        for position, attempt in enumerate(history)
    ]
    corners = [point_at(position, score) for position, score in enumerate(best_so_far(history))]
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
