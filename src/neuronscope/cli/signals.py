"""Ctrl-C and SIGTERM on the command line: one line, and an exit at once, whatever the process is busy with."""

from __future__ import annotations

import atexit
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

INTERRUPTED = 128 + signal.SIGINT
"""Exit status after Ctrl-C, as shells have it; after SIGTERM it is 143."""
MESSAGE = "Interrupted. Run the same again to go on."
_PATIENCE = 1.5
"""Seconds after which the process ends even if its main thread does not get round to it."""


class _Watch:
    """Turns the signals into `KeyboardInterrupt` in the main thread, and sees to it that the process ends soon after.

    The main thread hears of a signal only between two steps of Python: not while it loads weights or computes, nor
    where a library swallows the exception. So another thread watches as well. A second signal ends the process at
    once; nothing is lost by that, since files are written whole or not at all.
    """

    def __init__(self) -> None:
        self.status: int | None = None
        """The exit status, once a signal has arrived."""
        self._said = threading.Lock()
        self._done = False
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as it is in a shell's background jobs
            signal.signal(signal.SIGINT, self._interrupt)
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._interrupt)
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        atexit.register(_ignore_signals)  # last of all: then Python gives up its handlers, and unloading takes a while
        threading.Thread(target=self._watch, name="neuronscope-signals", daemon=True).start()

    def _say(self) -> None:
        """Print the line, unless it has been printed."""
        if self._said.acquire(blocking=False):
            with suppress(OSError, ValueError):
                os.write(2, f"{MESSAGE}\n".encode())

    def done(self) -> None:
        """The command is done: what a signal would interrupt from now on is Python's own clearing up."""
        self._done = True

    def leave(self) -> NoReturn:
        """Exit without waiting for threads: a forward pass or a request cannot be interrupted, and may take long."""
        if sys.stderr.isatty():
            os.write(2, b"\x1b[?25h")  # a progress bar in one of the threads has hidden the cursor
        self._say()
        os._exit(INTERRUPTED if self.status is None else self.status)

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        self.status = 128 + number
        if not self._done:
            raise KeyboardInterrupt

    def _watch(self) -> None:
        number = 0
        while number not in (signal.SIGINT, signal.SIGTERM):
            number = self._reader.recv(1)[0]
        self.status = 128 + number
        self._reader.settimeout(_PATIENCE)
        with suppress(TimeoutError):
            self._reader.recv(1)
        self.leave()


def _ignore_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


_watches: list[_Watch] = []
"""The one of this process, if it is a command: nothing where the commands are called from Python."""


@contextmanager
def leaving_on_signals() -> Iterator[None]:
    """Run a command. After a signal its block ends the process, whatever a library has made of the interrupt."""
    if not _watches:
        _watches.append(_Watch())
    try:
        yield
    finally:
        if interrupted():
            _watches[0].leave()
        _watches[0].done()


def is_watched() -> bool:
    """Whether signals end this process with a line of their own."""
    return bool(_watches)


def interrupted() -> bool:
    """Whether a signal has arrived, so that what fails now fails because of it."""
    return any(watch.status is not None for watch in _watches)
