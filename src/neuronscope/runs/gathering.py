"""Results of several workers of one event loop, in the order in which they are finished."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from neuronscope.stopping import stoppable_context

T = TypeVar("T")
Worker = Callable[["asyncio.Queue[T | None]"], Coroutine[Any, Any, None]]
"""Puts its results into a queue."""


async def gathered(workers: Sequence[Worker[T]]) -> AsyncGenerator[T, None]:
    """Yield what concurrent workers put into a queue; the first that fails ends all, and so does closing this."""
    done: asyncio.Queue[T | None] = asyncio.Queue()
    context, stopped = stoppable_context()
    tasks = [asyncio.create_task(worker(done), context=context.copy()) for worker in workers]
    for task in tasks:
        task.add_done_callback(lambda _: done.put_nowait(None))
    ended = 0
    try:
        while ended < len(tasks):
            if (result := await done.get()) is not None:
                yield result
                continue
            ended += 1
            for task in tasks:
                if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                    raise error
    finally:
        stopped.set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
