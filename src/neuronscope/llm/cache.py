"""LangChain's cache interface over a file: the same prompt to the same model with the same settings is paid for once.

LangChain's own caches are not used in its place, nor is it put into the model for LangChain to ask: a key of theirs is
the request as it was sent, so that independent answers to one prompt would be one, and what a server had refused would
be asked again in every process. They keep empty and cut-off answers too, and drop the whole file for one bad row.
"""

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

from langchain_core.caches import RETURN_VAL_TYPE, BaseCache
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration

from neuronscope.digests import digest
from neuronscope.llm.answers import is_whole, reasoning_of
from neuronscope.llm.backends import backend_of
from neuronscope.locks import Lock, in_forked_child

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

KEY_VERSION = 1
"""Version of the keys; answers of another one are not found."""

_KEPT_METADATA = ("finish_reason", "stop_reason", "model_name")

logger = logging.getLogger(__name__)


class AnswerCache(BaseCache):
    """Answers by a digest of what was asked, in an SQLite file that several processes may share.

    It is LangChain's `BaseCache`, and so serves `set_llm_cache` too, beside which `ask` gives it keys of its own.

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

    def lookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """The answers that were kept, or None."""
        key = _row_key(prompt, llm_string)
        rows = self._execute("SELECT answer FROM answers WHERE key = ?", (key,))
        if not rows:
            return None
        try:
            found = json.loads(_as_written(rows[0][0]))
            answers = [AIMessage(**answer) for answer in (found if isinstance(found, list) else [found])]
        except Exception as error:  # noqa: BLE001 - of whichever kind LangChain's reading of it raises
            self._forget(key, type(error).__name__)
            return None
        if not answers or not all(map(is_whole, answers)):  # by what is known of answers now
            self._forget(key)
            return None
        return [ChatGeneration(message=answer) for answer in answers]

    def update(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Keep answers, if all are worth it; what is there already stays."""
        messages = [generation.message for generation in return_val if isinstance(generation, ChatGeneration)]
        answers = [message for message in messages if isinstance(message, AIMessage) and is_whole(message)]
        if not answers or len(answers) < len(return_val):
            return
        documents = [_document(answer) for answer in answers]
        try:
            written = json.dumps(documents[0] if len(documents) == 1 else documents, default=str)
        except (TypeError, ValueError, RecursionError):  # nested without end, say
            return
        row = (_row_key(prompt, llm_string), f"{_digest(written)} {written}")
        self._execute("INSERT OR IGNORE INTO answers VALUES (?, ?)", row)

    async def alookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """The same: a row is read sooner than handed to a thread."""
        return self.lookup(prompt, llm_string)

    async def aupdate(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """The same, so that nothing can come between an answer and its keeping."""
        self.update(prompt, llm_string, return_val)

    def clear(self, **_: Any) -> None:
        """Forget all answers."""
        self._execute("DELETE FROM answers", ())

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


def answer_key(
    llm: BaseChatModel,
    messages: Sequence[BaseMessage],
    *,
    schema: dict[str, Any] | None = None,
    tools: Sequence[dict[str, Any]] = (),
    sample: int = 0,
) -> tuple[str, str] | None:
    """Everything that an answer depends on, as LangChain's caches take it: `(prompt, llm_string)`.

    None for a model that does not say what it is.
    """
    identity = llm.asdict()
    if len(identity) < 2:  # nothing but its type
        return None
    said = [(message.type, message.content, getattr(message, "tool_calls", [])) for message in messages]
    prompt = [said, schema, sample, *([list(tools)] if tools else [])]
    return _written(prompt), _written([backend_of(llm), identity])


def _written(values: list[Any]) -> str:
    return json.dumps(values, sort_keys=True, default=str)[1:-1]


def _row_key(prompt: str, llm_string: str) -> str:
    """The key of a row: a digest, so that no prompt is in the file."""
    asked = f"[{KEY_VERSION}, {llm_string}, {prompt}]"
    return hashlib.sha256(asked.encode("utf-8", "surrogatepass")).hexdigest()


def _document(answer: AIMessage) -> dict[str, Any]:
    """What is kept of an answer."""
    metadata = answer.response_metadata
    return {
        "content": answer.content,
        "tool_calls": answer.tool_calls,
        **_repeated_thoughts(answer),
        "usage_metadata": answer.usage_metadata,
        "response_metadata": {name: metadata[name] for name in _KEPT_METADATA if name in metadata},
    }


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
    thought = reasoning_of(answer)
    repeated = thought and answer.text.strip().startswith(thought.strip())
    return {"additional_kwargs": {"reasoning_content": thought}} if repeated else {}
