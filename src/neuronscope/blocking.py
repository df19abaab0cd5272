"""Running coroutines from synchronous code, on one event loop that lives as long as the process.

A forked child gets a loop of its own on its first call: the thread of its parent's does not exist there.
"""

from __future__ import annotations

import asyncio
import atexit
import signal
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar, copy_context
from functools import partial, wraps
from queue import SimpleQueue
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar

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


class _Started(NamedTuple):
    portal: BlockingPortal
    stack: ExitStack
    loop: asyncio.AbstractEventLoop


_started: dict[str, _Started] = {}
_of_parents: list[_Started] = []
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
            future = _start("neuronscope").portal.start_task_soon(call)
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
    if not is_main or not callable(handler) or handler is signal.default_int_handler or _running_loop() is None:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


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


class BackgroundLoop:
    """An event loop in a thread of its own, which lives as long as the process; a forked child starts another.

    Coroutines of other loops, and threads, have work done here that must always be done on the same loop. It runs
    nobody else's code, so whoever waits for it waits for nothing but that work.

    Args:
        name: of its thread; loops of one name are one.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    async def run(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Await an async function there; a cancellation reaches it."""
        loop = self._loop()
        if asyncio.get_running_loop() is loop:
            return await function()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(function(), loop))

    def run_blocking(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Block this thread until an async function has ended there.

        Raises:
            RuntimeError: this is the loop's own thread, which would wait for itself.
        """
        loop = self._loop()
        if _running_loop() is loop:
            raise RuntimeError(f"The loop {self._name} cannot wait for itself: await the function.")
        future = asyncio.run_coroutine_threadsafe(function(), loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _loop(self) -> asyncio.AbstractEventLoop:
        return _start(self._name).loop


def _start(name: str) -> _Started:
    with _lock:
        if name not in _started:
            stack = ExitStack()
            portal = stack.enter_context(start_blocking_portal(name=name))
            _started[name] = _Started(portal, stack, portal.call(asyncio.get_running_loop))
            atexit.register(stack.close)
        return _started[name]


def _leave_loops_to_parent() -> None:
    for started in _started.values():
        atexit.unregister(started.stack.close)
    _of_parents.extend(_started.values())
    _started.clear()


in_forked_child(_leave_loops_to_parent)
