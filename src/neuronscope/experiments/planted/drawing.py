"""Which concepts are planted together, and neurons that are drawn from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neuronscope.errors import ConfigurationError
from neuronscope.experiments.concepts import Concept, load_concepts
from neuronscope.experiments.planted.neurons import GRADINGS, MOST_MEANINGS, Meaning, PlantedNeuron
from neuronscope.types import Exemplar

LEAST_SHARE, LARGEST_SHARE = 0.005, 0.25
"""In which share of the sequences a concept occurs that is planted, from and up to: rarer ones have no evidence, and
one that is nearly everywhere leaves nothing for others."""
IMBALANCE = 5.0
"""How many times as frequent as another meaning of the same neuron one may be."""
OVERLAP = 0.1
"""Which share of its tokens, at most, a meaning has in common with another of the same neuron."""
STRENGTHS = (3.0, 10.0)
"""Of a drawn meaning, from and up to."""
LARGEST_NOISE = 0.5
"""Standard deviation of a drawn neuron's noise, at most."""
LEAST_KEPT = 0.7
"""The share of its occurrences on which a drawn meaning is active, at least."""


class ConceptText:
    """Where concepts hold in a text: which may be planted, and which together.

    Args:
        exemplars: the text; activations are not looked at.
        concepts: None is the package's. Those that only hold in one source are left out: a subject sees no source.
    """

    def __init__(self, exemplars: Sequence[Exemplar], concepts: Sequence[Concept] | None = None) -> None:
        given = load_concepts() if concepts is None else concepts
        ends = np.cumsum([0, *(len(each.tokens) for each in exemplars)])
        self.concepts: list[Concept] = []
        """Those that are frequent enough, and not too frequent."""
        self.shares: list[float] = []
        """In which share of the sequences each of them occurs."""
        self._hits: list[NDArray[np.int64]] = []
        for concept in given:
            if concept.source:
                continue
            places = [np.flatnonzero(concept.ground_truth(each.tokens, "") == 1) for each in exemplars]
            share = float(np.mean([len(each) > 0 for each in places])) if places else 0.0
            if LEAST_SHARE <= share <= LARGEST_SHARE:
                self.concepts.append(concept)
                self.shares.append(share)
                self._hits.append(np.concatenate([at + begin for at, begin in zip(places, ends, strict=False)]))

    def fits(self, number: int, others: Sequence[int]) -> bool:
        """Whether a concept, by its place in `concepts`, can share a neuron with others."""
        shares = [self.shares[each] for each in (number, *others)]
        if number in others or max(shares) > IMBALANCE * min(shares):
            return False
        return all(self._overlap(number, other) <= OVERLAP for other in others)

    def _overlap(self, one: int, other: int) -> float:
        first, second = self._hits[one], self._hits[other]
        return len(np.intersect1d(first, second, assume_unique=True)) / min(len(first), len(second))


def draw_planted(
    text: ConceptText, n: int, meanings: tuple[int, int] = (1, 5), seed: int = 0, held_out: bool | None = None
) -> list[PlantedNeuron]:
    """Draw neurons: the numbers of meanings in turn, all equally often.

    A neuron's concepts are all held out from what was tuned, or none is.

    Args:
        text: which concepts may be planted together.
        n: how many neurons.
        meanings: from and up to how many each has.
        seed: of everything that is drawn; the first neurons of a larger `n` are those of a smaller.
        held_out: only such concepts, or only others; None is both in turn.

    Raises:
        ConfigurationError: the text has too few concepts for so many meanings.
    """
    least, most = meanings
    if not 1 <= least <= most <= MOST_MEANINGS:
        raise ConfigurationError(f"Meanings are from 1 up to {MOST_MEANINGS}, not {least} to {most}.")
    numbers = range(least, most + 1)
    drawn = []
    for index in range(n):
        side = held_out if held_out is not None else index // len(numbers) % 2 == 0
        drawn.append(_draw(text, numbers[index % len(numbers)], np.random.default_rng([seed, index]), side))
    return drawn


def _draw(text: ConceptText, k: int, generator: np.random.Generator, held_out: bool) -> PlantedNeuron:
    allowed = [number for number, concept in enumerate(text.concepts) if concept.held_out == held_out]
    for _ in range(200):
        chosen: list[int] = []
        for number in generator.permutation(allowed).tolist():
            if len(chosen) < k and text.fits(number, chosen):
                chosen.append(number)
        if len(chosen) == k:
            break
    else:
        raise ConfigurationError(
            f"This text has {len(allowed)} concepts that can be planted, and no {k} of them together. Give more text, "
            "or ask for fewer meanings."
        )
    return PlantedNeuron(
        tuple(
            Meaning(
                text.concepts[number],
                round(float(generator.uniform(*STRENGTHS)), 2),
                GRADINGS[int(generator.integers(len(GRADINGS)))],
                round(float(generator.uniform(LEAST_KEPT, 1)), 2),
            )
            for number in chosen
        ),
        noise=round(float(generator.uniform(0, LARGEST_NOISE)), 2),
        seed=int(generator.integers(2**31)),
    )
