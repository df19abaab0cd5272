"""A run's folder: what it is a run of, a result per neuron, its checkpoints, and what it has cost."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from filelock import FileLock, Timeout

from neuronscope.errors import ConfigurationError, ResultError
from neuronscope.io import write_atomically
from neuronscope.llm.usage_log import UsageLog
from neuronscope.results import NeuronExplanation
from neuronscope.saved import SCHEMA_VERSION
from neuronscope.types import Neuron

RUN_FILE = "run.json"
RESULTS = "results"
_FREE = ("max_concurrency", "requests_per_second", "request_timeout", "cache_answers")
"""Settings that change how fast a run is and not what it finds."""


class RunFolder:
    """Where a run keeps everything that it must not lose; one process works in it at a time.

    `run.json` names what the run is made with; `results/` has one file per neuron, written when it is done;
    `checkpoints.sqlite` the neurons under way; `costs.sqlite` every request so far.

    Args:
        path: the folder; made if it is missing.

    Raises:
        ConfigurationError: it is no folder, or another process is at work in it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self._lock = FileLock(self.path / ".lock", thread_local=False)
        try:
            (self.path / RESULTS).mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
            with TemporaryFile(dir=self.path / RESULTS):
                pass  # results can be written
            self.usage_log = UsageLog(self.path / "costs.sqlite")
        except Timeout as error:
            raise ConfigurationError(
                f"Another process is at work in {self.path}. Wait for it, stop it, or name another folder with out=."
            ) from error
        except (OSError, NotImplementedError, ResultError) as error:
            self._lock.release()
            if isinstance(error, ResultError):
                raise
            reason = getattr(error, "strerror", None) or error
            raise ConfigurationError(
                f"The run's folder {self.path} cannot be made or written: {reason}. Name another with out=."
            ) from error

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.usage_log.close()
        self._lock.release()

    @property
    def checkpoints(self) -> Path:
        """The file with the neurons that are under way."""
        return self.path / "checkpoints.sqlite"

    def continue_as(self, provenance: dict[str, Any]) -> None:
        """Start a run with these origins, or go on with one.

        Args:
            provenance: what a result of this run says about its origins.

        Raises:
            ConfigurationError: the folder belongs to a run with other origins; the message names the difference.
            ResultError: the folder's description of the run is damaged.
        """
        own = json.loads(json.dumps({"schema_version": SCHEMA_VERSION, **provenance}, default=str))
        file = self.path / RUN_FILE
        if not file.exists():
            write_atomically(file, json.dumps(own, ensure_ascii=False, indent=1))
            return
        try:
            known = read_description(file)
        except (ValueError, RecursionError) as error:
            raise ResultError(f"{file} is damaged. Delete it to go on with the run's results as they are.") from error
        if known.get("schema_version", 1) != SCHEMA_VERSION:
            raise ConfigurationError(
                f"The folder {self.path} belongs to a run of another version of neuronscope, whose results this one "
                "does not read. Name another folder with out=, or go on with the version that began the run "
                f"({known.get('neuronscope', 'unknown')})."
            )
        differences = list(differences_between(known, own))
        if differences:
            raise ConfigurationError(
                f"The folder {self.path} belongs to a run with another {'; '.join(differences)}. Name another folder "
                "with out=, or give the settings that the run was begun with."
            )

    def path_of(self, neuron: Neuron) -> Path:
        """The file of a neuron's result."""
        return self.path / RESULTS / f"{neuron.file_name}.json"

    def save(self, result: NeuronExplanation) -> None:
        """Write a neuron's result.

        Raises:
            ResultError: it cannot be written.
        """
        file = self.path_of(result.neuron)
        try:
            result.save(file)
        except OSError as error:
            raise ResultError(
                f"{file} cannot be written: {error.strerror}. Make room, and run the same again: it goes on."
            ) from error

    def saved(self, neurons: Iterable[Neuron]) -> dict[Neuron, NeuronExplanation]:
        """The results that there are, partial ones too.

        Raises:
            ResultError: a result is damaged; the message names the file.
        """
        return {neuron: _load(file) for neuron in neurons if (file := self.path_of(neuron)).exists()}

    def finished(self, neurons: Iterable[Neuron]) -> dict[Neuron, NeuronExplanation]:
        """The results of those that are done; one that was left partial is not.

        Raises:
            ResultError: a result is damaged; the message names the file.
        """
        return {neuron: result for neuron, result in self.saved(neurons).items() if result.status != "partial"}


def read_description(file: Path) -> dict[str, Any]:
    """What a run's `run.json` says.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged.
        RecursionError: it is nested without end.
    """
    known = json.loads(file.read_bytes())
    if not isinstance(known, dict):
        raise ValueError("no description of a run")
    return known


def _load(file: Path) -> NeuronExplanation:
    try:
        return NeuronExplanation.load(file)
    except ResultError as error:
        raise ResultError(f"{error} Delete the file, and the run explains the neuron again.") from error


def differences_between(
    known: dict[str, Any], own: dict[str, Any], words: tuple[str, str] = ("then", "now"), place: str = ""
) -> Iterator[str]:
    """What differs between two descriptions, in words; the version of neuronscope may."""
    for name in sorted({*known, *own} - {"neuronscope", *_FREE}):
        before, now = known.get(name), own.get(name)
        path = f"{place}{name}"
        if isinstance(before, dict) and isinstance(now, dict):
            yield from differences_between(before, now, words, f"{path}.")
        elif before != now:
            yield f"{path} ({_short(before)} {words[0]}, {_short(now)} {words[1]})"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:60] + "…"
