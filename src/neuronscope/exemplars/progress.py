"""What a person sees while exemplars are collected."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class _TokensPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{task.completed:,.0f} tokens" + (f", {speed:,.0f}/s" if speed else ""))


class TokenProgress:
    """A bar with tokens, tokens per second and time left, on standard error.

    Args:
        description: the line's beginning.
        n_tokens: tokens to come, if that is known.
        n_characters: roughly how many characters there are to read, if that is known.
        show: whether to draw; None draws if standard error is a terminal.
    """

    def __init__(self, description: str, n_tokens: int | None, n_characters: int | None, show: bool | None) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            _TokensPerSecond(),
            TimeRemainingColumn(),
            console=console,
            disable=not (console.is_terminal if show is None else show),
        )
        self._task = self._progress.add_task(description, total=n_tokens)
        self._n_tokens = n_tokens
        self._n_characters = n_characters
        self._tokens = 0

    def __enter__(self) -> TokenProgress:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def advance(self, tokens: int) -> None:
        """Say that so many more tokens are done."""
        self._tokens += tokens
        self._progress.update(self._task, advance=tokens)

    def estimate(self, tokens_read: int, characters_read: int) -> None:
        """Correct the expected total by how many tokens the text read so far turned out to have."""
        if self._n_characters and characters_read:
            total = tokens_read * self._n_characters / characters_read
            self._progress.update(self._task, total=min(total, self._n_tokens or total))
