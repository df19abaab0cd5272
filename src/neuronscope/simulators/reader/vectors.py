"""MiniLM's vectors of words and phrases: each is made once, and those of words are kept for other processes."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from neuronscope.errors import NeuronScopeError
from neuronscope.io import cache_folder
from neuronscope.llm.minilm import WIDTH, MiniLM, minilm_identity

Array = NDArray[np.float32]

VERSION = 1
"""Of the file that vectors of words are kept in."""
_ASKED_AT_ONCE = 500
_TOLERANCE = 1e-3
"""How far the length of a vector that was kept may be from 1; another one is damaged."""

logger = logging.getLogger(__name__)


class Vectors:
    """Vectors of texts; the latest are remembered.

    Args:
        capacity: how many are remembered.
        on_disk: whether those of single words are looked up and kept in the cache folder.
    """

    def __init__(self, capacity: int = 60_000, on_disk: bool = True) -> None:
        self._vectors: OrderedDict[str, Array] = OrderedDict({"": np.zeros(WIDTH, dtype=np.float32)})
        self._capacity = capacity
        self._words = _WordFile() if on_disk else None

    def remember(self, texts: Iterable[str]) -> None:
        """Embed what is not known yet, all together."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if missing and self._words:
            words = [text for text in missing if " " not in text]
            self._vectors.update(self._words.find(words))
            missing = [text for text in missing if text not in self._vectors]
        if missing:
            found = dict(zip(missing, self.embed(missing), strict=True))
            self._vectors.update(found)
            if self._words:
                self._words.keep({text: vector for text, vector in found.items() if " " not in text})

    def stack(self, texts: Sequence[str]) -> Array:
        """The vectors of texts, `(n_texts, WIDTH)`; zeros for an empty one."""
        self.remember(texts)
        for text in texts:
            self._vectors.move_to_end(text)
        found = np.array([self._vectors[text] for text in texts], dtype=np.float32).reshape(-1, WIDTH)
        self._vectors.move_to_end("")
        while len(self._vectors) > self._capacity:
            self._vectors.popitem(last=False)
        return found

    def embed(self, texts: Sequence[str]) -> Array:
        """The vectors of texts that are not known."""
        return MiniLM(capacity=0).embed_packed(texts)


class _WordFile:
    """Vectors by a digest of the word, in an SQLite file that processes share. Without the file, nothing is kept."""

    def __init__(self) -> None:
        self._process = 0
        self._database: sqlite3.Connection | None = None
        self._of_parents: list[sqlite3.Connection] = []

    def __reduce__(self) -> tuple[type[_WordFile], tuple[()]]:
        return type(self), ()

    def find(self, words: Sequence[str]) -> dict[str, Array]:
        """The vectors of words that are kept."""
        keys = {xxhash.xxh3_128_digest(word.encode("utf-8", "surrogatepass")): word for word in words}
        wanted = list(keys)
        found: dict[str, Array] = {}
        for first in range(0, len(wanted), _ASKED_AT_ONCE):
            some = wanted[first : first + _ASKED_AT_ONCE]
            marks = ",".join("?" * len(some))
            for key, kept in self._execute(f"SELECT key, vector FROM vectors WHERE key IN ({marks})", some):
                if len(kept) == 4 * WIDTH:
                    vector = np.frombuffer(kept, dtype="<f4").astype(np.float32)
                    if abs(float(vector @ vector) - 1) < _TOLERANCE:
                        found[keys[key]] = vector
        return found

    def keep(self, vectors: dict[str, Array]) -> None:
        """Keep vectors of words, in one transaction."""
        rows = [
            (xxhash.xxh3_128_digest(word.encode("utf-8", "surrogatepass")), vector.astype("<f4").tobytes())
            for word, vector in vectors.items()
        ]
        database = self._open()
        if database is not None and rows:
            try:
                with database:
                    database.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)
            except sqlite3.Error as error:
                self._give_up(error)

    def _execute(self, statement: str, values: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
        database = self._open()
        if database is None:
            return []
        try:
            return database.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            self._give_up(error)
            return []

    def _open(self) -> sqlite3.Connection | None:
        """The file, opened anew in a forked child, where the parent's connection must not even be closed."""
        if self._process == os.getpid():
            return self._database
        if self._database is not None:
            self._of_parents.append(self._database)
        self._process, self._database = os.getpid(), None
        try:
            path = Path(cache_folder("vectors"), f"minilm-{minilm_identity()[:16]}-v{VERSION}.sqlite")
            database = sqlite3.connect(path, timeout=30, check_same_thread=False)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            with database:
                database.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL)")
            self._database = database
        except (NeuronScopeError, OSError, sqlite3.Error) as error:
            self._give_up(error)
        return self._database

    def _give_up(self, error: Exception) -> None:
        self._database = None
        logger.warning("Vectors of words cannot be kept in the cache folder and are made anew: %s", error)
