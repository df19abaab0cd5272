"""A plan of a run, for the terminal, a log and a notebook: expected and at most, side by side."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, NamedTuple

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from neuronscope.display.words import visible

if TYPE_CHECKING:
    from neuronscope.planning.plan import Plan

UNKNOWN = "unknown"
"""What stands where something cannot be known."""


class Row(NamedTuple):
    """A line of the plan."""

    label: str
    expected: str
    most: str = ""
    is_part: bool = False
    """Whether it is a part of the line above it."""


def heading(plan: Plan) -> str:
    """What the plan is of."""
    done = f", {plan.finished:,} of {plan.neurons:,} are finished" if plan.finished else ""
    return f"Plan: {plan.left:,} neuron{'' if plan.left == 1 else 's'} to explain{done}"


def rows_of(plan: Plan) -> list[Row]:
    """The plan, line by line."""
    expected, most = plan.expected, plan.at_most
    rows = []
    if plan.agents:  # who ask a language model
        rows += [
            Row("Requests", count(expected.requests), count(most.requests)),
            *(Row(agent, count(each.requests), is_part=True) for agent, each in plan.agents.items()),
            Row("Tokens of prompts", count(expected.input_tokens), count(most.input_tokens)),
            Row("Tokens of answers", count(expected.output_tokens), count(most.output_tokens)),
            Row("Dollars", dollars(expected.dollars), dollars(most.dollars)),
        ]
    rows += [
        Row("Simulator tokens", count(expected.simulated_tokens), count(most.simulated_tokens)),
        Row("Time", duration(expected.seconds)),
    ]
    if len(plan.steps) > 1:
        rows += [Row(name, duration(seconds), is_part=True) for name, seconds in plan.steps.items()]
    rows.append(Row("Disk", size(plan.disk)))
    rows += [Row(name, size(n), is_part=True) for name, n in plan.files.items()]
    rows.append(Row("Memory", size(plan.memory)))
    rows += [Row("GPU memory", size(plan.gpu_memory))] if plan.gpu_memory is not None else []
    return rows


def remarks(plan: Plan) -> list[str]:
    """What stands below the table."""
    said = []
    if plan.spent.simulated_tokens:
        cost = f"{count(plan.spent.requests)} requests, {dollars(plan.spent.dollars)}, {duration(plan.spent.seconds)}"
        said.append(f"The plan's own sample took {cost}; the run does not pay for it again.")
    if plan.budget is not None:
        lasts = UNKNOWN if plan.affordable is None else f"about {plan.affordable:,} of {plan.left:,}"
        said.append(f"The budget has {plan.budget} left; neurons that it lasts for: {lasts}.")
    return said + list(plan.assumptions)


def count(n: int | None) -> str:
    """A number of requests or tokens: three digits say all that a plan knows."""
    if n is None:
        return UNKNOWN
    for unit, name in ((1e9, " billion"), (1e6, " million")):
        if n >= unit:
            return f"{n / unit:,.3g}{name}" if n < 1000 * unit else f"{n / unit:,.0f}{name}"
    return f"{n:,}" if n < 1000 else f"{float(f'{n:.3g}'):,.0f}"


def dollars(amount: float | None) -> str:
    """US dollars."""
    if amount is None:
        return UNKNOWN
    return f"${amount:,.2f}" if amount >= 0.01 or not amount else f"${amount:.2g}"


def duration(seconds: float | None) -> str:
    """A time in the unit that suits it."""
    if seconds is None:
        return UNKNOWN
    for unit, name in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 1.5 * unit:
            return f"{seconds / unit:,.1f} {name}"
    return f"{seconds:.0f} s" if seconds >= 10 or not seconds else f"{seconds:.1f} s"


def size(n: int | None) -> str:
    """Bytes in the unit that suits them."""
    if n is None:
        return UNKNOWN
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n >= unit:
            return f"{n / unit:.3g} {name}"
    return f"{n} bytes"


class PlanReport:
    """A rich renderable: `Console().print(plan)`."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render for the console's width."""
        yield Text(heading(self.plan), style="bold")
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
        table.add_column("")
        table.add_column("Expected", justify="right", no_wrap=True)
        table.add_column("At most", justify="right", no_wrap=True)
        for row in rows_of(self.plan):
            style = "dim" if row.is_part else ""
            label = f"  {row.label}" if row.is_part else row.label
            table.add_row(*(Text(visible(cell), style=style) for cell in (label, row.expected, row.most)))
        yield table
        for remark in remarks(self.plan):
            yield Text(f"- {visible(remark)}", style="dim")


def as_text(plan: Plan) -> str:
    """The same without colours, for logs."""
    console = Console(width=100, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(PlanReport(plan))
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def render_plan(plan: Plan) -> str:
    """The plan for a notebook cell; every text is escaped."""
    lines = "".join(
        f'<tr><td style="text-align:left">{"&emsp;" * row.is_part}{_safe(row.label)}</td><td>{_safe(row.expected)}</td>'
        f"<td>{_safe(row.most)}</td></tr>"
        for row in rows_of(plan)
    )
    said = "".join(f"<li>{_safe(remark)}</li>" for remark in remarks(plan))
    return (
        f"<p><b>{_safe(heading(plan))}</b></p><table><thead><tr><th></th><th>Expected</th><th>At most</th></tr></thead>"
        f"<tbody>{lines}</tbody></table><ul>{said}</ul>"
    )


def _safe(text: str) -> str:
    return escape(visible(text))
