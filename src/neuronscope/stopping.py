"""How work in threads learns that nobody waits for it any more: a thread cannot be interrupted, only asked to end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context

_stopped: ContextVar[threading.Event | None] = ContextVar("neuronscope_stopped", default=None)


@contextmanager
def stopping_threads() -> Iterator[None]:
    """Leaving the block by an exception, such as a cancellation, stops the threads that were started in it.

    Tasks and threads (`asyncio.to_thread`) that begin within the block inherit this; each ends at its next
    `check_stopped`. An asynchronous generator, whose steps may run in several contexts, cannot yield within the block.
    """
    event = threading.Event()
    token = _stopped.set(event)
    try:
        yield
    except BaseException:
        event.set()
        raise
    finally:
        _stopped.reset(token)


def stoppable_context() -> tuple[Context, threading.Event]:
    """A copy of the current context for tasks, and the event that stops the threads which they start."""
    context, event = copy_context(), threading.Event()
    context.run(_stopped.set, event)
    return context, event


def check_stopped() -> None:
    """End this thread if the call that it works for was interrupted; long work asks between its steps.

    Raises:
        asyncio.CancelledError: it was, and nobody will look at the result.
    """
    event = _stopped.get()
    if event is not None and event.is_set():
        raise asyncio.CancelledError
