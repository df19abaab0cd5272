"""Answers kept on disk: the same prompt to the same model with the same settings is not paid for twice."""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from neuronscope.digests import digest
from neuronscope.errors import LLMError
from neuronscope.llm.models import backend_of
from neuronscope.locks import Lock, in_forked_child

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, BaseMessage

FORM = 1
"""Version of what is kept; answers of another one are not found."""

_KEPT_METADATA = ("finish_reason", "stop_reason", "model_name")

logger = logging.getLogger(__name__)


class AnswerCache:
    """Answers by a digest of what was asked, in an SQLite file that several processes may share.

    Kept are a message's content, tool calls and token counts; neither prompts nor keys. An answer that is empty, cut
    off or a refusal is not kept: it may come out better the next time. Each has a digest in front of it; a row that
    cannot be read, or is not what was written, is dropped.
    A model that does not say what it is (LangChain's `_identifying_params`) cannot be told from another of its class:
    its answers are not kept either.

    Answers that are drawn at random stay apart by their `sample` number.

    Args:
        path: the file; made with its folder if it is missing.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = Lock()
        self._database: sqlite3.Connection | None = None
        self._of_parents: list[sqlite3.Connection] = []
        _open_caches.add(self)
        self._has_bad_rows = False
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = self._open()
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)

    def find(
        self,
        llm: BaseChatModel,
        messages: Sequence[BaseMessage],
        schema: dict[str, Any] | None,
        sample: int,
        tools: Sequence[dict[str, Any]] = (),
    ) -> AIMessage | None:
        """The answer that was kept, or None."""
        from langchain_core.messages import AIMessage

        key = _key(llm, messages, schema, sample, tools)
        rows = [] if key is None else self._execute("SELECT answer FROM answers WHERE key = ?", (key,))
        if not rows:
            return None
        try:
            answer = AIMessage(**json.loads(_as_written(rows[0][0])))
        except Exception as error:  # noqa: BLE001 - of whichever kind LangChain's reading of it raises
            self._forget(str(key), type(error).__name__)
            return None
        if not _is_whole(answer):  # by what is known of answers now
            self._forget(str(key))
            return None
        return answer

    def keep(
        self,
        llm: BaseChatModel,
        messages: Sequence[BaseMessage],
        schema: dict[str, Any] | None,
        sample: int,
        answer: AIMessage,
        tools: Sequence[dict[str, Any]] = (),
    ) -> None:
        """Keep an answer, if it is worth it; one that is there already stays."""
        key = _key(llm, messages, schema, sample, tools)
        if key is None or not _is_whole(answer):
            return
        document = {
            "content": answer.content,
            "tool_calls": answer.tool_calls,
            **_repeated_thoughts(answer),
            "usage_metadata": answer.usage_metadata,
            "response_metadata": {
                name: answer.response_metadata[name] for name in _KEPT_METADATA if name in answer.response_metadata
            },
        }
        try:
            written = json.dumps(document, default=str)
        except (TypeError, ValueError, RecursionError):  # nested without end, say
            return
        self._execute("INSERT OR IGNORE INTO answers VALUES (?, ?)", (key, f"{_digest(written)} {written}"))

    def _forget(self, key: str, problem: str = "") -> None:
        """Drop a row that cannot be used; the others are as good as they were."""
        if problem and not self._has_bad_rows:
            self._has_bad_rows = True
            logger.warning("An answer in %s cannot be read (%s) and is asked for again.", self.path, problem)
        self._execute("DELETE FROM answers WHERE key = ?", (key,))

    def __reduce__(self) -> tuple[type[AnswerCache], tuple[Path]]:
        return type(self), (self.path,)

    def reopen(self) -> None:
        """Have a connection of one's own in a forked child; the parent's must not even be closed there."""
        if self._database is not None:
            self._of_parents.append(self._database)
            try:
                self._database = self._open()
            except sqlite3.Error as error:
                self._give_up(error)

    def __len__(self) -> int:
        rows = self._execute("SELECT count(*) FROM answers", ())
        return int(rows[0][0]) if rows else 0

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
        database.text_factory = lambda kept: kept.decode("utf-8", "replace")  # a damaged row is no damaged file
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute(
            "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID"
        )
        return database

    def _execute(self, statement: str, values: tuple[str, ...]) -> list[Any]:
        with self._lock:
            if self._database is None:
                return []
            try:
                with closing(self._database.execute(statement, values)) as cursor:
                    return cursor.fetchall()
            except sqlite3.Error as error:
                self._give_up(error)
                return []

    def _give_up(self, error: Exception) -> None:
        """Go on without the cache: a run is worth more than what it saves."""
        self._database = None
        logger.warning(
            "The cache of answers %s cannot be used (%s): continuing without it. Delete the file to start a new one.",
            self.path,
            error,
        )


_open_caches: WeakSet[AnswerCache] = WeakSet()


def _reopen_all() -> None:
    for answers in list(_open_caches):
        answers.reopen()


in_forked_child(_reopen_all)


@cache
def shared_cache(folder: Path) -> AnswerCache:
    """The process's cache of answers in a folder."""
    return AnswerCache(folder / "answers.sqlite")


def _key(
    llm: BaseChatModel,
    messages: Sequence[BaseMessage],
    schema: dict[str, Any] | None,
    sample: int,
    tools: Sequence[dict[str, Any]],
) -> str | None:
    """A digest of everything that the answer depends on; None for a model that does not say what it is."""
    identity = llm.asdict()
    if len(identity) < 2:  # nothing but its type
        return None
    said = [(message.type, message.content, getattr(message, "tool_calls", [])) for message in messages]
    asked = [FORM, backend_of(llm), identity, said, schema, sample, *([list(tools)] if tools else [])]
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode("utf-8", "surrogatepass")).hexdigest()


def _digest(written: str) -> str:
    return digest([written.encode("utf-8", "surrogatepass")])


def _as_written(row: str) -> str:
    """The answer of a row; of one that an earlier version wrote, which has no digest, it is taken as it is.

    Raises:
        ValueError: it is not what was written.
    """
    if row.startswith("{"):
        return row
    found, _, written = row.partition(" ")
    if found != _digest(written):
        raise ValueError("its digest does not fit")
    return written


def _repeated_thoughts(answer: AIMessage) -> dict[str, Any]:
    """The thoughts that a server gives in a field of their own, where the answer begins with them too."""
    from neuronscope.llm.answers import reasoning_of

    thought = reasoning_of(answer)
    repeated = thought and answer.text.strip().startswith(thought.strip())
    return {"additional_kwargs": {"reasoning_content": thought}} if repeated else {}


def _is_whole(answer: AIMessage) -> bool:
    from neuronscope.llm.answers import is_cut_off, read_text

    if is_cut_off(answer):
        return False
    try:
        return bool(read_text(answer, ""))
    except LLMError:
        return False
