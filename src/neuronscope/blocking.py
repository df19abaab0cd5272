"""Running coroutines from synchronous code, on one event loop that lives as long as the process.

A forked child gets a loop of its own on its first call: the thread of its parent's does not exist there.
"""

from __future__ import annotations

import asyncio
import atexit
import signal
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar, copy_context
from functools import partial, wraps
from queue import SimpleQueue
from typing import Any, Generic, ParamSpec, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from neuronscope.locks import Lock, in_forked_child

_Jobs = SimpleQueue[Callable[[], None] | None]
P = ParamSpec("P")
T = TypeVar("T")

GRACE = 1.0
"""Seconds that what is under way has for an end in good order when it is interrupted."""

_lock = Lock()
_jobs: ContextVar[_Jobs | None] = ContextVar("neuronscope_jobs", default=None)
"""What the thread that waits in `run` is asked to do meanwhile; None ends its waiting."""
_portals: list[tuple[BlockingPortal, ExitStack]] = []
_of_parents: list[tuple[BlockingPortal, ExitStack]] = []
"""Loops of the processes that this one was forked from: to be neither used nor closed here."""


def run(function: Callable[[], Awaitable[T]]) -> T:
    """Call an async function and wait for its result; an interrupt cancels it.

    The loop runs in a thread of its own, so this also works where a loop is running already, as in Jupyter. It is
    always the same loop: HTTP clients, which are shared between calls, break if their first loop has been closed.

    An interrupt leaves after `GRACE` seconds at the latest, whether or not all that was under way has ended by then.
    """
    call, jobs = _Call(function), _Jobs()
    token = _jobs.set(jobs)
    try:
        with _hearing_ctrl_c():
            future = _portal().start_task_soon(call)
            future.add_done_callback(lambda _: jobs.put(None))
            while (job := jobs.get()) is not None:
                job()
            return future.result()
    except BaseException:
        call.cancel(GRACE)
        raise
    finally:
        _jobs.reset(token)


@contextmanager
def _hearing_ctrl_c() -> Iterator[None]:
    """Ctrl-C interrupts a caller inside a running loop, too.

    It blocks that loop, so what the loop's owner (`asyncio.run`, a notebook's kernel) has arranged for Ctrl-C, a
    cancellation by the loop, would come too late.
    """
    handler = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or not callable(handler) or handler is signal.default_int_handler or not _in_a_loop():
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def in_callers_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Let the thread that waits in `run` do something long, such as loading a model; it is idle anyway.

    So an interrupt reaches the work itself, which would otherwise go on in a thread that nobody can stop. Where the
    event loop is the user's own, a worker thread does it. Only for the function that `run` was given, not for tasks
    that it starts: these may outlive its caller.
    """
    jobs = _jobs.get()
    if jobs is None:
        return await asyncio.to_thread(function, *args, **kwargs)
    done: Future[T] = Future()
    context = copy_context()
    context.run(_jobs.set, None)

    def job() -> None:
        if not done.set_running_or_notify_cancel():
            return
        try:
            done.set_result(context.run(function, *args, **kwargs))
        except Exception as error:  # noqa: BLE001 - raised where it is awaited
            done.set_exception(error)

    jobs.put(job)
    return await asyncio.wrap_future(done)


class _Call(Generic[T]):
    """An async function under way in the loop, which another thread may cancel.

    The task is cancelled once, as asyncio does it, so that what is open in it can be closed: a cancelled scope of
    anyio, or a cancelled future of its portal, would interrupt every `await` of the closing, too.
    """

    def __init__(self, function: Callable[[], Awaitable[T]]) -> None:
        self._function = function
        self._task: asyncio.Task[Any] | None = None
        self._left = False
        self._ended = threading.Event()

    async def __call__(self) -> T:
        self._task = asyncio.current_task()
        try:
            if self._left:  # before it began: the loop was busy
                raise asyncio.CancelledError
            return await self._function()
        finally:
            self._ended.set()

    def cancel(self, seconds: float) -> None:
        """Cancel it, and if it is under way give it so much time to end."""
        self._left = True
        if self._task is not None and not self._ended.is_set():
            self._task.get_loop().call_soon_threadsafe(self._task.cancel)
            self._ended.wait(seconds)


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
            if not getattr(stream, "ag_running", False):  # an interrupted step closes the stream as soon as it ends
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
