"""What a simulator is trained on: explanations with what their neurons really did.

Every neuron belongs to one side, by a hash of its name, and every document too: the test split. So adding neurons moves
none to the other side, and the report is about neurons and documents that the simulator has not seen.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from neuronscope.corpus.documents import digest_of, split_of
from neuronscope.errors import ConfigurationError, first_problem
from neuronscope.exemplars.sampling import split_seed
from neuronscope.results import NeuronExplanation
from neuronscope.types import SPLITS, Exemplar, Neuron, Split

if TYPE_CHECKING:
    from neuronscope.exemplars.store import ExemplarStore

TRAINED: tuple[Split, ...] = ("train", "feedback", "validation")
"""Documents that a simulator may be trained on; the others are for the report."""


@dataclass(frozen=True, slots=True, eq=False)
class ExplainedNeuron:
    """One explanation, and what its neuron did."""

    name: str
    """Decides, by a hash, whether the neuron is held out."""
    explanation: str
    """What the neuron responds to, all of it: the explanations of several modes are one text."""
    maximum: float
    """The neuron's largest activation, which is level 10."""
    trained: Sequence[Exemplar]
    """From documents to train on."""
    unseen: Sequence[Exemplar]
    """From documents that no simulator is trained on."""


def is_held_out(name: str, share: float) -> bool:
    """Whether the neuron of this name is among the share that is kept for the report."""
    return int.from_bytes(digest_of(f"held out/{name}")[:8], "big") / 2**64 < share


def read_results(
    folder: str | os.PathLike[str], store: ExemplarStore, *, top: int = 20, random: int = 20, seed: int = 0
) -> list[ExplainedNeuron]:
    """Take the saved explanations of a folder, with exemplars of the store that their neurons are in.

    What a neuron did is known of the neuron, not of one mode; so the explanations of all its modes make one text. The
    exemplars are those that the neuron was explained and scored with, if the numbers and the seed are the same. Neurons
    without a mode are left out.

    Args:
        folder: with files that `NeuronExplanation.save` has written, at its top level.
        store: of the subject that was explained.
        top: top sequences of each neuron and split.
        random: random sequences of each neuron and split.
        seed: for drawing them.

    Raises:
        ConfigurationError: the folder holds no explanation with a mode.
        ResultError: a file is not a saved explanation.
        StoreError: the store lacks a neuron's layer, or needs a model to compute activations.
    """
    files = sorted(Path(folder).glob("*.json"))
    results = [result for result in map(NeuronExplanation.load, files) if result.modes]
    if not results:
        raise ConfigurationError(
            f"The folder {folder} holds no explanation to train on: {len(files)} JSON files, none with a mode. "
            "Give a folder of results that `neuronscope explain --out` has saved."
        )
    texts: dict[int, Exemplar] = {}

    def sequences(neuron: Neuron, split: Split) -> list[int]:
        """Top and random ones; the seed is made as for explaining, so that the store knows their activations."""
        first = store.top_ids(neuron, split, top)
        drawn = store.random_ids(neuron, split, random, split_seed(seed, split))
        return [*first, *(number for number in drawn if number not in first)]

    return [
        _from_store(result, store, {split: sequences(result.neuron, split) for split in SPLITS}, texts)
        for result in results
    ]


def _from_store(
    result: NeuronExplanation, store: ExemplarStore, ids: dict[Split, list[int]], texts: dict[int, Exemplar]
) -> ExplainedNeuron:
    """One neuron; its exemplars share the texts of those in `texts`, since neurons have most sequences in common."""
    neuron = result.neuron
    exemplars = {}
    for exemplar in store.by_id(neuron, [number for split in SPLITS for number in ids[split]]):
        known = texts.setdefault(exemplar.sequence_id, exemplar)
        exemplars[exemplar.sequence_id] = replace(exemplar, tokens=known.tokens, token_ids=known.token_ids)
    return ExplainedNeuron(
        # Not str(neuron): a hash of the name holds neurons out, and must hold the same ones out as it did before.
        name=f"{neuron.site}/{neuron.layer}/{neuron.index}/{neuron.sign}",
        explanation=" ".join(mode.explanation for mode in result.modes),
        maximum=float(store.max_activation(neuron.layer, neuron.sign)[neuron.index]),
        trained=[exemplars[number] for split in TRAINED for number in ids[split]],
        unseen=[exemplars[number] for split in SPLITS if split not in TRAINED for number in ids[split]],
    )


class _Line(BaseModel):
    explanation: str = Field(min_length=1)
    tokens: list[str] = Field(min_length=1)
    activations: list[FiniteFloat]


def read_jsonl(path: str | os.PathLike[str]) -> list[ExplainedNeuron]:
    """Read lines of `{"explanation": ..., "tokens": [...], "activations": [...]}`.

    Lines with the same explanation are of one neuron, whose largest activation is level 10; negative ones count as 0.
    A line's text, by its hash, decides whether it is trained on.

    Raises:
        ConfigurationError: the file cannot be read, a line is not of this form, or there is none.
    """
    exemplars: dict[str, list[Exemplar]] = {}
    for number, line in _lines(Path(path)):
        activations = np.maximum(np.array(line.activations, np.float32), 0)
        exemplar = Exemplar(line.tokens, [], activations, number, Path(path).name)
        exemplars.setdefault(line.explanation, []).append(exemplar)
    if not exemplars:
        raise ConfigurationError(f"{path} is empty. Give a file with an explanation, tokens and activations per line.")
    return [_from_lines(explanation, of_one) for explanation, of_one in exemplars.items()]


def _lines(path: Path) -> Iterator[tuple[int, _Line]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"Cannot read {path}: {error.strerror}.") from error
    for number, text in enumerate(content.splitlines(), start=1):
        if not text.strip():
            continue
        try:
            line = _Line.model_validate_json(text)
        except ValidationError as error:
            raise ConfigurationError(
                f"{path}, line {number}: {first_problem(error)}. Expected an explanation "
                "(text), tokens (texts) and activations (numbers)."
            ) from error
        if len(line.tokens) != len(line.activations):
            raise ConfigurationError(
                f"{path}, line {number}: {len(line.tokens)} tokens, but {len(line.activations)} activations. Give one "
                "activation for each token."
            )
        yield number, line


def _from_lines(explanation: str, exemplars: Sequence[Exemplar]) -> ExplainedNeuron:
    trained = [exemplar for exemplar in exemplars if split_of(exemplar.text) in TRAINED]
    unseen = [exemplar for exemplar in exemplars if split_of(exemplar.text) not in TRAINED]
    maximum = max(float(exemplar.activations.max()) for exemplar in exemplars)
    return ExplainedNeuron(explanation, explanation, maximum, trained, unseen)
