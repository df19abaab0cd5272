"""One table of everything that was measured: a row per explanation and metric."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuronscope.files import write_atomically
from neuronscope.saved import SavedForm, read_saved
from neuronscope.scoring.evaluation.resampling import Estimate
from neuronscope.units import Neuron

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

SCHEMA_VERSION = 1
"""Version of the saved form; a file of another version is refused with an error that says so."""
_SAVED = SavedForm("evaluation", SCHEMA_VERSION, "Evaluate again")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One number: how an explanation does by one metric, or, with no explanation, the neuron itself."""

    metric: str
    """Which metric: see `docs/metrics.md`."""
    explanation: str | None
    """The explanation that was measured; None for a metric of the neuron, which needs none."""
    value: float
    """Never NaN; where there is nothing to measure it is `chance`, and `note` says why."""
    low: float
    """Lower end of the 95 % bootstrap interval over sequences."""
    high: float
    """Its upper end."""
    n: int
    """How many sequences, texts or rounds the number rests on."""
    chance: float
    """What knowing nothing would give."""
    judge: str
    """Who answered: a simulator, a language model, an embedding model, or the subject itself."""
    negatives: str = ""
    """What was held against the firing sequences: "random" or "near misses"; "" where that is no question."""
    abstentions: int = 0
    """Answers of a language model that could not be read, or were refused; they count neither way."""
    note: str = ""
    """Why the number says little, if it does."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Every measurement of some explanations of one neuron, all on the same held-out sequences."""

    neuron: Neuron
    """The neuron that they explain."""
    explanations: list[str]
    """In the order given."""
    measurements: list[Measurement]
    """By metric, then by explanation."""
    unavailable: dict[str, str] = field(default_factory=dict)
    """Metrics that were asked for with `metrics="all"` and cannot be had here, with the reason."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Which sequences, models and settings the numbers come from, and what they cost."""

    def records(self) -> list[dict[str, Any]]:
        """The table as a list of dictionaries, one per row: `pandas.DataFrame(evaluation.records())`."""
        return [asdict(measurement) for measurement in self.measurements]

    def select(self, metric: str, explanation: str | None = None) -> list[Measurement]:
        """The rows of one metric, of all explanations or of one."""
        return [
            row
            for row in self.measurements
            if row.metric == metric and (explanation is None or row.explanation == explanation)
        ]

    def to_json(self) -> str:
        """The whole table as JSON text."""
        return _SAVED.to_json(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Evaluation:
        """Read what `to_json` wrote.

        Raises:
            ResultError: the text is not a saved evaluation of this version.
        """
        return _SAVED.from_json(cls, text)

    def save(self, path: str | Path) -> Path:
        """Write the table as JSON, under a temporary name first."""
        return write_atomically(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> Evaluation:
        """Read a saved table.

        Raises:
            ResultError: there is no such file, or it is not a saved evaluation of this version.
        """
        return cls.from_json(read_saved(path))

    def _repr_html_(self) -> str:
        from neuronscope.report.evaluation import render_table

        return render_table(self)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """How `rich` prints the table."""
        from neuronscope.report.evaluation import EvaluationReport

        yield EvaluationReport(self)


def measurement(
    metric: str,
    explanation: str | None,
    estimate: Estimate,
    *,
    n: int,
    chance: float,
    judge: str,
    negatives: str = "",
    abstentions: int = 0,
) -> Measurement:
    """A row of the table from an estimate."""
    return Measurement(
        metric=metric,
        explanation=explanation,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        n=n,
        chance=chance,
        judge=judge,
        negatives=negatives,
        abstentions=abstentions,
        note=estimate.note,
    )
