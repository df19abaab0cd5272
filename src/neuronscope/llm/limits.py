"""How much is asked at once: at most so many requests under way, and so many a second, per backend."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from neuronscope.locks import Lock, in_forked_child

if TYPE_CHECKING:
    from langchain_core.rate_limiters import InMemoryRateLimiter


class Gate:
    """Lets requests to one backend through; first come, first served, from any thread or event loop.

    Args:
        concurrency: how many may be under way at the same time; None is any number.
        requests_per_second: how many may start per second; None is any number. LangChain's token bucket does it.
    """

    def __init__(self, concurrency: int | None = None, requests_per_second: float | None = None) -> None:
        self._free = concurrency
        self._waiting: deque[Future[None]] = deque()
        self._lock = Lock()
        self._limiter = None if requests_per_second is None else _limiter(requests_per_second)

    @asynccontextmanager
    async def apassage(self) -> AsyncIterator[None]:
        """Wait for room, and give it back at the end."""
        place = self._queue()
        try:
            await asyncio.wrap_future(place)
        except asyncio.CancelledError:
            if not place.cancel():  # it had just been given
                self._leave()
            raise
        try:
            if self._limiter is not None:
                await self._limiter.aacquire()
            yield
        finally:
            self._leave()

    @contextmanager
    def passage(self) -> Iterator[None]:
        """The same for a thread, which it blocks."""
        self._queue().result()
        try:
            if self._limiter is not None:
                self._limiter.acquire()
            yield
        finally:
            self._leave()

    def _queue(self) -> Future[None]:
        place: Future[None] = Future()
        with self._lock:
            if self._free is None or self._free > 0:
                self._free = None if self._free is None else self._free - 1
                place.set_result(None)
            else:
                self._waiting.append(place)
        return place

    def _leave(self) -> None:
        """Hand the place to the next one who still waits."""
        with self._lock:
            while self._waiting:
                place = self._waiting.popleft()
                if place.set_running_or_notify_cancel():
                    place.set_result(None)
                    return
            if self._free is not None:
                self._free += 1


_gates: dict[tuple[str, int | None, float | None], Gate] = {}
_making = Lock()
in_forked_child(_gates.clear)  # the parent's requests under way never give their places back here


def gate_of(backend: str, concurrency: int | None, requests_per_second: float | None) -> Gate:
    """The one gate of a backend in this process, whichever neuron, agent or thread asks."""
    key = (backend, concurrency, requests_per_second)
    with _making:
        if key not in _gates:
            _gates[key] = Gate(concurrency, requests_per_second)
        return _gates[key]


def _limiter(requests_per_second: float) -> InMemoryRateLimiter:
    from langchain_core.rate_limiters import InMemoryRateLimiter

    pause = min(0.1, 0.5 / requests_per_second)
    return InMemoryRateLimiter(requests_per_second=requests_per_second, check_every_n_seconds=pause)
