"""Neurons with planted meanings: on real text they do what one to six known concepts say, and nothing else.

1. A `Meaning` is a concept of `concepts.json`, with a strength, a grading, and the share of its occurrences that count.
2. A `PlantedNeuron` takes at each token the largest of its meanings, with noise added, and is never below 0.
3. A `PlantedSubject` has many of them, in one layer. It is a `Subject` like any other: exemplars are collected from it,
   and everything that explains, scores and compares works on it unchanged. No model is run.

All that is drawn depends on a seed, and what a neuron does at a token on the tokens up to it, as in a model; but for a
concept's own rule, which may look at the rest of a word or passage.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast, get_args
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from neuronscope.digests import name_of
from neuronscope.errors import ConfigurationError, SubjectError
from neuronscope.experiments.concepts import Concept
from neuronscope.experiments.texts import load_tokenizer_of
from neuronscope.subject.tokens import leading_ids, token_strings
from neuronscope.types import Neuron

Grading = Literal["even", "token", "mention"]
"""Where a concept activates more strongly: everywhere the same, by the token, or at its first mention in a passage."""
GRADINGS: tuple[Grading, ...] = get_args(Grading)

WEAKEST = 0.4
"""What the weakest occurrence of a graded concept has of its strength."""
FADING = 0.8
"""What each further mention has of the one before, if it is graded by mention."""

MOST_MEANINGS = 6
REMEMBERED = 20_000
"""Sequences of which a subject remembers where its concepts hold."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Meaning:
    """One thing that a planted neuron responds to."""

    concept: Concept
    strength: float = 10.0
    """Its activation where it is strongest, 1 to 10."""
    grading: Grading = "even"
    share: float = 1.0
    """The share of its occurrences on which it is active; which these are is drawn."""


@dataclass(frozen=True, slots=True)
class PlantedNeuron:
    """A neuron of which everything is known."""

    meanings: tuple[Meaning, ...]
    noise: float = 0.0
    """Standard deviation of what is added at every token."""
    seed: int = 0
    """Of its noise, its grades, and which occurrences count."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.meanings) <= MOST_MEANINGS:
            raise ConfigurationError(f"A planted neuron has 1 to {MOST_MEANINGS} meanings, not {len(self.meanings)}.")

    @property
    def held_out(self) -> bool:
        """Whether nothing was tuned on any of its concepts."""
        return all(meaning.concept.held_out for meaning in self.meanings)

    def describe(self) -> dict[str, Any]:
        """Everything that it is made of, as plain data; of its concepts the names."""
        meanings = [
            {"concept": each.concept.name, "strength": each.strength, "grading": each.grading, "share": each.share}
            for each in self.meanings
        ]
        return {"meanings": meanings, "noise": self.noise, "seed": self.seed}


class PlantedSubject:
    """A subject of one layer with planted neurons.

    Args:
        neurons: what its neurons do, in the order of their indices.
        tokenizer: cuts the text: a transformers tokenizer, or the name of a model that has it.
        name: what tables call it.
    """

    n_layers = 1

    def __init__(
        self, neurons: Sequence[PlantedNeuron], tokenizer: Any = "smollm2-135m", name: str = "planted"
    ) -> None:
        self.neurons = tuple(neurons)
        self.tokenizer = load_tokenizer_of(tokenizer) if isinstance(tokenizer, str) else tokenizer
        self.name = name
        self.leading_ids = leading_ids(self.tokenizer)
        self._concepts = {meaning.concept.name: meaning.concept for each in neurons for meaning in each.meanings}
        self._known: OrderedDict[tuple[int, ...], Mapping[str, Floats]] = OrderedDict()

    def __repr__(self) -> str:
        return f"PlantedSubject({self.name!r}, {len(self.neurons)} neurons)"

    @cached_property
    def fingerprint(self) -> str:
        """Names all that decides what its neurons do on a text."""
        concepts = [each.model_dump() for _, each in sorted(self._concepts.items())]
        vocabulary = sorted(self.tokenizer.get_vocab().items())
        return name_of([[each.describe() for each in self.neurons], concepts, vocabulary, *self.leading_ids])

    def width(self, layer: int) -> int:
        """How many neurons it has.

        Raises:
            SubjectError: there is no such layer.
        """
        if layer != 0:
            raise SubjectError(f"{self.name} has one layer, 0; there is no layer {layer}.")
        return len(self.neurons)

    def planted(self, neuron: Neuron) -> PlantedNeuron:
        """What one of its neurons does."""
        self.width(neuron.layer)
        return self.neurons[neuron.index]

    def activations(self, token_ids: Sequence[Sequence[int]], layers: Sequence[int]) -> dict[int, list[Floats]]:
        """As `Subject.activations`; none is negative."""
        for layer in layers:
            self.width(layer)
        rows = [self._of_sequence([int(i) for i in ids]) for ids in token_ids]
        return dict.fromkeys(layers, rows)

    def of_meanings(self, neuron: Neuron, token_ids: Sequence[int]) -> Floats:
        """What each of a neuron's meanings does alone, without noise: shape `(meanings, tokens)`."""
        ids = [int(i) for i in token_ids]
        tokens = token_strings(self.tokenizer, ids)
        return _of_meanings(self.planted(neuron), tokens, _hashes(ids), self._where(ids, tokens))

    def _of_sequence(self, ids: list[int]) -> Floats:
        tokens, hashes = token_strings(self.tokenizer, ids), _hashes(ids)
        where = self._where(ids, tokens)
        values = np.zeros((len(ids), len(self.neurons)), dtype=np.float32)
        for index, neuron in enumerate(self.neurons):
            if any(meaning.concept.name in where for meaning in neuron.meanings):
                values[:, index] = _of_meanings(neuron, tokens, hashes, where).max(axis=0)
        noise = np.array([each.noise for each in self.neurons], dtype=np.float32)
        seeds = np.array([each.seed for each in self.neurons], dtype=np.uint64)
        return np.maximum(values + noise * _normal(_mixed(hashes[:, None] ^ _mixed(seeds))), 0)

    def _where(self, ids: list[int], tokens: Sequence[str]) -> Mapping[str, Floats]:
        """Of those concepts that hold anywhere in a sequence, the ground truth."""
        key = tuple(ids)
        if (known := self._known.get(key)) is None:
            found = {name: each.ground_truth(tokens, "") for name, each in self._concepts.items()}
            known = self._known[key] = {name: truth for name, truth in found.items() if (truth == 1).any()}
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return known


