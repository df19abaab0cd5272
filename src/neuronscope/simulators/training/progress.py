"""What a person sees while a simulator is trained."""

from __future__ import annotations

from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from neuronscope.bars import Bar

_SMOOTHING = 0.95


class StepProgress:
    """A bar with steps, the loss (a moving average), tokens learnt and time left.

    It stands on standard error or below a notebook's cell.

    Args:
        show: whether to draw; None draws in a terminal and in a notebook.
    """

    def __init__(self, show: bool | None = None) -> None:
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}, {task.fields[tokens]:,} tokens"),
            TimeRemainingColumn(),
            description="Training",
            total=None,
            show=show,
            start=False,
            loss=0.0,
            tokens=0,
        )
        self._loss: float | None = None
        self._tokens = 0

    def __enter__(self) -> StepProgress:
        self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, traceback)

    def start(self, total: int, completed: int) -> None:
        """Say how many steps there are, and how many are already done."""
        self._bar.update(total=total, completed=completed)
        self._bar.begin()

    def step(self, loss: float, tokens: int) -> None:
        """Say that one more step is done, with this loss, on so many tokens."""
        self._loss = loss if self._loss is None else _SMOOTHING * self._loss + (1 - _SMOOTHING) * loss
        self._tokens += tokens
        self._bar.update(advance=1, loss=self._loss, tokens=self._tokens)
