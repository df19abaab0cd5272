"""Progress bars of loops, which are tqdm's; and whether anybody can see one.

A bar is drawn in a terminal and in a notebook; elsewhere, as in a log, work that takes longer gets a line a minute.
`TQDM_DISABLE` and tqdm's other variables count. In a notebook it is a widget where ipywidgets is installed, else a line
of text.
"""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from rich.console import Console

_NOTEBOOK_INTERVAL = 0.5
"""Seconds between two updates in a notebook: every one is a message to the browser, and of text is saved."""
_UNSEEN_INTERVAL = 60.0
"""Seconds between two updates of a bar that cannot be drawn over, as in a log."""
_UNSEEN_DELAY = 10.0
"""Seconds before the first of them, unless the bar is asked for: what is done by then needs none."""


class Bar(Protocol):
    """What is used of tqdm's bar, which has no types of its own."""

    total: float | None
    """How much there is to do, if that is known; it may be corrected."""

    def update(self, n: float = 1) -> None:
        """Count so many more."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


def in_notebook() -> bool:
    """Whether this process is a notebook's kernel. IPython is not imported to find out."""
    get_shell = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return get_shell is not None and getattr(get_shell(), "kernel", None) is not None


def display_target(show: bool | None) -> Literal["notebook", "terminal"] | None:
    """Where something is shown, if it is: None shows it in a notebook and in a terminal, and nowhere else."""
    if show is False:
        return None
    if in_notebook():
        return "notebook"
    return "terminal" if show or Console(stderr=True).is_terminal else None


def token_bar(description: str, n_tokens: int | None, show: bool | None) -> Bar:
    """A bar that counts tokens.

    Args:
        description: the line's beginning.
        n_tokens: tokens to come, if that is known.
        show: whether to draw; None draws in a terminal and in a notebook, and elsewhere what takes longer.
    """
    from tqdm.auto import tqdm

    target = display_target(show)
    options: dict[str, Any]
    if show is False:
        options = {"disable": True}  # elsewhere left out, so that TQDM_DISABLE decides
    elif target is None:
        options = {"mininterval": _UNSEEN_INTERVAL, "delay": _UNSEEN_DELAY}
    elif target == "notebook":  # where standard error is on red; tqdm's own widgets avoid it too
        options = {"file": sys.stdout, "mininterval": _NOTEBOOK_INTERVAL}
    elif not sys.stderr.isatty():
        options = {"mininterval": _UNSEEN_INTERVAL}
    elif 0 in os.get_terminal_size(sys.stderr.fileno()):  # as of some that programs run in; tqdm would draw nothing
        options = {"ncols": 80, "nrows": 24}
    else:
        options = {"dynamic_ncols": True}
    bar: Bar = tqdm(desc=description, total=n_tokens, unit=" tokens", unit_scale=True, **options)
    return bar
