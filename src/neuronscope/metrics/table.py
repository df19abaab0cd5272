"""One table of everything that was measured: a row per explanation and metric."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuronscope.io import write_atomically
from neuronscope.metrics.bootstrap import Estimate
from neuronscope.saved import SavedForm, read_saved
from neuronscope.types import Neuron

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

_SAVED = SavedForm("evaluation", "Evaluate again")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One number: how an explanation does by one metric, or, with no explanation, the neuron itself."""

    metric: str
    """Which metric: see `docs/metrics.md`."""
    explanation: str | None
    """The explanation that was measured; None for a metric of the neuron, which needs none."""
    value: float | None
    """Never NaN; None where there is nothing to measure, and `note` says why. A constant prediction is at
    `baseline`."""
    low: float | None
    """Lower end of the 95 % bootstrap interval over sequences; None where `value` is."""
    high: float | None
    """Its upper end; None where `value` is."""
    n: int
    """How many sequences, texts or rounds the number rests on."""
    baseline: float | None
    """The value without any knowledge; None where that depends on sequences, and there are none."""
    judge: str
    """Who answered: a simulator, a language model, an embedding model, or the subject itself."""
    negatives: str = ""
    """The negatives: "random" or "hard negatives"; "" for a metric without negatives."""
    abstentions: int = 0
    """Answers of a language model that could not be read, or were refused; they count neither way."""
    note: str = ""
    """Why the number says little, or why there is none."""


@dataclass(frozen=True, slots=True, repr=False)
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

    def __repr__(self) -> str:
        n, taken = len(self.explanations), sum(each.value is not None for each in self.measurements)
        of = "1 explanation" if n == 1 else f"{n} explanations"
        return f"Evaluation({self.neuron}: {of}, {taken} of {len(self.measurements)} measurements taken)"

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
        """The whole table as JSON text.

        Raises:
            ResultError: a number in it is not finite, which JSON cannot hold.
        """
        return _SAVED.to_json(self)

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
        return read_saved(path, cls.from_json)

    def _repr_html_(self) -> str:
        from neuronscope.display.evaluation import render_table

        return render_table(self)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """How `rich` prints the table."""
        from neuronscope.display.evaluation import EvaluationReport

        yield EvaluationReport(self)


def measurement(
    metric: str,
    explanation: str | None,
    estimate: Estimate,
    *,
    n: int,
    baseline: float | None,
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
        baseline=baseline,
        judge=judge,
        negatives=negatives,
        abstentions=abstentions,
        note=estimate.note,
    )
