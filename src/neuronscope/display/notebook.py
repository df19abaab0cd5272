"""Progress in a notebook: one display that changes in place, without widgets to install."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable
from importlib import import_module
from types import TracebackType
from typing import Any

from rich.console import Console, RenderableType

from neuronscope.display.html import render_progress
from neuronscope.events import NeuronProgress, ProgressEvent
from neuronscope.types import Neuron

MIN_INTERVAL = 0.2
"""Seconds between two updates: every one is a message to the browser."""


class NotebookProgress:
    """The steps, and every mode's iteration and best score, below the notebook's cell; it stays when it is over.

    A context manager, to be called with each event. It is updated at most five times a second; what came last is
    always shown.

    Args:
        neuron: the neuron that is being explained.
    """

    def __init__(self, neuron: Neuron) -> None:
        self._so_far = NeuronProgress(neuron)
        self._handle: Any = None
        self._began = self._shown_at = time.monotonic()
        self._later: asyncio.TimerHandle | None = None

    def __enter__(self) -> NotebookProgress:
        ipython = jupyter()
        self._began = self._shown_at = time.monotonic()
        self._handle = ipython.display(ipython.HTML(self._html()), display_id=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._cancel()
        self._show(seconds=time.monotonic() - self._began, stopped=kind is not None)

    def __call__(self, event: ProgressEvent) -> None:
        """Show what an event says, now or, if the last update was a moment ago, in a moment."""
        self._so_far.take(event)
        wait = self._shown_at + MIN_INTERVAL - time.monotonic()
        if wait <= 0:
            self._cancel()
            self._show()
        elif self._later is None:
            try:
                self._later = asyncio.get_running_loop().call_later(wait, self._show)
            except RuntimeError:  # called from outside an event loop: the next event, or the end, will show it
                return

    def _show(self, seconds: float | None = None, stopped: bool = False) -> None:
        self._later = None
        self._shown_at = time.monotonic()
        if self._handle is not None:
            self._handle.update(jupyter().HTML(self._html(seconds, stopped)))

    def _html(self, seconds: float | None = None, stopped: bool = False) -> str:
        return render_progress(self._so_far, seconds=seconds, stopped=stopped)

    def _cancel(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None


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
        html = jupyter().HTML(self._html())
        if self._handle is None:
            self._handle = jupyter().display(html, display_id=True)
        else:
            self._handle.update(html)

    def _html(self) -> str:
        console = Console(record=True, file=io.StringIO(), width=110, force_jupyter=False, color_system="truecolor")
        console.print(self._draw())
        form = '<pre style="line-height:1.25;overflow-x:auto">{code}</pre>'
        return console.export_html(code_format=form, inline_styles=True)  # which escapes the text


def jupyter() -> Any:
    """IPython's display module, which leaves its functions untyped; in a kernel it has long been imported."""
    return import_module("IPython.display")
