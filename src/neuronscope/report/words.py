"""What every report says in the same words, and how untrusted text is made safe to show."""

from __future__ import annotations

import math
import unicodedata
from typing import Literal

from neuronscope.result import NeuronExplanation, Trial

_SYMBOLS = {"\n": "↵", "\t": "⇥", "\x7f": "␡"}
_JOINERS = {"\u200c", "\u200d"}
_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
WEAK_SCORE = 0.1
"""If no mode and not all together reach this test score, the summary says so: a sentence alone sounds convincing."""

_PROVENANCE_OF_SUBJECT = ("subject", "model")


def visible(text: str) -> str:
    """Text in which nothing is invisible and nothing controls the page or the terminal.

    Control characters, direction overrides, zero-width and tag characters, line separators and lone surrogates are
    shown as a symbol (`↵`, `␛`) or by their code point (`‹U+202E›`). The two zero-width joiners stay: Persian, the
    scripts of India and emoji are misspelt without them.
    """
    if text.isprintable():
        return text
    return "".join(map(_visible_character, text))


def _visible_character(character: str) -> str:
    if character in _JOINERS or unicodedata.category(character) not in _INVISIBLE:
        return character
    if character in _SYMBOLS:
        return _SYMBOLS[character]
    if character < " ":
        return chr(0x2400 + ord(character))
    return f"‹U+{ord(character):04X}›"


def number(value: float, digits: int = 2) -> str:
    """A score or activation for reading: fixed decimals, a true minus sign, a dash for what is not a number."""
    if not math.isfinite(value):
        return "–"
    return f"{value:z.{digits}f}".replace("-", "−")


def share(value: float | None) -> str:
    """A share in percent; a dash for one that is not known."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.0%}"


def expectation(trial: Trial) -> str:
    """What a written text should do."""
    return "should fire" if trial.expected else "should not"


def outcome(trial: Trial) -> str:
    """What the neuron did on a written text: `fires at "unknown" (7.2)`."""
    peak = f" at “{visible(trial.token.strip() or trial.token)}”" if trial.token else ""
    return f"{'fires' if trial.fired else 'silent'}{peak} ({number(trial.activation, 1)})"


def change(before: float, after: float) -> str:
    """A difference with its sign: `+0.12`."""
    sign = {"up": "+", "down": "−", "same": "±"}[direction(before, after)]
    return f"{sign}{number(abs(after - before))}"


def direction(before: float, after: float) -> Literal["up", "down", "same"]:
    """Which way a score went, as far as two decimals show it."""
    difference = after - before
    if not math.isfinite(difference) or abs(difference) < 0.005:
        return "same"
    return "up" if difference > 0 else "down"


def level(activation: float) -> int:
    """The step, 0-10, of an activation on the scale 0-10; what is not a number is silent."""
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


def neuron_name(explanation: NeuronExplanation) -> str:
    """The neuron in words: `Layer 9, neuron 421, large positive values`."""
    neuron = explanation.neuron
    side = "positive" if neuron.sign > 0 else "negative"
    site = "" if neuron.site == "mlp" else f" ({neuron.site})"
    return f"Layer {neuron.layer}, neuron {neuron.index}{site}, large {side} values"


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
    if count and max(explanation.joint_score, *(mode.score for mode in explanation.modes)) < WEAK_SCORE:
        found += " None of it predicts the neuron on held-out text much better than chance."
    if explanation.status == "partial":
        return f"{found} The result is partial: a step failed, as told under “What went wrong”."
    return found
