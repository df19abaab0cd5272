"""Real sentences and what a strong reader made of them: correlation, agreement, and how explanations are ranked.

A file of readings is one of sentences (`baselines.written`) whose lines also have `texts`, each with `tokens`,
`predicted`, the strong reader's values by token index (a dictionary, or one for each mode), and `actual`, what the
neuron did.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from neuronscope.baselines.written import WrittenLine, read_lines
from neuronscope.metrics import pearson, pearson_rows
from neuronscope.metrics.joint import joint_prediction
from neuronscope.types import Exemplar, Neuron

if TYPE_CHECKING:
    from neuronscope.interfaces import Simulator

OTHERS = 8
"""Modes of other neurons that are ranked among a neuron's own."""
Values: TypeAlias = Mapping[int, float]
"""Per token index what is not 0."""


class _Text(BaseModel):
    tokens: tuple[str, ...]
    predicted: Values | list[Values]
    actual: Values


class _Line(WrittenLine):
    texts: list[_Text]


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """One explanation of a neuron, all its modes, and the strong reader's joint prediction."""

    form: str
    explanations: tuple[str, ...]
    strengths: tuple[float | None, ...]
    predicted: NDArray[np.float32]
    """The strong reader's, over all tokens of the neuron's texts together."""


@dataclass(frozen=True, slots=True, eq=False)
class ReadNeuron:
    """A neuron, its texts, and all its readings."""

    neuron: Neuron
    exemplars: list[Exemplar]
    """Without activations."""
    actual: NDArray[np.float32]
    """The neuron's activations over all tokens of its texts together."""
    readings: list[Reading]
    others: tuple[str, ...] = ()
    """Modes of other neurons."""

    @property
    def explanations(self) -> list[str]:
        """What is ranked: every sentence about it, then those about others."""
        own = [text for reading in self.readings for text in reading.explanations]
        return list(dict.fromkeys((*own, *self.others)))


@dataclass(frozen=True, slots=True)
class ReadingScore:
    """What a simulator made of one explanation."""

    neuron: str
    form: str
    score: float
    """Correlation of its joint prediction with the activations."""
    agreement: float
    """Correlation of its joint prediction with the strong reader's."""
    strong: float
    """Correlation of the strong reader's joint prediction with the activations."""


def load_readings(path: Path, neurons: int | None, texts: int | None, seed: int) -> list[ReadNeuron]:
    """The neurons of a file of readings, each with modes of others.

    Args:
        path: one JSON object a line; see above.
        neurons: how many are drawn; None is all.
        texts: how many of each neuron's texts are drawn; None is all.
        seed: of the draws.

    Raises:
        ConfigurationError: the file cannot be read, or has another form.
    """
    found: dict[tuple[Neuron, tuple[tuple[str, ...], ...]], list[_Line]] = {}
    for line in read_lines(path, _Line):
        found.setdefault((line.unit, tuple(text.tokens for text in line.texts)), []).append(line)
    generator = np.random.default_rng(seed)
    keys = [list(found)[number] for number in sorted(generator.permutation(len(found))[:neurons])]
    loaded = [_neuron(neuron, found[neuron, tokens], texts, generator) for neuron, tokens in keys]
    return [
        ReadNeuron(each.neuron, each.exemplars, each.actual, each.readings, _drawn(each, loaded, generator))
        for each in loaded
    ]


def _neuron(neuron: Neuron, lines: Sequence[_Line], n: int | None, generator: np.random.Generator) -> ReadNeuron:
    chosen = sorted(generator.permutation(len(lines[0].texts))[:n])
    texts = [[line.texts[number] for number in chosen] for line in lines]
    return ReadNeuron(
        neuron,
        [blank_exemplar(text.tokens, number) for number, text in enumerate(texts[0])],
        _dense(texts[0], [[text.actual] for text in texts[0]]),
        [
            Reading(
                line.form,
                tuple(mode.explanation for mode in line.every_mode),
                tuple(mode.strength for mode in line.every_mode),
                _dense(own, [each.predicted if isinstance(each.predicted, list) else [each.predicted] for each in own]),
            )
            for line, own in zip(lines, texts, strict=True)
        ],
    )


def _drawn(one: ReadNeuron, all_of_them: Sequence[ReadNeuron], generator: np.random.Generator) -> tuple[str, ...]:
    others = [text for each in all_of_them if each.neuron != one.neuron for text in each.explanations]
    return tuple(others[number] for number in generator.permutation(len(others))[:OTHERS])


def _dense(texts: Sequence[_Text], values: Sequence[Sequence[Values]]) -> NDArray[np.float32]:
    """Values by token index as one array over all texts: the largest where a text has several."""
    rows = [np.zeros(len(text.tokens), dtype=np.float32) for text in texts]
    for row, several in zip(rows, values, strict=True):
        for by_token in several:
            for index, value in by_token.items():
                row[index] = max(row[index], value)
    return np.concatenate(rows)


def blank_exemplar(tokens: Sequence[str], number: int, source: str = "") -> Exemplar:
    """A text as simulators take it: without activations."""
    none = np.zeros(len(tokens), dtype=np.float32)
    return Exemplar(tuple(tokens), tuple(range(len(tokens))), none, number, source)


def read_neurons(
    simulator: Simulator, neurons: Iterable[ReadNeuron]
) -> Iterator[tuple[list[ReadingScore], list[float]]]:
    """Measure each neuron in one call: a score for each reading, and one for each of its `explanations`."""
    for one in neurons:
        explanations = one.explanations
        predicted = np.concatenate(simulator.simulate(explanations, one.exemplars), axis=1)
        scores = []
        for reading in one.readings:
            rows = predicted[[explanations.index(text) for text in reading.explanations]]
            joint = joint_prediction(rows, reading.strengths)
            scores.append(
                ReadingScore(
                    str(one.neuron),
                    reading.form,
                    pearson(joint, one.actual).value or 0.0,
                    pearson(joint, reading.predicted).value or 0.0,
                    pearson(reading.predicted, one.actual).value or 0.0,
                )
            )
        yield scores, [score.value or 0.0 for score in pearson_rows(predicted, one.actual)]


def kendall(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Kendall's tau-b of two rankings; None where one of them is a single tie."""
    from scipy.stats import kendalltau

    tau = float(kendalltau(first, second).statistic)
    return tau if np.isfinite(tau) else None
