"""What a person sees while a simulator is trained."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_SMOOTHING = 0.95


class StepProgress:
    """A bar with steps, the loss (a moving average), tokens learnt and time left, on standard error.

    Args:
        show: whether to draw; None draws if standard error is a terminal.
    """

    def __init__(self, show: bool | None = None) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("Training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}, {task.fields[tokens]:,} tokens"),
            TimeRemainingColumn(),
            console=console,
            disable=not (console.is_terminal if show is None else show),
        )
        self._task = self._progress.add_task("training", total=None, start=False, loss=0.0, tokens=0)
        self._loss: float | None = None
        self._tokens = 0

    def __enter__(self) -> StepProgress:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def start(self, total: int, completed: int) -> None:
        """Say how many steps there are, and how many are already done."""
        self._progress.update(self._task, total=total, completed=completed)
        self._progress.start_task(self._task)

    def step(self, loss: float, tokens: int) -> None:
        """Say that one more step is done, with this loss, on so many tokens."""
        self._loss = loss if self._loss is None else _SMOOTHING * self._loss + (1 - _SMOOTHING) * loss
        self._tokens += tokens
        self._progress.update(self._task, advance=1, loss=self._loss, tokens=self._tokens)
