"""Where a graph keeps its steps, so that a process that is killed does not lose them: SQLite, or Postgres by URL."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from neuronscope import result, state, units
from neuronscope.errors import ConfigurationError
from neuronscope.llm.failures import redacted

_OWN = [
    (kind.__module__, kind.__name__)
    for module in (result, state, units)
    for kind in vars(module).values()
    if isinstance(kind, type) and kind.__module__ == module.__name__ and hasattr(kind, "__dataclass_fields__")
    if kind is not state.Instruments
]
"""Our own types that states hold; anything of another type is read as plain data, since making it could run code."""


def serializer() -> JsonPlusSerializer:
    """How states are written: as data, never as pickles, and with no types but LangChain's and ours."""
    return JsonPlusSerializer(pickle_fallback=False, allowed_msgpack_modules=_OWN)


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
        sqlite3.connect(place).close()
    except sqlite3.Error as error:
        raise ConfigurationError(f"Checkpoints cannot be kept in {place}: {error}. Name another file.") from error
    connection = await aiosqlite.connect(place)
    sqlite = AsyncSqliteSaver(connection, serde=serializer())
    try:
        await sqlite.setup()
        # The log is as safe as before against a killed process; only a power failure may cost the last steps.
        await connection.execute("PRAGMA synchronous = NORMAL")
        yield sqlite
    finally:
        # A cancelled graph may have left a step between its INSERT and its COMMIT, or in the middle of both: closed
        # then, the connection would keep the file locked for as long as anything refers to one of its cursors.
        async with sqlite.lock:
            with suppress(sqlite3.Error, ValueError):
                await connection.rollback()
            await connection.close()


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
