"""Which display a run has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

from neuronscope import bars
from neuronscope.display.notebook import NotebookProgress
from neuronscope.display.progress import GraphProgress
from neuronscope.events import ProgressEvent
from neuronscope.types import Neuron

Listener: TypeAlias = Callable[[ProgressEvent], object]
"""What takes events; what it returns does not matter."""
Progress: TypeAlias = bool | Listener | None
"""What a caller can ask for: a display or none, a listener of their own, or what fits where the program runs."""


@contextmanager
def watching(progress: Progress, neuron: Neuron) -> Iterator[Listener]:
    """Open the display that was asked for, and give what is to be called with every event.

    Args:
        progress: None is a display in a notebook and in a terminal and none elsewhere; True one everywhere; False none;
            a listener takes the display's place.
        neuron: the neuron that is being explained.
    """
    target = display_target(progress)
    if callable(progress):
        yield progress
    elif target is None:
        yield _ignore
    else:
        with NotebookProgress(neuron) if target == "notebook" else GraphProgress(neuron) as display:
            yield display


def display_target(progress: Progress) -> Literal["notebook", "terminal"] | None:
    """Where a run is shown, if it is: what takes the events itself takes the display's place."""
    return None if callable(progress) else bars.display_target(progress)


def _ignore(event: ProgressEvent) -> None:
    """Nobody watches."""
