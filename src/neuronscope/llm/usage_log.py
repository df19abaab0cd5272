"""What a run asks, written down request by request, so that one that is killed and started again goes on counting."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from neuronscope.errors import ResultError
from neuronscope.locks import Lock

_COLUMNS = (
    "neuron TEXT, agent TEXT, requests INT, answers INT, cached INT, "
    "input_tokens INT, output_tokens INT, dollars REAL, counted INT, cached_input_tokens INT"
)
_NAMES = _COLUMNS.replace(" TEXT", "").replace(" INT", "").replace(" REAL", "")
_ALL = f"(SELECT {_NAMES} FROM requests UNION ALL SELECT {_NAMES} FROM merged)"
"""The requests of this folder's own processes, and those of the shards that were merged into it."""
_SUMS = (
    "sum(requests), sum(answers), sum(cached), sum(input_tokens), sum(output_tokens), "
    "CASE WHEN count(*) = count(dollars) THEN sum(dollars) END, "  # NULL is "not known"
    "min(counted), coalesce(sum(cached_input_tokens), 0)"
)


class UsageRecord(NamedTuple):
    """What one agent has asked, or one request of it."""

    agent: str
    requests: int = 0
    answers: int = 0
    cached: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    dollars: float | None = 0.0
    """None if it is not known."""
    counted: int = True
    """Whether the provider said how many tokens it took."""
    cached_input_tokens: int = 0
    """Of the prompts' tokens those that the provider had in its cache."""


class UsageLog:
    """Every request of every neuron of a run, in an SQLite file.

    Args:
        path: the file; made if it is missing.

    Raises:
        ResultError: the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()
        try:
            self._database = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute(f"CREATE TABLE IF NOT EXISTS requests ({_COLUMNS})")
            self._database.execute(f"CREATE TABLE IF NOT EXISTS merged (shard TEXT, {_COLUMNS})")
            columns = [row[1] for row in self._database.execute("PRAGMA table_info(requests)")]
            if "cached_input_tokens" not in columns:  # begun by an earlier version
                self._database.execute("ALTER TABLE requests ADD COLUMN cached_input_tokens INT")
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def of(self, neuron: str) -> NeuronLog:
        """The part of one neuron."""
        return NeuronLog(self, neuron)

    def add(self, neuron: str, record: UsageRecord) -> None:
        """Write a request down.

        Raises:
            ResultError: the file cannot be written.
        """
        self._execute("INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (neuron, *record))

    def read(self, neuron: str | None = None) -> list[UsageRecord]:
        """What each agent has cost: for one neuron, or for all together.

        Raises:
            ResultError: the file cannot be read.
        """
        which = "" if neuron is None else "WHERE neuron = ?"
        rows = self._execute(
            f"SELECT agent, {_SUMS} FROM {_ALL} {which} GROUP BY agent", () if neuron is None else (neuron,)
        )
        return [UsageRecord(*row) for row in rows]

    def by_neuron(self) -> dict[str, list[UsageRecord]]:
        """What each agent has cost, for every neuron.

        Raises:
            ResultError: the file cannot be read.
        """
        found: dict[str, list[UsageRecord]] = {}
        for neuron, *sums in self._execute(f"SELECT neuron, agent, {_SUMS} FROM {_ALL} GROUP BY neuron, agent", ()):
            found.setdefault(neuron, []).append(UsageRecord(*sums))
        return found

    def replace_shard(self, shard: str, costs: Mapping[str, Iterable[UsageRecord]]) -> None:
        """Count what a shard has cost in place of what was counted of it before.

        Args:
            shard: its name.
            costs: by neuron.

        Raises:
            ResultError: the file cannot be written.
        """
        rows = [(shard, neuron, *record) for neuron, records in costs.items() for record in records]
        with self._lock:
            try:
                self._database.execute("BEGIN IMMEDIATE")
                with self._database:  # commits all of it or nothing
                    self._database.execute("DELETE FROM merged WHERE shard = ?", (shard,))
                    self._database.executemany(f"INSERT INTO merged VALUES (?{', ?' * 10})", rows)
            except sqlite3.Error as error:
                raise self._unusable(error) from error

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def _execute(self, statement: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                with closing(self._database.execute(statement, values)) as cursor:
                    return cursor.fetchall()
            except sqlite3.Error as error:
                raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> ResultError:
        return ResultError(
            f"The run's costs cannot be kept in {self.path}: {error}. Check the disk, and the folder's permissions."
        )


class NeuronLog(NamedTuple):
    """One neuron's part of a usage log."""

    log: UsageLog
    neuron: str

    def add(self, record: UsageRecord) -> None:
        """Write a request down."""
        self.log.add(self.neuron, record)

    def read(self) -> list[UsageRecord]:
        """What each agent has cost so far."""
        return self.log.read(self.neuron)
