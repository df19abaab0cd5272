"""What every report says in the same words."""

from __future__ import annotations

import math
from typing import Literal

from neuronscope.results import Bounds, NeuronExplanation, ProbeText
from neuronscope.text import visible as visible
from neuronscope.types import Neuron

WEAK_SCORE = 0.1
"""If no mode and not all together reach this test score, the summary says so: a sentence alone sounds convincing."""

_PROVENANCE_OF_SUBJECT = ("subject", "model")


NOT_MEASURED = "not measured"
NOT_SUPPORTED = "Little evidence: its interval reaches 0, or fewer than five active test sequences are its own."
LEGEND = f"–: {NOT_MEASURED}."
"""Stands below a table that has a dash in it."""


def number(value: float | None, digits: int = 2) -> str:
    """A score or activation for reading: fixed decimals, a true minus sign, a dash for what was not measured."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:z.{digits}f}".replace("-", "−")


def score(value: float | None) -> str:
    """A score where there is room for words: two decimals, or that it was not measured."""
    return NOT_MEASURED if value is None else number(value)


def share(value: float | None) -> str:
    """A share in percent; a dash for one that is not known."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.0%}"


def expectation(tried: ProbeText) -> str:
    """What a written text should do."""
    return "should activate" if tried.expected else "should not"


def outcome(tried: ProbeText) -> str:
    """What the neuron did on a written text: `active at "unknown" (7.2)`."""
    peak = f" at “{visible(tried.token.strip() or tried.token)}”" if tried.token else ""
    return f"{'active' if tried.activated else 'inactive'}{peak} ({number(tried.activation, 1)})"


def change(before: float | None, after: float | None) -> str:
    """A difference with its sign, `+0.12`; nothing where either was not measured."""
    if before is None or after is None:
        return ""
    sign = {"up": "+", "down": "−", "same": "±"}[direction(before, after)]
    return f"{sign}{number(abs(after - before))}"


def interval(bounds: Bounds | None) -> str:
    """A 95 % interval behind its score, ` (0.41 to 0.58)`; ` (exact)` for one without any width; nothing for none."""
    if bounds is None:
        return ""
    return " (exact)" if bounds[0] == bounds[1] else f" ({number(bounds[0])} to {number(bounds[1])})"


def margin(bounds: Bounds | None) -> str:
    """The same where there is little room: half its width, ` ±0.08`."""
    return "" if bounds is None else f" ±{number((bounds[1] - bounds[0]) / 2)}"


def nulls(explanation: NeuronExplanation) -> str:
    """What explanations of other neurons score here, and the best of as many as were tried; nothing if not measured."""
    if explanation.null_score is None:
        return ""
    best = (
        "" if explanation.null_best is None else f", the best of as many as were tried {number(explanation.null_best)}"
    )
    return f"other neurons’ explanations: {number(explanation.null_score)}{best}"


def how_many(explanation: NeuronExplanation) -> str:
    """The interval of the number of modes that have evidence, ` (2 to 3 supported)`; nothing if not measured."""
    if explanation.number_interval is None:
        return ""
    low, high = explanation.number_interval
    return f" ({low} supported)" if low == high else f" ({low} to {high} supported)"


def direction(before: float | None, after: float | None, bounds: Bounds | None = None) -> Literal["up", "down", "same"]:
    """Which way a score went, as far as two decimals show it; within its interval it went nowhere."""
    if before is None or after is None or (bounds is not None and bounds[0] <= before <= bounds[1]):
        return "same"
    difference = after - before
    if not math.isfinite(difference) or abs(difference) < 0.005:
        return "same"
    return "up" if difference > 0 else "down"


def level(activation: float) -> int:
    """The step, 0-10, of an activation on the scale 0-10; what is not a number is inactive."""
    if not math.isfinite(activation):
        return 0
    return min(10, max(0, round(activation)))


def subject_name(explanation: NeuronExplanation) -> str:
    """The model's name as the provenance has it, or nothing."""
    for key in _PROVENANCE_OF_SUBJECT:
        value = explanation.provenance.get(key)
        if isinstance(value, dict):
            value = value.get("name")
        if isinstance(value, str) and value:
            return value
    return ""


def unit(neuron: Neuron) -> str:
    """Where the neuron is, in words: `Layer 9, neuron 421`, with its site if that is not the MLP."""
    site = "" if neuron.site == "mlp" else f" ({neuron.site})"
    return f"Layer {neuron.layer}, neuron {neuron.index}{site}"


def side(neuron: Neuron) -> str:
    """Which of its values are meant."""
    return "large positive values" if neuron.sign > 0 else "large negative values"


def neuron_name(neuron: Neuron) -> str:
    """The neuron in words: `Layer 9, neuron 421, large positive values`."""
    return f"{unit(neuron)}, {side(neuron)}"


def summary(explanation: NeuronExplanation) -> str:
    """What was found, in a sentence or two."""
    if explanation.status == "dead":
        return (
            "This neuron is dead: it has no activation of this sign anywhere in the corpus, so there is nothing to "
            "explain. Try the other sign, or a larger corpus."
        )
    count = explanation.number
    if count == 0:
        found = "No explanation was found."
    elif count == 1:
        found = "One meaning was found for this neuron."
    else:
        found = f"{count} separate meanings were found for this neuron."
    scores = [explanation.joint_score, *(mode.score for mode in explanation.modes)]
    measured = [score for score in scores if score is not None]
    if count and not measured:
        found += " None of it was measured on test text."
    elif count and max(measured) < WEAK_SCORE:
        found += " None of it predicts the neuron on held-out text much better than chance."
    if explanation.status == "partial":
        return f"{found} The result is partial: something failed or could not be measured, see “What went wrong”."
    return found
