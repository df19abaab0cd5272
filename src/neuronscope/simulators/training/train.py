"""`train_simulator`: from explanations and exemplars to a checkpoint."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from neuronscope.errors import ConfigurationError
from neuronscope.io import write_atomically
from neuronscope.simulators.finetuned import FinetunedSimulator
from neuronscope.simulators.training.batches import Encoder, Lesson
from neuronscope.simulators.training.loop import Loop
from neuronscope.simulators.training.material import ExplainedNeuron, is_held_out, read_jsonl, read_results
from neuronscope.simulators.training.progress import StepProgress
from neuronscope.simulators.training.report import TrainingReport, simulate_unseen
from neuronscope.simulators.training.settings import TrainingSettings
from neuronscope.simulators.training.trainee import Trainee
from neuronscope.subject.loading import choose_device, choose_dtype

if TYPE_CHECKING:
    from neuronscope.exemplars.store import ExemplarStore

REPORT = "report.json"
Explanations = str | os.PathLike[str] | Sequence[ExplainedNeuron]
"""A folder of saved results, a JSONL file, or what was made by hand."""


def train_simulator(
    explanations: Explanations,
    out: str | os.PathLike[str],
    *,
    base: Any = "smollm2-135m",
    store: ExemplarStore | None = None,
    settings: TrainingSettings | None = None,
    device: str = "auto",
    progress: bool | None = None,
) -> TrainingReport:
    """Train a simulator: a causal language model that reads an explanation and tells each token's activation.

    The checkpoint is an ordinary Hugging Face folder, which `FinetunedSimulator(out)` loads. What is interrupted goes
    on from the last checkpoint when it is called again with the same arguments, to the same weights.

    Args:
        explanations: a folder of saved results, whose exemplars `store` has; a JSONL file (see `read_jsonl`); or
            explained neurons.
        out: the checkpoint's folder.
        base: the language model to start from: whatever `load_subject` takes. A model in hand is changed.
        store: where the neurons of saved results have their exemplars; bind the subject if it lacks activations.
        settings: how to train.
        device: as for `load_subject`.
        progress: whether to show a bar; None shows it if standard error is a terminal.

    Raises:
        ConfigurationError: there is nothing to learn, or the folder belongs to another training.
        SimulatorError: the base cannot be loaded or used, or reads too few tokens.
        ResultError: a file of the folder is not a saved explanation.
        StoreError: the store lacks a neuron's layer, or needs a model to compute activations.
    """
    settings, folder = settings or TrainingSettings(), Path(out)
    neurons = _read(explanations, store, settings)
    unseen = [neuron for neuron in neurons if is_held_out(neuron.name, settings.heldout)]
    target = choose_device(device)
    precision = choose_dtype(settings.precision, target)
    with torch.random.fork_rng(devices=[target] if target.type == "cuda" else []):
        torch.manual_seed(settings.seed)
        trainee = Trainee(base, settings.method, settings.lora_rank, precision, device)
        encoder = Encoder(trainee.tokenizer, trainee.context)
        written = [encoder.encode(neuron) for neuron in neurons]
        lessons = [
            lesson for neuron, lesson in zip(neurons, written, strict=True) if neuron not in unseen and lesson.passages
        ]
        if not lessons:
            raise ConfigurationError(
                f"There is nothing to learn: of {len(neurons)} explained neurons, {len(unseen)} are held out and the "
                "others have no exemplars in the documents to learn from. Give more neurons, or hold out fewer."
            )
        key = {"base": trainee.name, "settings": settings.model_dump(), "lessons": _fingerprint(lessons)}
        if _claim(folder / "training", key):
            return TrainingReport.load(folder / "training" / REPORT)
        loop = Loop(trainee, lessons, settings, folder / "training", key)
        with StepProgress(progress) as bar:
            done = loop.run(bar)
        trainee.save(folder)
    report = TrainingReport(
        path=str(folder),
        base=trainee.name,
        neurons=len(lessons),
        exemplars=sum(len(lesson.passages) for lesson in lessons),
        steps=done.steps,
        tokens=done.tokens,
        seconds=round(done.seconds, 1),
        heldout=simulate_unseen(FinetunedSimulator(folder, device=device, dtype=precision), unseen) if unseen else [],
    )
    write_atomically(folder / "training" / REPORT, report.to_json())
    loop.clear()
    return report


def _read(
    explanations: Explanations, store: ExemplarStore | None, settings: TrainingSettings
) -> Sequence[ExplainedNeuron]:
    if not isinstance(explanations, (str, os.PathLike)):
        return explanations
    path = Path(explanations)
    if not path.is_dir():
        return read_jsonl(path)
    if store is None:
        raise ConfigurationError(
            f"The explanations in {path} need the exemplar store that their neurons are in: store=open_store(path), or "
            "--store on the command line."
        )
    return read_results(path, store, settings)


def _fingerprint(lessons: Sequence[Lesson]) -> str:
    return hashlib.blake2b(json.dumps(lessons).encode(), digest_size=12).hexdigest()


def _claim(folder: Path, key: dict[str, Any]) -> bool:
    """Write down what is trained here, unless it is written already; whether it is also finished.

    Raises:
        ConfigurationError: it is something else.
    """
    path = folder / "settings.json"
    if not path.exists():
        write_atomically(path, json.dumps(key, indent=1))
        return False
    try:
        differing = sorted(_differences(json.loads(path.read_bytes()), key))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{path} cannot be read ({error}). Delete the folder {folder.parent}.") from error
    if differing:
        raise ConfigurationError(
            f"The folder {folder.parent} belongs to another training; these differ: {', '.join(differing)}. Choose "
            "another folder, or delete this one."
        )
    return (folder / REPORT).exists()


def _differences(found: dict[str, Any], key: dict[str, Any]) -> set[str]:
    flat = [each["settings"] | {name: each[name] for name in each if name != "settings"} for each in (found, key)]
    return {name for name in flat[0].keys() | flat[1].keys() if flat[0].get(name) != flat[1].get(name)}
