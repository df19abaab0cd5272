"""The table of a store's sequences: a Parquet file, which is read a row group at a time, and by many other tools.

One row per sequence, by ascending id:
```
id         int64         its number in the corpus
split      string        train, feedback, validation or test
source     string        which part of the corpus the document came from
sampled    bool          whether it belongs to the split's random sample
token_ids  list<int32>   the subject's ids, without BOS
tokens     list<string>  the text of each token; joined, the text
```
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuronscope.errors import StoreError
from neuronscope.exemplars.layout import SEQUENCES_FILE, StoreFiles
from neuronscope.exemplars.pool import Sequence as PooledSequence
from neuronscope.locks import Lock
from neuronscope.types import SPLITS, Split

GROUP_ROWS = 512
"""Sequences of a row group: what one look-up reads."""
_ROWS_IN_MEMORY = 8192
"""Sequences that are remembered as they are decoded: some 8 kB each. The neurons of a layer share them."""
_GROUPS_IN_MEMORY = 128


def write_sequences(
    folder: Path,
    sequences: Iterable[tuple[int, PooledSequence]],
    sampled: set[int],
    strings: Callable[[Sequence[int]], list[str]],
) -> None:
    """Write the sequences a store refers to, a row group at a time.

    Args:
        folder: the store's folder.
        sequences: id and sequence, by ascending id.
        sampled: ids of the random samples.
        strings: the text of each of a sequence's tokens.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema()
    with pq.ParquetWriter(folder / SEQUENCES_FILE, schema, compression="zstd") as writer:
        rest = iter(sequences)
        while rows := list(islice(rest, GROUP_ROWS)):
            texts = [strings(sequence.token_ids.tolist()) for _, sequence in rows]
            columns = {
                "id": [number for number, _ in rows],
                "split": [sequence.split for _, sequence in rows],
                "source": [_encodable(sequence.source) for _, sequence in rows],
                "sampled": [number in sampled for number, _ in rows],
                "token_ids": [sequence.token_ids for _, sequence in rows],
                "tokens": [[_encodable(text) for text in each] for each in texts],
            }
            writer.write_table(pa.table(columns, schema))


def _schema() -> Any:
    import pyarrow as pa

    return pa.schema(
        [
            ("id", pa.int64()),
            ("split", pa.string()),
            ("source", pa.string()),
            ("sampled", pa.bool_()),
            ("token_ids", pa.list_(pa.int32())),
            ("tokens", pa.list_(pa.string())),
        ]
    )


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


class StoredSequence(NamedTuple):
    """One row of the table."""

    token_ids: tuple[int, ...]
    """The subject's token ids, without BOS."""
    tokens: tuple[str, ...]
    """The text of each token."""
    source: str
    """Which part of the corpus the document came from."""


class SequenceFile:
    """The sequences of a store; row groups are read as they are asked for, and the latest kept."""

    def __init__(self, files: StoreFiles) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = files.path(SEQUENCES_FILE)
        self._folder = files.folder
        try:
            self._file = pq.ParquetFile(path, memory_map=True)
        except (OSError, pa.ArrowException) as error:
            raise StoreError(
                f"The store's file {path} cannot be read ({error}). Delete the store and collect again."
            ) from error
        self._one_at_a_time = Lock()
        self._group = lru_cache(maxsize=_GROUPS_IN_MEMORY)(self._file.read_row_group)
        self._decoded = lru_cache(maxsize=_ROWS_IN_MEMORY)(self._decode)
        self._samples: dict[Split, NDArray[np.int64]] = {}

    def sampled(self, split: Split) -> NDArray[np.int64]:
        """Ids of the split's random sample."""
        with self._one_at_a_time:
            if not self._samples:
                table = self._file.read(["id", "split", "sampled"])
                table = table.filter(table.column("sampled"))
                ids, splits = table.column("id").to_numpy(), np.array(table.column("split").to_pylist(), np.str_)
                self._samples = {own: ids[splits == own] for own in SPLITS}
        return self._samples[split]

    def row(self, sequence_id: int) -> StoredSequence:
        """A sequence by its id.

        Raises:
            StoreError: the store does not hold it.
        """
        row = int(np.searchsorted(self._ids, sequence_id))
        if row == len(self._ids) or self._ids[row] != sequence_id:
            raise StoreError(
                f"The store in {self._folder} does not hold sequence {sequence_id}: it keeps those of top lists and a "
                "random sample. Ask for ids that exemplars() or random_sequences() gave."
            )
        with self._one_at_a_time:
            return self._decoded(row)

    def _decode(self, row: int) -> StoredSequence:
        group, place = self._group(row // GROUP_ROWS), row % GROUP_ROWS
        ids, tokens, source = (group.column(name)[place].as_py() for name in ("token_ids", "tokens", "source"))
        return StoredSequence(tuple(ids), tuple(tokens), source)

    @cached_property
    def _ids(self) -> NDArray[np.int64]:
        with self._one_at_a_time:
            ids: NDArray[np.int64] = self._file.read(["id"]).column("id").to_numpy()
        return ids
