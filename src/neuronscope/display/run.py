"""What a person sees while many neurons are being explained."""

from __future__ import annotations

import logging
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from neuronscope.display.choice import Progress as ProgressRequest
from neuronscope.display.choice import display_target
from neuronscope.display.costs import Cost
from neuronscope.display.notebook import NotebookPicture
from neuronscope.display.words import how_many, interval, score, visible
from neuronscope.events import NeuronProgress, ProgressEvent
from neuronscope.llm.batches import waiting_for_batches
from neuronscope.llm.usage import UsageTracker
from neuronscope.results import NeuronExplanation, Usage
from neuronscope.types import Neuron

logger = logging.getLogger(__name__)

MIN_INTERVAL = 1.0
"""Seconds between two updates in a notebook."""
_SHOWN = 12
"""Neurons under way that are shown."""


class RunDisplay:
    """Counts neurons, and shows them on standard error: what each is at, its modes and scores, cost and time left.

    In a notebook the same stands below the cell. Elsewhere every finished neuron is one line of the log.

    Args:
        total: how many neurons there are.
        progress: whether to draw; None draws in a terminal and in a notebook; or what every event is passed to.
    """

    def __init__(self, total: int, progress: ProgressRequest = None) -> None:
        console = Console(stderr=True)
        self._listener = progress if callable(progress) else None
        target = display_target(progress)
        self._notebook = NotebookPicture(self._picture) if target == "notebook" else None
        self._show = target == "terminal"
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            TextColumn("{task.fields[cost]}"),
            console=console,
            speed_estimate_period=24 * 3600,
        )
        self._task = self._bar.add_task("Explaining", total=total, cost="")
        self._under_way: dict[Neuron, NeuronProgress] = {}
        self._trackers: dict[Neuron, UsageTracker] = {}
        self._total = total
        self._n_done = 0
        self._cost = Cost()
        self.n_put_off = 0
        """Neurons that were not begun because the budget was spent."""
        self._live = Live(console=console, transient=True, refresh_per_second=4, get_renderable=self._picture)

    def __enter__(self) -> RunDisplay:
        if self._show:
            self._live.start()
        if self._notebook is not None:
            self._notebook.show()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._show:
            self._live.stop()
        if self._notebook is not None:
            self._notebook.show()
        if self.n_put_off:
            logger.warning(
                "The budget is spent: %d neurons were not begun. Run the same again with a larger one; what is "
                "finished, and every answer that was paid for, is kept.",
                self.n_put_off,
            )

    @property
    def cost(self) -> Cost:
        """What this run has cost so far, neurons under way included."""
        cost = self._cost
        for usage in list(self._trackers.values()):
            cost = cost.plus(Cost.of(Usage(**usage.counts())))
        return cost

    def known(self, results: int) -> None:
        """Say how many results are there from before."""
        self._n_done += results
        self._bar.reset(self._task, completed=self._n_done, total=self._total, cost="")

    def started(self, neuron: Neuron, usage: UsageTracker) -> None:
        """Say that a neuron is under way."""
        self._under_way[neuron] = NeuronProgress(neuron)
        self._trackers[neuron] = usage

    def take(self, event: ProgressEvent) -> None:
        """Take in an event of a neuron's graph."""
        if event.neuron in self._under_way:
            self._under_way[event.neuron].take(event)
        if self._listener is not None:
            self._listener(event)
        if self._notebook is not None:
            self._notebook.show(MIN_INTERVAL)

    def put_off(self, neuron: Neuron) -> None:
        """Say that a neuron is not begun, since the budget is spent."""
        self.n_put_off += 1

    def finished(self, result: NeuronExplanation) -> None:
        """Say that a neuron is done."""
        self._under_way.pop(result.neuron, None)
        self._trackers.pop(result.neuron, None)
        self._cost = self._cost.plus(Cost.of(result.usage))
        self._n_done += 1
        self._bar.update(self._task, completed=self._n_done)
        if not self._show and self._notebook is None:
            logger.info("%d/%d  %s", self._n_done, self._total, in_a_line(result))

    def _picture(self) -> Group:
        self._bar.update(self._task, cost=str(self.cost))
        table = Table.grid(padding=(0, 2))
        for progress in list(self._under_way.values())[:_SHOWN]:
            modes = list(progress.modes.values())
            scores = " ".join(f"{mode.score:.2f}" for mode in modes if mode.score is not None)
            rounds = max((mode.iteration or 0 for mode in modes), default=0)
            at = f"{progress.doing}, round {rounds}" if modes and not progress.is_done else progress.doing
            table.add_row(f"  {progress.neuron}", at, Text(scores, style="bold"))
        more = len(self._under_way) - _SHOWN
        notes = [f"  and {more} more"] if more > 0 else []
        notes += [f"  {waiting}"] if (waiting := waiting_for_batches()) else []
        return Group(self._bar, table, *(Text(note, style="dim") for note in notes))


def in_a_line(result: NeuronExplanation) -> str:
    """One finished neuron in a log."""
    if result.status == "dead":
        return f"{result.neuron}: dead"
    modes = "1 mode" if result.number == 1 else f"{result.number} modes"
    line = f"{result.neuron}: {modes}"
    if result.modes:
        line += f"{how_many(result)}, joint score {score(result.joint_score)}{interval(result.interval)}"
        if result.corpus_score is not None:
            line += f", corpus score {score(result.corpus_score)}{interval(result.corpus_interval)}"
        if result.separation is not None:
            line += f", separation {score(result.separation)}{interval(result.separation_interval)}"
    if result.status == "partial":
        line += f"; partial: {result.failures[0].message}" if result.failures else "; partial"
    return visible(line)
