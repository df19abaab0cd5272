"""One of the n parts of a run, for schedulers that start the same command many times; `merge` puts them together.

Shard i of n has every n-th neuron of the run, beginning with the i-th. Which these are follows from the list alone, so
that no machine has to know of another. Each shard has a run's folder of its own, `shards/<i>-of-<n>` in the run's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

from neuronscope.arguments import integer, short
from neuronscope.digests import name_of
from neuronscope.errors import ConfigurationError, ResultError
from neuronscope.io import write_atomically
from neuronscope.runs.folder import RUN_FILE, RunFolder
from neuronscope.types import Neuron

AnyShard: TypeAlias = "str | tuple[int, int]"
"""`(i, n)` or `"i/n"`, counted from 0."""

SHARDS = "shards"
SHARD_FILE = "shard.json"
_WRITTEN = re.compile(r"(\d{1,9})/(\d{1,9})")


@dataclass(frozen=True, order=True)
class Shard:
    """Which part of a run."""

    index: int
    """From 0."""
    count: int
    """How many there are."""

    @classmethod
    def of(cls, shard: AnyShard) -> Shard:
        """Read `(i, n)` or `"i/n"`.

        Raises:
            ConfigurationError: it is neither, or there is no such part.
        """
        parts: Sequence[object] = shard if isinstance(shard, tuple) else ()
        if isinstance(shard, str) and (written := _WRITTEN.fullmatch(shard.strip())):
            parts = [int(number) for number in written.groups()]
        if len(parts) != 2:
            raise ConfigurationError(f"The shard is {short(shard)}: expected a number and a count, such as 0/8.")
        index, count = integer(parts[0], "The shard's number"), integer(parts[1], "The count of shards", least=1)
        if not 0 <= index < count:
            raise ConfigurationError(
                f"There is no shard {index}/{count}: they count from 0, and the last of {count} is {count - 1}/{count}."
            )
        return cls(index, count)

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def neurons(self, neurons: Sequence[Neuron]) -> list[Neuron]:
        """Its part of a run's neurons."""
        return list(neurons[self.index :: self.count])

    def folder(self, run: str | Path) -> Path:
        """Its folder in a run's."""
        return Path(run).expanduser() / SHARDS / f"{self.index}-of-{self.count}"


class ShardFile(NamedTuple):
    """What `shard.json` says beside a shard's results."""

    shard: Shard
    neurons: tuple[str, ...]
    """The written names of the shard's own."""
    run: str
    """A digest of all neurons of the run, in their order."""

    @classmethod
    def describe(cls, shard: Shard, neurons: Sequence[Neuron]) -> ShardFile:
        """Of a shard of these neurons."""
        return cls(shard, tuple(map(str, shard.neurons(neurons))), name_of([str(each) for each in neurons], 24))

    @classmethod
    def read(cls, folder: Path) -> ShardFile:
        """Of a shard's folder.

        Raises:
            ResultError: it is missing or damaged.
        """
        try:
            found = json.loads((folder / SHARD_FILE).read_bytes())
            neurons = tuple(str(Neuron.parse(name)) for name in found["neurons"])
            return cls(Shard.of(found["shard"]), neurons, str(found["run"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, ConfigurationError) as error:
            raise ResultError(
                f"{folder / SHARD_FILE} is missing or damaged ({error}). Run the shard again: it goes on from there."
            ) from error

    def write(self, folder: Path) -> None:
        """Write it, or check that a shard of the same neurons is there.

        Raises:
            ConfigurationError: the folder has a shard of other neurons.
        """
        with suppress(ResultError):  # what is missing or damaged is written
            if (known := ShardFile.read(folder)) != self:
                raise ConfigurationError(
                    f"The folder {folder} belongs to shard {known.shard} of a run of other neurons. Name another "
                    "folder with out=, or the neurons that the run was begun with."
                )
        content = {"shard": str(self.shard), "neurons": self.neurons, "run": self.run}
        write_atomically(folder / SHARD_FILE, json.dumps(content, ensure_ascii=False, indent=1))


def open_folder(out: str | Path, shard: Shard | None) -> RunFolder:
    """The folder of a run, or of a shard of it.

    Raises:
        ConfigurationError: it cannot be used, another process is at work in it, or a whole run would begin beside
            shards that nobody has merged.
    """
    if shard is not None:
        return RunFolder(shard.folder(out))
    run = Path(out).expanduser()
    if not (run / RUN_FILE).exists() and any(_shards(run)):
        raise ConfigurationError(
            f"The run in {run} is divided into shards. Put them together first, `neuronscope merge {run}`; what is "
            "missing is then explained by the same call."
        )
    return RunFolder(run)


def shard_folders(places: Iterable[Path]) -> list[Path]:
    """The folders of shards: those in runs' folders, and those that are named themselves.

    Raises:
        ConfigurationError: a place has none.
    """
    found: list[Path] = []
    for place in places:
        here = [place] if (place / SHARD_FILE).is_file() else list(_shards(place))
        if not here:
            raise ConfigurationError(
                f"{place} has no shards: expected folders such as {place / SHARDS / '0-of-8'}, as `neuronscope run "
                "SPEC --shard 0/8` makes them."
            )
        found += here
    return list(dict.fromkeys(each.resolve() for each in found))


def _shards(run: Path) -> Iterable[Path]:
    return (file.parent for file in sorted(run.glob(f"{SHARDS}/*/{SHARD_FILE}")))
