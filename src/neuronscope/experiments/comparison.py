"""Simulators side by side: what each was measured at, as JSON and as tables, and why others were not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from neuronscope.experiments.concept_reading import ConceptScore
from neuronscope.experiments.concepts import KINDS, WORDINGS
from neuronscope.experiments.cost import Cost
from neuronscope.experiments.readings import ReadingScore, kendall
from neuronscope.io import write_atomically
from neuronscope.metrics.bootstrap import Estimate, Resampling, estimate

FILE = "simulators"
"""What the files are called that `save` writes."""
NONE = "–"


@dataclass(frozen=True, slots=True)
class Measured:
    """What one simulator was measured at."""

    planted: list[ConceptScore]
    readings: list[ReadingScore]
    rankings: list[list[float]]
    """For each neuron of the readings, the score of each explanation that is ranked."""
    cost: Cost | None
    """None if there are no texts that are new to all."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Simulators, measured on the same concepts, sentences and texts."""

    settings: dict[str, Any]
    """What was measured and with what: options, among them the `seed`, versions, seconds."""
    measured: dict[str, Measured] = field(default_factory=dict)
    not_measured: dict[str, str] = field(default_factory=dict)
    """The reason by name."""

    def save(self, folder: Path) -> tuple[Path, Path]:
        """Write `simulators.json` and `simulators.md`."""
        document = asdict(self) | {"agreement": [each.to_json() for each in self._pairs()]}
        text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
        markdown = f"{self.markdown()}\n\n```json\n{json.dumps(self.settings, ensure_ascii=False, indent=1)}\n```\n"
        return (
            write_atomically(folder / f"{FILE}.json", text),
            write_atomically(folder / f"{FILE}.md", markdown),
        )

    def markdown(self) -> str:
        """All tables: means with 95 % bootstrap intervals over concepts, explanations or neurons."""
        parts = [
            self._planted("Planted concepts", lambda score: True),
            self._planted("Planted concepts that nothing was tuned on", lambda score: score.held_out),
            self._readings(),
            self._rankings(),
            self._costs(),
            *(f"**{name}** was not measured: {reason}" for name, reason in self.not_measured.items()),
        ]
        return "\n\n".join(part for part in parts if part)

    def _planted(self, title: str, counts: Callable[[ConceptScore], bool]) -> str:
        rows = []
        for name, found in self.measured.items():
            for wording in WORDINGS:
                scores = [each for each in found.planted if each.wording == wording and counts(each)]
                by_kind = [[each.score for each in scores if each.kind == kind] for kind in KINDS]
                if scores:
                    rows.append([name, wording, *(f"{self._mean(each)} n={len(each)}" for each in by_kind)])
        return _table(title, ["simulator", "wording", *KINDS], rows)

    def _readings(self) -> str:
        rows = []
        for name, found in self.measured.items():
            forms = dict.fromkeys(each.form for each in found.readings)
            for form in [*forms, "all"] if len(forms) > 1 else ["all"]:
                scores = [each for each in found.readings if form in (each.form, "all")]
                if scores:
                    columns = ([e.score for e in scores], [e.agreement for e in scores], [e.strong for e in scores])
                    rows.append([name, form, str(len(scores)), *map(self._mean, columns)])
        head = ["simulator", "sentences", "n", "r", "agreement with the strong reader", "strong reader, r"]
        return _table("Real sentences", head, rows)

    def _rankings(self) -> str:
        rows = [[pair.names, str(pair.neurons), _shown(pair.tau)] for pair in self._pairs()]
        return _table("Ranking explanations of one neuron", ["simulators", "neurons", "Kendall's tau"], rows)

    def _pairs(self) -> Iterator[_Pair]:
        for (one, first), (other, second) in combinations(self.measured.items(), 2):
            both = zip(first.rankings, second.rankings, strict=True)
            taus = [tau for a, b in both if (tau := kendall(a, b)) is not None]
            if taus:
                yield _Pair(f"{one} and {other}", len(taus), self._estimate(taus))

    def _costs(self) -> str:
        costs = [(name, found.cost) for name, found in self.measured.items() if found.cost is not None]
        rows = [
            [
                name,
                _milliseconds(cost.per_text),
                str(cost.texts),
                _milliseconds(cost.per_explanation),
                _milliseconds(cost.wall),
                NONE if cost.tokens is None else f"{cost.tokens:,}",
            ]
            for name, cost in costs
        ]
        head = [
            "simulator",
            "a new text",
            "known texts",
            "a new explanation on them",
            "by the clock",
            "tokens of an LLM",
        ]
        return _table("Cost (processor time)", head, rows)

    def _mean(self, values: Sequence[float]) -> str:
        return _shown(self._estimate(values)) if values else NONE

    def _estimate(self, values: Sequence[float]) -> Estimate:
        array = np.array(values)
        return estimate(
            lambda weights: weights @ array / weights.sum(axis=-1),
            np.zeros(len(array)),
            0.0,
            Resampling(seed=self.settings["seed"]),
            "nothing was measured",
        )


@dataclass(frozen=True, slots=True)
class _Pair:
    """How two simulators rank."""

    names: str
    neurons: int
    tau: Estimate

    def to_json(self) -> dict[str, Any]:
        """The pair as the file has it."""
        return {
            "simulators": self.names,
            "neurons": self.neurons,
            "tau": self.tau.value,
            "interval": self.tau.interval,
        }


def _shown(number: Estimate) -> str:
    return NONE if number.value is None else f"{number.value:.3f} ({number.low:.2f} to {number.high:.2f})"


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:,.0f} ms"


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table under its title; nothing without rows."""
    if not rows:
        return ""
    lines = [f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]]
    return "\n".join([f"**{title}**", "", *lines])
