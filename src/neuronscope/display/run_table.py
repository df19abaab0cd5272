"""Many explanations as one table for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from neuronscope.display import words
from neuronscope.results import NeuronExplanation, mean_of

COMMON = "This neuron activates "
"""How explanations begin, which a narrow column has no room for."""


class RunTable:
    """A rich renderable: a line per neuron, and the means.

    Args:
        results: in the order in which they are shown.
        cost: of a neuron, in words; an empty column is left out.
    """

    def __init__(self, results: Sequence[NeuronExplanation], cost: Sequence[str]) -> None:
        self.results = results
        self.cost = cost

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render for the console's width."""
        table = Table(box=box.SIMPLE_HEAD, expand=True, padding=(0, 1), pad_edge=False)
        table.add_column("Neuron", no_wrap=True)
        table.add_column("Modes", justify="right")
        table.add_column("Joint", justify="right", style="bold", no_wrap=True)
        has_corpus = any(result.corpus_score is not None for result in self.results)
        if has_corpus:
            table.add_column("Corpus", justify="right", no_wrap=True)
        has_separation = any(result.separation is not None for result in self.results)
        if has_separation:
            table.add_column("Separation", justify="right", no_wrap=True)
        if any(self.cost):
            table.add_column("Cost", justify="right", no_wrap=True)
        table.add_column("Activates (best mode)", ratio=1, no_wrap=True, overflow="ellipsis")
        for result, cost in zip(self.results, self.cost, strict=True):
            table.add_row(*_row(result, cost if any(self.cost) else None, has_corpus, has_separation))
        yield table
        yield Text(words.visible(_means(self.results)))
        if any(result.modes and result.joint_score is None for result in self.results):
            yield Text(words.LEGEND, style="dim")


def _row(result: NeuronExplanation, cost: str | None, has_corpus: bool, has_separation: bool) -> list[Text]:
    if result.modes:
        numbers = [_number(result), words.number(result.joint_score) + words.margin(result.interval)]
        numbers += [words.number(result.corpus_score) + words.margin(result.corpus_interval)] if has_corpus else []
        separation = words.number(result.separation) + words.margin(result.separation_interval)
        numbers += [separation] if has_separation else []
        best = result.modes[0].explanation.removeprefix(COMMON)
    else:
        numbers, best = ["0", ""] + [""] * (has_corpus + has_separation), result.status
    if result.status == "partial":
        numbers[0] += " (partial)"
        best = best if result.modes or not result.failures else result.failures[0].message
    cells = [str(result.neuron), *numbers, *([] if cost is None else [cost]), " ".join(best.split())]
    style = {"partial": "yellow", "dead": "dim"}.get(result.status, "")
    return [Text(words.visible(cell), style=style) for cell in cells]


def _number(result: NeuronExplanation) -> str:
    """How many modes, and how many of them have evidence, `4 (2–3)`."""
    low, high = result.number_interval or (result.number, result.number)
    if low == high == result.number:
        return str(result.number)
    return f"{result.number} ({low}–{high})" if low < high else f"{result.number} ({low})"


def _means(results: Sequence[NeuronExplanation]) -> str:
    found = [result for result in results if result.modes]
    tally = Counter(result.status for result in results)
    counts = [f"{len(results)} neurons", *(f"{tally[name]} {name}" for name in ("dead", "partial") if tally[name])]
    if not found:
        return ", ".join(counts)
    missing = sum(each.joint_score is None for each in found)
    figures = {
        "joint score": mean_of(each.joint_score for each in found),
        "corpus score": mean_of(each.corpus_score for each in found),
        "separation": mean_of(each.separation for each in found),
        "other neurons’ explanations": mean_of(each.null_score for each in found),
    }
    shown = [f"{name} {words.score(mean)}" for name, mean in figures.items() if mean is not None or "joint" in name]
    return (
        f"{', '.join(counts)}. Means of those with modes: {fmean(each.number for each in found):.2f} modes, "
        f"{', '.join(shown)}{f' ({missing} of them not measured)' if missing else ''}."
    )
