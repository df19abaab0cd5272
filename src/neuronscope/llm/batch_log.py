"""Which requests were sent in which batch, written down before anybody waits: a kill loses nothing that is paid for."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

logger = logging.getLogger(__name__)

KEPT_FOR = 30 * 24 * 3600
"""Seconds for which a batch is remembered: OpenAI deletes its files after 30 days."""


class SentRequest(NamedTuple):
    """Where a request went."""

    token: str
    """What the batch was marked with, before the provider gave it an id."""
    batch: str | None
    """The provider's id; None where the process was killed before it was written down."""


class BatchLog:
    """The requests of batches whose answers are not all in the cache yet, in an SQLite file that processes may share.

    A request is a digest, as in the cache of answers: neither prompts nor keys are in the file.

    Args:
        path: the file; made with its folder if it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database: sqlite3.Connection | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, timeout=30, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS sent "
                "(request TEXT PRIMARY KEY, answer TEXT, token TEXT, batch TEXT, at REAL) WITHOUT ROWID"
            )
            self._database.execute("CREATE INDEX IF NOT EXISTS answers ON sent (answer)")
            self._database.commit()
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)
        self._write("DELETE FROM sent WHERE at < ?", [(time.time() - KEPT_FOR,)])

    def find(self, request: str) -> SentRequest | None:
        """Where a request was sent; None if it was not."""
        rows = self._read("SELECT token, batch FROM sent WHERE request = ?", (request,))
        return SentRequest(*rows[0]) if rows else None

    def add(self, requests: Iterable[tuple[str, str]], token: str) -> None:
        """Say that requests, each with the answer that it is for, are about to be sent in a batch marked so."""
        now = time.time()
        self._write(
            "INSERT OR REPLACE INTO sent VALUES (?, ?, ?, NULL, ?)",
            [(request, answer, token, now) for request, answer in requests],
            durable=True,
        )

    def sent(self, token: str, batch: str) -> None:
        """Say which id the provider gave a batch."""
        self._write("UPDATE sent SET batch = ? WHERE token = ?", [(batch, token)], durable=True)

    def forget(self, requests: Iterable[str]) -> None:
        """Have requests sent again, if anybody asks again."""
        self._write("DELETE FROM sent WHERE request = ?", [(request,) for request in requests])

    def settle(self, answer: str) -> list[str]:
        """Forget the requests that were made for an answer, which is kept elsewhere now; says which they were."""
        rows = self._read("SELECT request FROM sent WHERE answer = ?", (answer,))
        self.forget(row[0] for row in rows)
        return [row[0] for row in rows]

    def _read(self, statement: str, values: tuple[str, ...]) -> list[Any]:
        if self._database is None:
            return []
        try:
            with closing(self._database.execute(statement, values)) as cursor:
                return cursor.fetchall()
        except sqlite3.Error as error:
            self._give_up(error)
            return []

    def _write(self, statement: str, rows: Sequence[tuple[Any, ...]], *, durable: bool = False) -> None:
        """All rows or none of them; durable against the loss of power, too, which takes the disk its time."""
        if self._database is None or not rows:
            return
        try:
            self._database.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            with self._database:
                self._database.executemany(statement, rows)
        except sqlite3.Error as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._database = None
        logger.warning(
            "The file %s cannot be used (%s): continuing without it. A batch that is under way when the process ends "
            "is then asked for, and paid for, again.",
            self.path,
            error,
        )
