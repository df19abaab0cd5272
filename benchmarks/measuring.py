"""How long something takes and how much memory, on whatever device it runs."""

from __future__ import annotations

import gc
import resource
import sys
import time
from collections.abc import Callable, Iterator

import torch


def seconds(action: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """How long an action takes; a GPU must have finished what was asked of it before, and what the action asks."""
    finish()
    start = clock()
    action()
    finish()
    return clock() - start


def finish() -> None:
    """Wait for a GPU; there need be none."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class TimeLimit:
    """The time that is left, and as many rounds as fit into it."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock, self._start, self._seconds = clock, clock(), seconds

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._start

    @property
    def left(self) -> float:
        """Seconds until the end; negative behind it."""
        return self._seconds - self.elapsed

    def rounds(self, most: int, reserved: float) -> Iterator[int]:
        """One round, and others while the longest so far would end with `reserved` seconds left."""
        longest = 0.0
        for number in range(most):
            if number and self.left - longest < reserved:
                return
            start = self.elapsed
            yield number
            longest = max(longest, self.elapsed - start)


class Memory:
    """Allocated on a device; of a processor, what the process has taken, which never falls."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def restart(self) -> None:
        """Forget the peak so far."""
        gc.collect()
        if self._device.type == "cuda":
            finish()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._device)

    @property
    def now(self) -> float:
        """Bytes that are allocated."""
        return float(torch.cuda.memory_allocated(self._device)) if self._device.type == "cuda" else self.peak

    @property
    def peak(self) -> float:
        """The most bytes since `restart`."""
        if self._device.type == "cuda":
            return float(torch.cuda.max_memory_allocated(self._device))
        unit = 1 if sys.platform == "darwin" else 1024
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)

    @property
    def held(self) -> float:
        """The most bytes since `restart` with what the allocator keeps in reserve."""
        return float(torch.cuda.max_memory_reserved(self._device)) if self._device.type == "cuda" else self.peak