def _of_meanings(
    neuron: PlantedNeuron, tokens: Sequence[str], hashes: NDArray[np.uint64], where: Mapping[str, Floats]
) -> Floats:
    values = np.zeros((len(neuron.meanings), len(tokens)), dtype=np.float32)
    for number, meaning in enumerate(neuron.meanings):
        truth = where.get(meaning.concept.name)
        if truth is None:
            continue
        salt = np.uint64(neuron.seed * MOST_MEANINGS + number)
        hits = np.flatnonzero(truth == 1)
        hits = hits[_uniform(_mixed(hashes[hits] ^ _mixed(~salt))) < meaning.share]
        values[number, hits] = meaning.strength * _grades(meaning.grading, [tokens[int(at)] for at in hits], salt)
    return values


def _grades(grading: Grading, tokens: Sequence[str], salt: np.uint64) -> NDArray[np.float64]:
    """How strong each occurrence is, `WEAKEST` to 1."""
    match grading:
        case "even":
            return np.ones(len(tokens))
        case "token":
            codes = np.array([crc32(token.strip().casefold().encode()) for token in tokens], dtype=np.uint64)
            return WEAKEST + (1 - WEAKEST) * _uniform(_mixed(codes ^ _mixed(salt)))
        case "mention":
            faded: NDArray[np.float64] = np.maximum(FADING ** np.arange(len(tokens)), WEAKEST)
            return faded


def _hashes(ids: Sequence[int]) -> NDArray[np.uint64]:
    """A number for each token that all the tokens up to it decide."""
    places = np.arange(len(ids), dtype=np.uint64)
    return _mixed(np.cumsum(_mixed(np.array(ids, dtype=np.uint64) ^ _mixed(places)), dtype=np.uint64))


def _mixed(values: NDArray[np.uint64] | np.uint64) -> NDArray[np.uint64]:
    """Splitmix64: equal numbers stay equal, and near ones become far."""
    with np.errstate(over="ignore"):
        mixed = np.asarray(values, dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return cast("NDArray[np.uint64]", mixed ^ (mixed >> np.uint64(31)))


def _uniform(mixed: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Numbers between 0 and 1, ends excluded."""
    uniform: NDArray[np.float64] = ((mixed >> np.uint64(12)).astype(np.float64) + 0.5) / 2.0**52
    return uniform


def _normal(mixed: NDArray[np.uint64]) -> Floats:
    from scipy.special import ndtri

    normal: Floats = ndtri(_uniform(mixed)).astype(np.float32)
    return normal
