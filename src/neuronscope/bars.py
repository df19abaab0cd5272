"""Progress bars where the program runs: on standard error, or below a notebook's cell, with no widgets to install."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from importlib import import_module
from types import TracebackType
from typing import Any, Literal, Self

from rich.console import Console, RenderableType
from rich.progress import Progress, ProgressColumn

MIN_INTERVAL = 0.5
"""Seconds between two pictures of a bar in a notebook: every one is a message to the browser."""


def in_notebook() -> bool:
    """Whether this process is a notebook's kernel. IPython is not imported to find out."""
    get_shell = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return get_shell is not None and getattr(get_shell(), "kernel", None) is not None


def place_of(show: bool | None) -> Literal["notebook", "terminal"] | None:
    """Where something is shown, if it is: None shows it in a notebook and in a terminal, and nowhere else."""
    if show is False:
        return None
    if in_notebook():
        return "notebook"
    return "terminal" if show or Console(stderr=True).is_terminal else None


class NotebookPicture:
    """What rich would draw in a terminal, below the notebook's cell, changed in place.

    Args:
        draw: makes the picture as it is now.
    """

    def __init__(self, draw: Callable[[], RenderableType]) -> None:
        self._draw = draw
        self._handle: Any = None
        self._shown_at = 0.0

    def show(self, interval: float = 0.0) -> None:
        """Bring it up to date, unless that was done less than `interval` seconds ago."""
        if time.monotonic() - self._shown_at < interval:
            return
        self._shown_at = time.monotonic()
        page = jupyter().HTML(self._html())
        if self._handle is None:
            self._handle = jupyter().display(page, display_id=True)
        else:
            self._handle.update(page)

    def _html(self) -> str:
        console = Console(record=True, file=io.StringIO(), width=110, force_jupyter=False, color_system="truecolor")
        console.print(self._draw())
        form = '<pre style="line-height:1.25;overflow-x:auto">{code}</pre>'
        return console.export_html(code_format=form, inline_styles=True)  # which escapes the text


class Bar:
    """A rich progress bar of one task, shown while it is entered.

    Args:
        columns: rich's; `task.fields` has what `fields` and `update` give.
        description: the line's beginning.
        total: how much there is to do, if that is known.
        show: whether to draw; None draws in a terminal and in a notebook.
        fields: what the columns show besides.
    """

    def __init__(
        self,
        *columns: ProgressColumn,
        description: str,
        total: float | None,
        show: bool | None,
        **fields: Any,
    ) -> None:
        place = place_of(show)
        self._progress = Progress(*columns, console=Console(stderr=True), disable=place != "terminal")
        self._task = self._progress.add_task(description, total=total, **fields)
        self._picture = NotebookPicture(lambda: self._progress) if place == "notebook" else None

    def __enter__(self) -> Self:
        self._progress.start()
        if self._picture is not None:
            self._picture.show()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()
        if self._picture is not None:
            self._picture.show()

    def update(self, **changes: Any) -> None:
        """Change what `rich.progress.Progress.update` can change: total, completed, advance, or a field."""
        self._progress.update(self._task, **changes)
        if self._picture is not None:
            self._picture.show(MIN_INTERVAL)


def jupyter() -> Any:
    """IPython's display module, which leaves its functions untyped; in a kernel it has long been imported."""
    return import_module("IPython.display")
