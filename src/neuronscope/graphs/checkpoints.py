"""Where a graph keeps its steps, so that a process that is killed does not lose them: SQLite, or Postgres by URL."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Checkpointer

from neuronscope import results, state
from neuronscope import types as core_types
from neuronscope.errors import ConfigurationError
from neuronscope.llm.failures import redacted

if TYPE_CHECKING:
    import aiosqlite

_OWN = [
    (kind.__module__, kind.__name__)
    for module in (results, state, core_types)
    for kind in vars(module).values()
    if isinstance(kind, type) and kind.__module__ == module.__name__ and hasattr(kind, "__dataclass_fields__")
    if kind is not state.Instruments
]
"""Our own types that states hold; anything of another type is read as plain data, since making it could run code."""


class Checked(JsonPlusSerializer):
    """Writes states with a checksum, so that a damaged one is an error and never another state.

    It is beside the name of the format, as LangGraph's own encryption has its cipher there. States that were written
    without one are read without.
    """

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """The format with the checksum, and the bytes."""
        kind, data = super().dumps_typed(obj)
        return f"{kind}{_CHECKSUM}{zlib.crc32(data):08x}", data

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """The object.

        Raises:
            ConfigurationError: these are not the bytes that were written.
        """
        kind, _, checksum = data[0].partition(_CHECKSUM)
        if checksum and checksum != f"{zlib.crc32(data[1]):08x}":
            raise ConfigurationError(
                "A checkpoint is damaged: its checksum does not fit. Delete its thread, or the file that the "
                "checkpoints are in, and begin again."
            )
        return super().loads_typed((kind, data[1]))


_CHECKSUM = "+crc32:"


def serializer(*types: type) -> JsonPlusSerializer:
    """How states are written: as data, never as pickles, and with no types but LangChain's, ours and some of yours.

    Args:
        types: yours, for a state with keys of your own: `InMemorySaver(serde=serializer(Remark))`.
    """
    return Checked(pickle_fallback=False, allowed_msgpack_modules=[*_OWN, *types])


def knowing_our_types(checkpointer: Checkpointer) -> Checkpointer:
    """The same checkpointer, over the same storage, which reads the types of our states without a warning.

    One that takes any type, with a warning for each, as LangGraph makes it, takes those of `serializer` from now on.
    """
    if not isinstance(checkpointer, BaseCheckpointSaver):
        return checkpointer
    serde = checkpointer.serde
    if type(serde) is JsonPlusSerializer and serde.with_msgpack_allowlist(_OWN) is serde:  # it has no list to add to
        checkpointer = copy(checkpointer)
        checkpointer.serde = JsonPlusSerializer(allowed_msgpack_modules=_OWN)
        return checkpointer
    return checkpointer.with_allowlist(_OWN)


@asynccontextmanager
async def open_checkpoints(place: str | Path) -> AsyncIterator[BaseCheckpointSaver[Any]]:
    """A checkpointer for `build_neuron_graph(checkpointer=...)`, as long as the block runs.

    Args:
        place: an SQLite file, made if it is missing, or the URL of a Postgres database that several machines share.

    Raises:
        ConfigurationError: it cannot be opened, or the package for Postgres is missing.
    """
    if isinstance(place, str) and "://" in place:
        async with _postgres(place) as saver:
            yield saver
        return
    import aiosqlite
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    try:
        _clear_remains(place)
        sqlite3.connect(place).close()  # where this fails, aiosqlite would leave a thread that outlives the event loop
        connection = await aiosqlite.connect(place)
    except (OSError, sqlite3.Error) as error:
        raise _unusable(place, error) from error
    sqlite, ready = AsyncSqliteSaver(connection, serde=serializer()), False
    try:
        await _check(connection)
        await sqlite.setup()
        # The log is as safe as before against a killed process; only a power failure may cost the last steps.
        await connection.execute("PRAGMA synchronous = NORMAL")
        ready = True
        yield sqlite
    except sqlite3.Error as error:
        if ready and getattr(error, "sqlite_errorcode", 0) & 0xFF not in _OF_THE_FILE:
            raise  # of another database, or a bug
        raise _unusable(place, error) from error
    finally:
        # A cancelled graph may have left a step between its INSERT and its COMMIT, or in the middle of both: closed
        # then, the connection would keep the file locked for as long as anything refers to one of its cursors.
        async with sqlite.lock:
            with suppress(sqlite3.Error, ValueError):
                await connection.rollback()
            await connection.close()


async def _check(connection: aiosqlite.Connection) -> None:
    """Read the whole file once, so that damage is found now and not in the middle of a run.

    Raises:
        sqlite3.DatabaseError: it is damaged, or no database.
    """
    async with connection.execute("PRAGMA quick_check(1)") as cursor:
        found = await cursor.fetchone()
    if found is None or found[0] != "ok":
        raise sqlite3.DatabaseError(" ".join(str(found and found[0]).split()))


def _clear_remains(place: str | Path) -> None:
    """Remove what is left of a database whose file has been deleted: SQLite would play it back into the new one."""
    if str(place) == ":memory:" or Path(place).exists():
        return
    for ending in _BESIDE:
        Path(f"{place}{ending}").unlink(missing_ok=True)


_BESIDE = ("-wal", "-shm")
"""What SQLite keeps beside a file."""


_OF_THE_FILE = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
}
"""Errors that say something about a file, and not about what was asked of it."""


def _unusable(place: str | Path, error: Exception) -> ConfigurationError:
    if isinstance(error, (OSError, sqlite3.OperationalError)):
        return ConfigurationError(f"Checkpoints cannot be kept in {place}: {error}. Name another file, or make room.")
    beside = " and ".join(f"{place}{ending}" for ending in _BESIDE)
    return ConfigurationError(
        f"The checkpoints in {place} are damaged ({error}). Delete the file, with {beside} where they exist: what is "
        "finished stays so, and neurons that were under way begin again."
    )


@asynccontextmanager
async def _postgres(url: str) -> AsyncIterator[BaseCheckpointSaver[Any]]:
    if not url.startswith(("postgres://", "postgresql://")):
        scheme = url.partition("://")[0]
        raise ConfigurationError(
            f"Checkpoints cannot be kept at {scheme}://…: give a file, or postgresql://user@host/database."
        )
    try:
        import psycopg
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
        from psycopg.rows import dict_row
        from psycopg_pool import AsyncConnectionPool
    except ImportError as error:
        raise ConfigurationError(
            "Checkpoints in Postgres need a package that is not installed: pip install 'neuronscope[postgres]'."
        ) from error
    settings = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    pool: Any = AsyncConnectionPool(url, min_size=1, max_size=8, open=False, kwargs=settings)
    try:
        try:
            first = await psycopg.AsyncConnection.connect(url, connect_timeout=15)  # the pool would try for long
            await first.close()
            await pool.open(wait=True, timeout=15)
            saver = AsyncPostgresSaver(pool, serde=serializer())
            await saver.setup()
        except psycopg.Error as error:
            raise ConfigurationError(
                f"The Postgres database cannot be used for checkpoints: {redacted(str(error))} Check that it runs, and "
                "the URL: postgresql://user@host/database."
            ) from None
        yield saver
    finally:
        await pool.close()
