"""The shards of a run, put together: one folder with all results and costs, as if one process had made it.

All checks come before the first file is written, each file is written whole, and what a shard has cost is counted in
place of what was counted of it before. So a merge that was killed, or that came before a shard went on, is done again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuronscope.errors import ConfigurationError, ResultError
from neuronscope.llm.usage_log import UsageRecord
from neuronscope.results import NeuronExplanation
from neuronscope.runs.folder import RESULTS, RUN_FILE, RunFolder, differences_between, read_description
from neuronscope.runs.shard import SHARDS, ShardFile, shard_folders
from neuronscope.types import Neuron

logger = logging.getLogger(__name__)

_NAMED = 10
"""Neurons or shards that a message names."""


def merge_shards(out: str | Path, *others: str | Path, allow_missing: bool = False) -> list[NeuronExplanation]:
    """Put the shards of a run together in its folder, where an equal call without a shard then goes on.

    Doing it again changes nothing, or takes in what shards have done since. The shards' own folders stay.

    Args:
        out: the run's folder, with the shards that are there; made if it is missing.
        others: folders with more of its shards, where machines share no disk: the run's folder on another machine, or
            a shard's own.
        allow_missing: merge what is there; what is missing is named in a warning in place of an error.

    Returns:
        All results in `out`, in the order of their neurons.

    Raises:
        ConfigurationError: shards are missing, unfinished, still at work, or not of the same run; the message names
            them.
        ResultError: something in a folder is damaged, or two results of one neuron differ.
    """
    run = Path(out).expanduser()
    places = [Path(each).expanduser() for each in others]
    if (run / SHARDS).is_dir() or not places:
        places.insert(0, run)
    parts = _distinct([_read(folder) for folder in shard_folders(places)])
    _check_same_run(parts)
    if missing := list(_missing(parts)):
        message = f"{'; '.join(missing)}."
        if not allow_missing:
            raise ConfigurationError(
                f"{message} Run `neuronscope run SPEC --shard I/N` for each of them, which goes on from what is there; "
                "or merge what there is, with --allow-missing (in Python allow_missing=True)."
            )
        logger.warning("%s What there is was merged.", message)
    with RunFolder(run) as folder:
        folder.continue_as({name: value for name, value in parts[0].run.items() if name != "schema_version"})
        chosen = _chosen(folder, parts)
        for part in parts:
            folder.usage_log.replace_shard(str(part.file.shard), part.costs)
        for result in chosen:
            folder.save(result)
        return _all(folder)


@dataclass(frozen=True)
class _Part:
    """A shard as it was found."""

    folder: Path
    file: ShardFile
    run: dict[str, Any]
    """Its `run.json`."""
    results: dict[Neuron, NeuronExplanation]
    costs: dict[str, list[UsageRecord]]

    @property
    def content(self) -> object:
        """All that counts of it."""
        return self.file, {neuron: result.to_json() for neuron, result in self.results.items()}, self.costs


def _read(folder: Path) -> _Part:
    """A shard that nobody is at work on."""
    file = ShardFile.read(folder)
    try:
        run = read_description(folder / RUN_FILE)
    except (OSError, ValueError, RecursionError) as error:
        raise ResultError(f"{folder / RUN_FILE} is damaged. Delete it and run the shard again: it goes on.") from error
    neurons = [Neuron.parse(name) for name in file.neurons]
    with RunFolder(folder) as opened:
        return _Part(folder, file, run, opened.saved(neurons), opened.usage_log.by_neuron())


def _distinct(parts: Sequence[_Part]) -> list[_Part]:
    """Each shard once; a copy in another place must be one.

    Raises:
        ResultError: it is not.
    """
    found: dict[tuple[str, object], _Part] = {}
    for part in parts:
        first = found.setdefault((part.file.run, part.file.shard), part)
        if first is not part and first.content != part.content:
            raise ResultError(
                f"Shard {part.file.shard} is in two places, {first.folder} and {part.folder}, which do not hold the "
                "same. Keep one of them."
            )
    return sorted(found.values(), key=lambda part: part.file.shard)


def _check_same_run(parts: Sequence[_Part]) -> None:
    """Check that all are parts of the same neurons, made with the same.

    Raises:
        ConfigurationError: they are not.
    """
    first = parts[0]
    for other in parts[1:]:
        both = f"{first.folder} and {other.folder}"
        if other.file.shard.count != first.file.shard.count:
            raise ConfigurationError(
                f"{both} are shards {first.file.shard} and {other.file.shard}: a run is divided once. Move the folders "
                "of the other division away."
            )
        if other.file.run != first.file.run:
            raise ConfigurationError(
                f"{both} are shards of lists of neurons that differ, if only in their order. Move away what belongs to "
                "another run. Where neurons are chosen by what they do, all shards must find the same store."
            )
        if differences := list(differences_between(first.run, other.run, ("in the first", "in the second"))):
            raise ConfigurationError(
                f"{both} were not made with the same: they differ in {_shown(differences)}. Move away what belongs to "
                "another run."
            )


def _missing(parts: Sequence[_Part]) -> Iterator[str]:
    """What there is no result of, in words."""
    count = parts[0].file.shard.count
    there = {part.file.shard.index for part in parts}
    if absent := [f"{index}/{count}" for index in range(count) if index not in there]:
        yield f"There is no shard {_shown(absent)}"
    for part in parts:
        if left := [name for name in part.file.neurons if Neuron.parse(name) not in part.results]:
            yield f"shard {part.file.shard} is not finished: no result of {_shown(left)}"


def _shown(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _chosen(folder: RunFolder, parts: Sequence[_Part]) -> list[NeuronExplanation]:
    """The results that the run's folder lacks, or has partial ones of.

    Raises:
        ResultError: it has a finished one that is another.
    """
    chosen = []
    for part in parts:
        there = folder.saved(part.results)
        for neuron, result in part.results.items():
            known = there.get(neuron)
            if known is None or (known.status == "partial" and known.to_json() != result.to_json()):
                chosen.append(result)
            elif result.status != "partial" and _found(known) != _found(result):
                raise ResultError(
                    f"{folder.path_of(neuron)} and shard {part.file.shard} in {part.folder} have different results. "
                    "Delete the one that you do not want."
                )
    return chosen


def _found(result: NeuronExplanation) -> dict[str, Any]:
    """A result without what it has cost."""
    document: dict[str, Any] = json.loads(result.to_json())
    del document["usage"]
    return document


def _all(folder: RunFolder) -> list[NeuronExplanation]:
    files = (folder.path / RESULTS).glob("*.json")
    return sorted((NeuronExplanation.load(file) for file in files), key=lambda result: result.neuron)
