"""A neuron's progress in a notebook: one display that changes in place, without widgets to install."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any

from neuronscope import bars
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
        jupyter = bars.jupyter()
        self._began = self._shown_at = time.monotonic()
        self._handle = jupyter.display(jupyter.HTML(self._html()), display_id=True)
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
            self._handle.update(bars.jupyter().HTML(self._html(seconds, stopped)))

    def _html(self, seconds: float | None = None, stopped: bool = False) -> str:
        return render_progress(self._so_far, seconds=seconds, stopped=stopped)

    def _cancel(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
