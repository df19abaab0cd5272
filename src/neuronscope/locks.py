"""Locks around what threads share: free again in a forked child, and new in a pickle's or a copy's other end.

A fork copies a lock as it is, but not the thread that holds it, so that the child would wait for ever.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any
from weakref import WeakSet, ref


class Lock:
    """One thread at a time; the same thread may enter again."""

    def __init__(self) -> None:
        self._inner = threading.RLock()
        _all_locks.add(self)

    def __enter__(self) -> None:
        self._inner.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._inner.release()

    def __reduce__(self) -> tuple[type[Lock], tuple[()]]:
        return Lock, ()

    def renew(self) -> None:
        """Be free, unless this very thread is inside: for a child, in which the other threads do not exist."""
        if not self._inner._is_owned():  # type: ignore[attr-defined]  # as threading.Condition asks it
            self._inner = threading.RLock()


_all_locks: WeakSet[Lock] = WeakSet()
_making = Lock()
_shared: dict[int, tuple[Callable[[], Any], Lock]] = {}
_any_other = Lock()


def lock_of(thing: Any) -> Lock:
    """The one lock of an object, such as a model or a tokenizer, whoever else has wrapped it.

    Objects that cannot be referred to weakly have one lock for all of them.
    """
    with _making:
        known = _shared.get(id(thing))
        if known is not None and known[0]() is thing:
            return known[1]
        number = id(thing)
        try:
            reference = ref(thing, lambda _: _shared.pop(number, None))
        except TypeError:
            return _any_other
        _shared[number] = (reference, Lock())
        return _shared[number][1]


def in_forked_child(action: Callable[[], object]) -> None:
    """Have this done at the beginning of every child that is forked, where there is such a thing as forking."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=action)


def _renew_all() -> None:
    for lock in list(_all_locks):
        lock.renew()


in_forked_child(_renew_all)
