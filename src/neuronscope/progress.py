"""What a person sees while a neuron is being explained."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from neuronscope.report.words import visible
from neuronscope.result import Mode

_AT_WORK = {
    "observe": "drawing exemplars",
    "hypothesis": "drafting what the exemplars have in common",
    "decomposition": "splitting the drafts into single conditions",
    "clustering": "grouping the conditions into modes",
    "refine": "refining the modes",
    "conclude": "scoring on the test set",
}


class GraphProgress:
    """The agent at work, and every mode's iteration and best score, on standard error.

    It reads what the graph streams with `stream_mode=["tasks", "updates"]` and `subgraphs=True`.

    Args:
        title: what is being explained.
        show: whether to draw; None draws if standard error is a terminal.
    """

    def __init__(self, title: str, show: bool | None = None) -> None:
        console = Console(stderr=True)
        self._title = title
        self._show = console.is_terminal if show is None else show
        self._live = Live(console=console, transient=True, refresh_per_second=8)
        self._spinner = Spinner("dots", text=title)
        self._modes: dict[str, Mode] = {}

    def __enter__(self) -> GraphProgress:
        if self._show:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._show:
            self._live.stop()

    def update(self, namespace: tuple[str, ...], kind: str, event: dict[str, Any]) -> None:
        """Take in one event of the graph's stream."""
        if not self._show:
            return
        if kind == "tasks" and not namespace and "triggers" in event:
            self._spinner.update(text=Text(f"{self._title}: {_AT_WORK.get(event['name'], event['name'])}"))
        elif kind == "updates" and namespace and "assess" in event:
            for mode in event["assess"]["modes"]:
                self._modes[namespace[0]] = mode
        self._live.update(self._picture())

    def _picture(self) -> RenderableType:
        if not self._modes:
            return self._spinner
        table = Table.grid(padding=(0, 2))
        for mode in self._modes.values():
            iteration = mode.history[-1].iteration if mode.history else 0
            text = Text(visible(mode.explanation), no_wrap=True, overflow="ellipsis")
            table.add_row(f"  iteration {iteration}", f"{mode.val_score:.2f}", text)
        return Group(self._spinner, table)
