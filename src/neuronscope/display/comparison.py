"""Methods beside each other: a table of one neuron, and a picture of what they score against what they spend."""

from __future__ import annotations

from statistics import mean
from typing import TYPE_CHECKING, Literal, Protocol

from rich import box
from rich.table import Table
from rich.text import Text

from neuronscope.display import words
from neuronscope.display.costs import Cost
from neuronscope.display.plots import canvas, look, nothing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure
    from rich.console import Console, ConsoleOptions, RenderResult

    from neuronscope.metrics.bootstrap import Estimate
    from neuronscope.results import Failure, Usage


class Row(Protocol):
    """What is drawn of a row."""

    @property
    def method(self) -> str:
        """The method's name."""

    @property
    def joint_score(self) -> float | None:
        """Its joint score."""

    @property
    def score(self) -> float | None:
        """Its mean score over sentences."""

    @property
    def corpus_score(self) -> float | None:
        """Its corpus score."""

    @property
    def number(self) -> int | None:
        """How many sentences."""

    @property
    def sentences(self) -> Sequence[str]:
        """The sentences."""

    @property
    def failures(self) -> Sequence[Failure]:
        """What went wrong."""

    @property
    def usage(self) -> Usage:
        """What it cost."""


class Rows(Protocol):
    """What is drawn of a comparison."""

    @property
    def rows(self) -> Sequence[Row]:
        """A row for each neuron and method."""

    @property
    def methods(self) -> list[str]:
        """The methods."""

    def mean(self, method: str) -> Estimate:
        """A method's mean joint score, with its interval."""


class MethodTable:
    """A rich renderable: a line per method, of one neuron.

    Args:
        rows: in the order in which they are shown.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render for the console's width."""
        table = Table(box=box.SIMPLE_HEAD, expand=True, padding=(0, 1), pad_edge=False)
        table.add_column("Method", no_wrap=True)
        for name in ("Number", "Score", "Joint", "Corpus", "LLM", "Simulated"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("Best sentence", ratio=1, no_wrap=True, overflow="ellipsis")
        for row in self.rows:
            said = row.sentences[0] if row.sentences else row.failures[0].message if row.failures else ""
            cells = [
                row.method,
                "" if row.number is None else str(row.number),
                words.number(row.score),
                words.number(row.joint_score),
                words.number(row.corpus_score),
                str(Cost.of(row.usage)),
                f"{row.usage.simulated_tokens:,}",
                " ".join(said.split()),
            ]
            failed = row.failures and row.joint_score is None
            table.add_row(*(Text(words.visible(cell), style="yellow" if failed else "") for cell in cells))
        yield table


def plot_cost(comparison: Rows, tokens: Literal["llm", "simulated"] = "llm") -> Figure:
    """Mean joint score by mean tokens of a neuron, with the intervals of the scores; a logarithmic axis from 0.

    Raises:
        ConfigurationError: matplotlib is not installed.
    """
    figure, axes = canvas("Score and cost")
    drawn = [(method, found) for method in comparison.methods if (found := comparison.mean(method)).value is not None]
    for position, (method, found) in enumerate(drawn):
        usages = [row.usage for row in comparison.rows if row.method == method and row.joint_score is not None]
        spent = mean(usage.llm_tokens if tokens == "llm" else usage.simulated_tokens for usage in usages)
        colour, marker = look(position)
        value = float(found.value or 0.0)
        ends = found.interval or (value, value)
        errors = [[max(0.0, value - ends[0])], [max(0.0, ends[1] - value)]]
        axes.errorbar([spent], [value], yerr=errors, fmt=marker, color=colour, capsize=2, markersize=6, label=method)
    if not drawn:
        return nothing(figure, axes, "no method has a score")
    axes.set_xscale("symlog", linthresh=100)
    axes.set_xlim(left=0)
    what = "Tokens of language models" if tokens == "llm" else "Tokens predicted by the simulator"
    axes.set(xlabel=f"{what}, mean of a neuron", ylabel="Joint score on test text, mean over neurons")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8, frameon=False)
    return figure
