"""An explanation for the terminal.

Untrusted text goes through `visible` and into `rich.text.Text`, never into markup: it can neither style nor control
the terminal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from neuronscope.display import words
from neuronscope.display.page import TokenView, probes_on, tokens_of
from neuronscope.results import Bounds, Excerpt, Mode, NeuronExplanation

EXCERPTS_PER_MODE = 3
"""Excerpts shown under each mode."""
EXCERPT_LINES = 2
"""Lines that an excerpt takes at most, around its strongest token."""
LEFT_SHARE = 0.65
"""Share of these lines that goes to what precedes the strongest token: a neuron sees nothing of what follows."""

_BRACKETS = (("«", "»"), ("⟦", "⟧"), ("‹‹", "››"), ("⟪", "⟫"), ("[[[", "]]]"))
_SHADES = ("#fff3d6", "#ffe9b8", "#ffdc94", "#ffcf70", "#ffc14d", "#ffb42b", "#ffa51a", "#ff960d", "#ff8700", "#ff7a00")


class TerminalReport:
    """A rich renderable of one explanation: `Console().print(TerminalReport(x))`.

    Where the terminal has colours, activating tokens are shaded by strength; where it has none, they stand in
    brackets.
    """

    def __init__(self, explanation: NeuronExplanation) -> None:
        self.explanation = explanation

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render for the console's width and colours."""
        explanation = self.explanation
        colours = console.color_system is not None and not console.no_color
        yield from _header(explanation)
        if explanation.modes:
            yield _table(explanation)
            if any(None in (mode.score, mode.unrefined_score, mode.subset_score) for mode in explanation.modes):
                yield Text(words.LEGEND, style="dim")
            weak = [str(place) for place, mode in enumerate(explanation.modes, 1) if mode.supported is False]
            if weak:
                yield Text(f"{', '.join(weak)}: {words.NOT_SUPPORTED}", style="yellow")
        for position, mode in enumerate(explanation.modes, 1):
            yield from _mode_excerpts(position, mode, options.max_width, colours)
        for failure in explanation.failures:
            yield Text(words.visible(f"{failure.agent}: {failure.message}"), style="red")


def _header(explanation: NeuronExplanation) -> Iterator[Text]:
    subject = words.visible(words.subject_name(explanation))
    title = Text(words.visible(words.neuron_name(explanation.neuron)), style="bold")
    if subject:
        title.append(f" · {subject}", style="dim")
    yield title
    yield Text(words.summary(explanation), style="" if explanation.status == "explained" else "yellow")
    if explanation.modes:
        nulls = words.nulls(explanation)
        yield Text.assemble(
            "Joint score ",
            (words.score(explanation.joint_score), "bold"),
            words.interval(explanation.interval),
            *_figure("corpus score", explanation.corpus_score, explanation.corpus_interval),
            ", number ",
            (str(explanation.number), "bold"),
            words.how_many(explanation),
            *_figure("separation", explanation.separation, explanation.separation_interval),
        )
        if nulls:
            yield Text(f"Joint scores of {nulls}", style="dim")


def _figure(name: str, value: float | None, bounds: Bounds | None) -> list[str | tuple[str, str]]:
    """One of the figures that a result shows, where it was asked for."""
    return [] if value is None else [f", {name} ", (words.score(value), "bold"), words.interval(bounds)]


def _table(explanation: NeuronExplanation) -> Table:
    table = Table(box=box.SIMPLE_HEAD, expand=True, padding=(0, 1), pad_edge=False)
    table.add_column("#", justify="right", style="dim")
    table.add_column("Explanation", ratio=1, overflow="fold")
    table.add_column("Strength", justify="right")
    table.add_column("Test score", justify="right", style="bold")
    table.add_column("Subset", justify="right")
    tested = any(mode.generation_score is not None for mode in explanation.modes)
    if tested:
        table.add_column("Generation", justify="right")
    for position, mode in enumerate(explanation.modes, 1):
        score = f"{words.number(mode.unrefined_score)} → {words.number(mode.score)}"
        score += f"\n{words.interval(mode.interval).strip()}" if mode.interval else ""
        cells = [words.visible(mode.explanation), words.number(mode.strength, 1), score]
        cells += [words.number(mode.subset_score), *([words.share(mode.generation_score)] if tested else [])]
        table.add_row(str(position), *map(Text, cells))
    return table


