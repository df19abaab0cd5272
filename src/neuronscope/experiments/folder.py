"""An experiment's folder: its spec, a run for each model, and what the experiments have made of their results."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from neuronscope.config import Progress
from neuronscope.errors import ConfigurationError, ResultError
from neuronscope.experiments.spec import ExperimentSpec, ExperimentSubject
from neuronscope.io import check_writable, write_atomically
from neuronscope.llm.models import BATCH
from neuronscope.results import NeuronExplanation
from neuronscope.runs.folder import RESULTS, differences_between
from neuronscope.runs.merge import merge_shards
from neuronscope.runs.shard import SHARDS, AnyShard
from neuronscope.runs.spec import RunSpec
from neuronscope.types import Neuron

SPEC_FILE = "experiment.json"
NEURONS_FILE = "neurons.json"
FREE = ("parallel", "methods", "compared")
"""Fields of a spec that may change between two calls: no result of a run depends on them."""
PACKAGES = ("neuronscope", "torch", "transformers", "numpy", "scipy", "scikit-learn", "hdbscan", "langgraph")


@dataclass(frozen=True)
class SubjectRun:
    """One model's part of an experiment."""

    subject: ExperimentSubject
    run: RunSpec

    @property
    def folder(self) -> Path:
        """Where its run is."""
        return self.run.out

    @property
    def neurons(self) -> list[Neuron] | None:
        """Those of the population, in its order; None before they were chosen."""
        file = self.folder / NEURONS_FILE
        try:
            return [Neuron.parse(name) for name in json.loads(file.read_bytes())]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, ConfigurationError) as error:
            raise ResultError(f"{file} is damaged ({error}). Delete it: it is written anew.") from error

    def results(self) -> list[NeuronExplanation]:
        """What its run has found so far, in the population's order.

        Raises:
            ResultError: a result is damaged.
        """
        files = (self.folder / RESULTS / f"{neuron.file_name}.json" for neuron in self.neurons or ())
        return [NeuronExplanation.load(file) for file in files if file.exists()]

    @property
    def is_finished(self) -> bool:
        """Whether every neuron has a result that need not be tried again."""
        neurons = self.neurons
        if neurons is None:
            return False
        found = self.results()
        return len(found) == len(neurons) and all(each.status != "partial" for each in found)


class ExperimentFolder:
    """Where an experiment keeps everything, so that it goes on from there after a kill.

    `experiment.json` is the spec; `runs/<model>/` an ordinary run; beside them are the tables and figures.

    Args:
        path: the folder.
        spec: what it is an experiment of.

    Raises:
        ConfigurationError: it belongs to another experiment; the message names the difference.
    """

    def __init__(self, path: Path, spec: ExperimentSpec) -> None:
        self.path, self.spec = path.expanduser(), spec
        own = json.loads(spec.model_dump_json())
        if (known := known_spec(self.path)) is not None:
            before = json.loads(known.model_dump_json())
            differences = list(differences_between(_fixed(before), _fixed(own)))
            if differences:
                raise ConfigurationError(
                    f"The folder {self.path} belongs to an experiment with another {'; '.join(differences)}. Name "
                    "another folder with --out, or leave the options out to go on with it."
                )

    def begin(self) -> None:
        """Write the spec down; until then nothing is in the folder.

        Raises:
            ConfigurationError: it cannot be written.
        """
        check_writable(self.path, "Name another with --out.")
        content = json.loads(self.spec.model_dump_json())
        write_atomically(self.path / SPEC_FILE, json.dumps(content, ensure_ascii=False, indent=1))

    @property
    def subjects(self) -> list[SubjectRun]:
        """Its models, each with its run."""
        return [
            SubjectRun(subject, run) for subject, run in zip(self.spec.subjects, self.spec.runs(self.path), strict=True)
        ]

    def explain(self, shard: AnyShard | None = None, progress: Progress = None) -> None:
        """Explain every neuron that has no result yet; a model whose neurons all have one is not loaded.

        Args:
            shard: one part of the neurons only, `(i, n)` or `"i/n"`; without it, the shards that there are are merged
                first.
            progress: whether to show what is going on.

        Raises:
            NeuronScopeError: a model cannot be found or loaded, or shards are missing.
        """
        self.begin()
        for each in self.subjects:
            if each.is_finished:
                continue
            out, run = each.folder, each.run
            if shard is None and (out / SHARDS).is_dir():
                merge_shards(out)
                if each.is_finished:
                    continue
            with run.open(run.layers, progress=progress) as lab:
                neurons = run.chosen(lab.store)
                write_atomically(out / NEURONS_FILE, json.dumps([str(neuron) for neuron in neurons], indent=1))
                results = lab.explain_many(
                    neurons,
                    out=out,
                    checkpoints=run.checkpoints,
                    parallel=run.parallel,
                    engine=run.engine,
                    shard=shard,
                    progress=progress,
                )
                for _ in results:
                    pass

    def by_layer(self) -> Iterator[tuple[SubjectRun, int, list[NeuronExplanation]]]:
        """Each layer of each model with its results."""
        for each in self.subjects:
            results = each.results()
            for layer in each.subject.layers:
                yield each, layer, [result for result in results if result.neuron.layer == layer]

    def environment(self) -> dict[str, Any]:
        """Versions and the machine that the results were made with, as `environment.json` has them."""
        return {"python": platform.python_version(), "platform": platform.platform(), "packages": versions()}


def _fixed(spec: dict[str, Any]) -> dict[str, Any]:
    """What may not change between two calls; batches do not change what a language model answers."""
    llm = spec["setup"]["llm"]
    if isinstance(llm, dict):
        llm = {role: name.removeprefix(BATCH) for role, name in llm.items()}
    else:
        llm = llm.removeprefix(BATCH)
    fixed = {name: value for name, value in spec.items() if name not in FREE}
    return fixed | {"setup": spec["setup"] | {"llm": llm}}


def known_spec(folder: Path) -> ExperimentSpec | None:
    """The spec of the experiment in a folder; None if there is none.

    Raises:
        ResultError: its file is damaged.
    """
    file = folder.expanduser() / SPEC_FILE
    try:
        return ExperimentSpec(**json.loads(file.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, ConfigurationError) as error:
        raise ResultError(
            f"{file} is damaged ({error}). Delete it, and give the experiment's options again."
        ) from error


def versions() -> dict[str, str]:
    """Of the packages that numbers may depend on."""
    found = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
