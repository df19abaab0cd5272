"""A neuron's progress in a terminal."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from neuronscope.display.words import number, visible
from neuronscope.events import NeuronProgress, ProgressEvent
from neuronscope.types import Neuron


class GraphProgress:
    """The step at work, and every mode's iteration and best score, on standard error; gone when it is over.

    A context manager, to be called with each event.

    Args:
        neuron: the neuron that is being explained.
    """

    def __init__(self, neuron: Neuron) -> None:
        self._so_far = NeuronProgress(neuron)
        self._spinner = Spinner("dots")
        self._live = Live(self._picture(), console=Console(stderr=True), transient=True, refresh_per_second=8)

    def __enter__(self) -> GraphProgress:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def __call__(self, event: ProgressEvent) -> None:
        """Show what an event says."""
        self._so_far.take(event)
        self._live.update(self._picture())

    def _picture(self) -> RenderableType:
        self._spinner.update(text=Text(visible(f"{self._so_far.neuron}: {self._so_far.doing}")))
        if not self._so_far.modes:
            return self._spinner
        table = Table.grid(padding=(0, 2))
        for event in self._so_far.modes.values():
            score = "" if event.score is None else number(event.score)
            doing = Text(self._so_far.doing_in(event), style="dim")
            text = Text(visible(event.explanation or ""), no_wrap=True, overflow="ellipsis")
            table.add_row(f"  iteration {event.iteration}", score, doing, text)
        return Group(self._spinner, table)
