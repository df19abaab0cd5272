"""Running coroutines from synchronous code, on one event loop that lives as long as the process."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

T = TypeVar("T")

_lock = threading.Lock()
_portals: list[BlockingPortal] = []


def run(function: Callable[[], Awaitable[T]]) -> T:
    """Call an async function and wait for its result; an interrupt cancels it.

    The loop runs in a thread of its own, so this also works where a loop is running already, as in Jupyter. It is
    always the same loop: HTTP clients, which are shared between calls, break if their first loop has been closed.
    """
    future = _portal().start_task_soon(function)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def _portal() -> BlockingPortal:
    with _lock:
        if not _portals:
            stack = ExitStack()
            _portals.append(stack.enter_context(start_blocking_portal(name="neuronscope")))
            atexit.register(stack.close)
        return _portals[0]
