"""A table of metrics for the terminal and the notebook: a row per metric and judge, a column per explanation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from neuronscope.display import words
from neuronscope.metrics.table import Evaluation, Measurement

CELL_WIDTH = 25
"""Characters of a column with a value and its interval."""
FIXED_WIDTH = 82
"""Characters of the columns that name the metric."""

Key = tuple[str, str, str]
"""Metric, judge, negatives: what makes a row."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: a metric and who judged, with a measurement for each explanation that has one."""

    key: Key
    measurements: dict[str | None, Measurement]

    @property
    def label(self) -> str:
        """The metric in words."""
        return self.key[0].replace("_", " ")


def rows_of(evaluation: Evaluation) -> list[Row]:
    """The measurements, brought into rows in the order in which they were taken."""
    rows: dict[Key, dict[str | None, Measurement]] = {}
    for measurement in evaluation.measurements:
        key = (measurement.metric, measurement.judge, measurement.negatives)
        rows.setdefault(key, {})[measurement.explanation] = measurement
    return [Row(key, measurements) for key, measurements in rows.items()]


def cell(measurement: Measurement | None) -> str:
    """A value with its interval, and a star where a note belongs to it."""
    if measurement is None:
        return ""
    if measurement.value is None:
        return f"{words.NOT_MEASURED}*"
    value, low, high = (words.number(number) for number in (measurement.value, measurement.low, measurement.high))
    return f"{value} ({low} to {high}){'*' if measurement.note or measurement.abstentions else ''}"


def heading(evaluation: Evaluation) -> str:
    """The neuron, and both models where the explanations were made on another than they are measured on."""
    neuron = words.neuron_name(evaluation.neuron)
    explained, measured = (evaluation.provenance.get(key) for key in ("explained_subject", "subject"))
    if not explained or not measured:
        return neuron
    return f"{neuron}, explained in {_subject(explained)}, measured in {_subject(measured)}"


def _subject(described: dict[str, Any]) -> str:
    fingerprint = described.get("fingerprint")
    return f"{described.get('name', 'unknown')}{f' (fingerprint {fingerprint})' if fingerprint else ''}"


def notes(evaluation: Evaluation) -> list[str]:
    """What the stars mean, and what could not be had; the same remark once."""
    found: dict[str, list[str]] = {}
    for measurement in evaluation.measurements:
        remarks = [measurement.note] if measurement.note else []
        if measurement.abstentions:
            remarks.append(f"{measurement.abstentions} answers of {measurement.judge} could not be used")
        for remark in remarks:
            found.setdefault(remark, []).append(measurement.metric.replace("_", " "))
    starred = [f"* {', '.join(dict.fromkeys(metrics))}: {remark}" for remark, metrics in found.items()]
    return starred + [f"{metric}: not measured, {reason}" for metric, reason in evaluation.unavailable.items()]


class EvaluationReport:
    """A rich renderable of a table of metrics: `Console().print(EvaluationReport(evaluation))`.

    Untrusted text goes through `visible` and into `rich.text.Text`, never into markup.
    """

    def __init__(self, evaluation: Evaluation) -> None:
        self.evaluation = evaluation

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render for the console's width: as many explanations side by side as fit."""
        evaluation = self.evaluation
        yield Text(words.visible(heading(evaluation)), style="bold")
        for number, explanation in enumerate(evaluation.explanations, start=1):
            yield Text(f"{number}  {words.visible(explanation)}")
        columns = list(enumerate(evaluation.explanations, start=1))
        n_beside = max(1, (options.max_width - FIXED_WIDTH) // CELL_WIDTH)
        for start in range(0, max(1, len(columns)), n_beside):
            yield _table(evaluation, columns[start : start + n_beside], with_neuron=start == 0)
        for note in notes(evaluation):
            yield Text(words.visible(note), style="dim")


def render_table(evaluation: Evaluation) -> str:
    """The table for a notebook cell; every text is escaped."""
    columns = list(enumerate(evaluation.explanations, start=1))
    head = "".join(
        f"<th{_side(column)}>{_safe(name)}</th>"
        for column, name in enumerate(["metric", "judge", "negatives", "n", "baseline", *_heads(columns)])
    )
    body = "".join(
        "<tr>" + "".join(f"<td{_side(column)}>{_safe(text)}</td>" for column, text in enumerate(line)) + "</tr>"
        for line in _lines(evaluation, columns)
    )
    listed = "".join(f"<li>{_safe(explanation)}</li>" for explanation in evaluation.explanations)
    remarks = "".join(f"<p>{_safe(note)}</p>" for note in notes(evaluation))
    return (
        f"<p><b>{_safe(heading(evaluation))}</b></p><ol>{listed}</ol>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{remarks}"
    )


def _table(evaluation: Evaluation, columns: list[tuple[int, str]], *, with_neuron: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for name in ("metric", "judge", "negatives"):
        table.add_column(name, overflow="fold")
    for name in ("n", "baseline", *_heads(columns)):
        table.add_column(name, justify="right", no_wrap=True)
    for line in _lines(evaluation, columns, with_neuron=with_neuron):
        table.add_row(*map(Text, line))
    return table


def _heads(columns: list[tuple[int, str]]) -> list[str]:
    return [f"explanation {number}" for number, _ in columns] or ["neuron"]


def _lines(evaluation: Evaluation, columns: list[tuple[int, str]], *, with_neuron: bool = True) -> Iterator[list[str]]:
    """The cells of each row: what was measured of the neuron itself stands in the first column, and says so."""
    for row in rows_of(evaluation):
        own = row.measurements.get(None)
        if own is not None and with_neuron:
            yield [f"{row.label} (neuron)", *_about([own]), *_padded([cell(own)], len(columns))]
        found = [row.measurements.get(explanation) for _, explanation in columns]
        measured = [measurement for measurement in found if measurement is not None]
        if measured:
            yield [row.label, *_about(measured), *map(cell, found)]


def _about(measurements: list[Measurement]) -> list[str]:
    """Judge, negatives, sample size and baseline, which the measurements of a row share, or nearly."""
    first, sizes = measurements[0], sorted({measurement.n for measurement in measurements})
    n = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else str(sizes[0])
    return [words.visible(first.judge), first.negatives.removesuffix(" negatives"), n, words.number(first.baseline)]


def _padded(cells: list[str], n: int) -> list[str]:
    return [*cells, *[""] * (max(1, n) - len(cells))]


def _side(column: int) -> str:
    """Words are aligned on the left, numbers on the right, as notebooks do with everything."""
    return ' style="text-align:left"' if column < 3 else ""


def _safe(text: str) -> str:
    return escape(words.visible(text))
