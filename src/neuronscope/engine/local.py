"""Running coroutines from synchronous code, on one event loop that lives as long as the process.

A forked child gets a loop of its own on its first call: the thread of its parent's does not exist there.
"""

from __future__ import annotations

import atexit
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from functools import partial, wraps
from typing import ParamSpec, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from neuronscope.locks import Lock, in_forked_child

P = ParamSpec("P")
T = TypeVar("T")

_lock = Lock()
_portals: list[tuple[BlockingPortal, ExitStack]] = []
_of_parents: list[tuple[BlockingPortal, ExitStack]] = []
"""Loops of the processes that this one was forked from: to be neither used nor closed here."""


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


def blocking(function: Callable[P, Awaitable[T]]) -> Callable[P, T]:
    """The same function for scripts and notebooks: it waits; named without the leading "a" of the awaited one."""

    @wraps(function)
    def wait(*args: P.args, **kwargs: P.kwargs) -> T:
        return run(partial(function, *args, **kwargs))

    wait.__name__ = wait.__qualname__ = function.__name__.removeprefix("a")
    wait.__annotations__ = dict(function.__annotations__)
    return wait


def blocking_iterator(function: Callable[P, AsyncGenerator[T, None]]) -> Callable[P, Iterator[T]]:
    """The same generator for scripts and notebooks; leaving the loop early ends what is under way."""

    @wraps(function)
    def iterate(*args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        stream = function(*args, **kwargs)
        try:
            while True:
                try:
                    item = run(stream.__anext__)
                except StopAsyncIteration:
                    return
                yield item
        finally:
            run(stream.aclose)

    iterate.__name__ = iterate.__qualname__ = function.__name__.removeprefix("a")
    iterate.__annotations__ = dict(function.__annotations__)
    return iterate


def _portal() -> BlockingPortal:
    with _lock:
        if not _portals:
            stack = ExitStack()
            _portals.append((stack.enter_context(start_blocking_portal(name="neuronscope")), stack))
            atexit.register(stack.close)
        return _portals[0][0]


def _leave_portal_to_parent() -> None:
    for _, stack in _portals:
        atexit.unregister(stack.close)
    _of_parents.extend(_portals)
    _portals.clear()


in_forked_child(_leave_portal_to_parent)
