"""What a person sees while exemplars are collected."""

from __future__ import annotations

from types import TracebackType

from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from neuronscope.bars import Bar


class _TokensPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{task.completed:,.0f} tokens" + (f", {speed:,.0f}/s" if speed else ""))


class TokenProgress:
    """A bar with tokens, tokens per second and time left, on standard error or below a notebook's cell.

    Args:
        description: the line's beginning.
        n_tokens: tokens to come, if that is known.
        n_characters: roughly how many characters there are to read, if that is known.
        show: whether to draw; None draws in a terminal and in a notebook.
    """

    def __init__(self, description: str, n_tokens: int | None, n_characters: int | None, show: bool | None) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), _TokensPerSecond(), TimeRemainingColumn())
        self._bar = Bar(*columns, description=description, total=n_tokens, show=show)
        self._n_tokens = n_tokens
        self._n_characters = n_characters

    def __enter__(self) -> TokenProgress:
        self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, traceback)

    def advance(self, tokens: int) -> None:
        """Say that so many more tokens are done."""
        self._bar.update(advance=tokens)

    def estimate(self, tokens_read: int, characters_read: int) -> None:
        """Correct the expected total by how many tokens the text read so far turned out to have."""
        if self._n_characters and characters_read:
            total = tokens_read * self._n_characters / characters_read
            self._bar.update(total=min(total, self._n_tokens or total))