def _mode_excerpts(position: int, mode: Mode, width: int, colours: bool) -> Iterator[Text | Table]:
    if not (mode.excerpts or mode.probes):
        return
    head = Text.assemble((f"{position} ", "dim"), (words.visible(mode.explanation), "bold"))
    head.truncate(width, overflow="ellipsis")
    yield head
    rows = Table.grid(padding=(0, 1))
    for excerpt in mode.excerpts[:EXCERPTS_PER_MODE]:
        rows.add_row(Text(" •", style="dim"), _excerpt(excerpt, EXCERPT_LINES * (width - 12), colours))
    yield rows
    yield from _probe_texts(mode)
    yield Text()


def _probe_texts(mode: Mode) -> Iterator[Text | Table]:
    """What was written from the mode's explanation, and how active the neuron was.

    The web page also has the texts that were written from earlier explanations.
    """
    texts = [tried for probe in probes_on(mode) for tried in probe.texts]
    if not texts:
        return
    yield Text("   texts written to test it, with the largest activation:", style="dim")
    rows = Table.grid(padding=(0, 1))
    for tried in texts:
        outcome = f"{words.expectation(tried)}, {words.outcome(tried)}"
        style = "" if tried.activated == tried.expected else "yellow"
        rows.add_row(Text("  ", style="dim"), Text(outcome, style=style), Text(words.visible(tried.text)))
    yield rows


def _excerpt(excerpt: Excerpt, budget: int, colours: bool) -> Text:
    tokens = [replace(token, text=words.visible(token.text)) for token in tokens_of(excerpt)]
    start, end = _window(tokens, budget)
    shown = tokens[start:end]
    painted = _shaded(shown) if colours else _bracketed(shown)
    if start > 0:
        painted = Text("… ").append_text(painted[1:] if painted.plain.startswith(" ") else painted)
    painted.append(" …" if end < len(tokens) else "")
    return painted


def _window(tokens: list[TokenView], budget: int) -> tuple[int, int]:
    """Where to cut so that the strongest token and about `budget` characters around it stay, most of them before it."""
    peak = max(range(len(tokens)), key=lambda position: tokens[position].activation, default=0)
    start, end = peak, min(peak + 1, len(tokens))
    room = budget - sum(len(token.text) for token in tokens[start:end])
    left = int(room * LEFT_SHARE)
    while start > 0 and len(tokens[start - 1].text) <= left:
        start -= 1
        left -= len(tokens[start].text)
        room -= len(tokens[start].text)
    while end < len(tokens) and len(tokens[end].text) <= room:
        room -= len(tokens[end].text)
        end += 1
    return start, end


def _shaded(tokens: list[TokenView]) -> Text:
    painted = Text()
    for token in tokens:
        painted.append(token.lead)
        painted.append(token.body, style=f"black on {_SHADES[token.shade - 1]}" if token.shade else "")
    return painted


def _bracketed(tokens: list[TokenView]) -> Text:
    """Runs of tokens at least half as active as the strongest, between brackets that the text itself has not got."""
    text = "".join(token.text for token in tokens)
    opening, closing = next((pair for pair in _BRACKETS if not any(mark in text for mark in pair)), _BRACKETS[-1])
    threshold = max(0.5, max((token.activation for token in tokens), default=0.0) / 2)
    painted, inside = Text(), False
    for token in tokens:
        active = token.activation >= threshold
        if active and not inside:
            painted.append(token.lead + opening + token.body)
        else:
            painted.append((closing if inside and not active else "") + token.text)
        inside = active
    return painted.append(closing if inside else "")
