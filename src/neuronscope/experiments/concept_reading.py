"""How well a simulator reads sentences about concepts whose tokens in real text are known exactly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neuronscope.experiments.concepts import WORDINGS, Concept, Wording
from neuronscope.metrics import pearson_rows
from neuronscope.types import Exemplar

if TYPE_CHECKING:
    from neuronscope.interfaces import Simulator

EACH = 15
"""Sequences with a concept, and as many without."""
FEWEST = 3
"""With fewer sequences that have it a concept is left out."""


@dataclass(frozen=True, slots=True, eq=False)
class ConceptSample:
    """A concept with the sequences that it is measured on."""

    concept: Concept
    exemplars: list[Exemplar]
    """Those with the concept first; without activations."""
    ground_truth: list[NDArray[np.float32]]
    """For each its tokens: 1, 0, or NaN for one that is left out."""


@dataclass(frozen=True, slots=True)
class ConceptScore:
    """How well a simulator reads one concept in one wording."""

    concept: str
    kind: str
    held_out: bool
    wording: Wording
    score: float
    """Correlation of prediction and truth over all tokens that count, mean over the sentences."""
    each: tuple[float, ...]
    """One for each sentence."""


def sample_concepts(
    concepts: Iterable[Concept], exemplars: Sequence[Exemplar], seed: int, each: int = EACH
) -> Iterator[ConceptSample]:
    """Draw sequences with each concept, and as many without it; a concept that too few have is left out."""
    for concept in concepts:
        order = np.random.default_rng([seed, *concept.name.encode()]).permutation(len(exemplars))
        having: list[tuple[Exemplar, NDArray[np.float32]]] = []
        lacking: list[tuple[Exemplar, NDArray[np.float32]]] = []
        for number in order:
            exemplar = exemplars[number]
            truth = concept.ground_truth(exemplar.tokens, exemplar.source)
            if (truth == 1).any():
                having.append((exemplar, truth))
            elif (truth == 0).all():
                lacking.append((exemplar, truth))
            if min(len(having), len(lacking)) >= each:
                break
        if len(having) >= min(FEWEST, each):
            chosen = having[:each] + lacking[:each]
            yield ConceptSample(concept, [exemplar for exemplar, _ in chosen], [truth for _, truth in chosen])


def read_concepts(simulator: Simulator, samples: Iterable[ConceptSample]) -> Iterator[ConceptScore]:
    """Measure each concept in each wording that it has, in one call a concept."""
    for one in samples:
        wordings = [(wording, sentence) for wording in WORDINGS for sentence in one.concept.sentences(wording)]
        predictions = simulator.simulate([sentence for _, sentence in wordings], one.exemplars)
        truth = np.concatenate(one.ground_truth)
        counts = np.isfinite(truth)
        found = pearson_rows(np.concatenate(predictions, axis=1)[:, counts], truth[counts])
        for wording in WORDINGS:
            scores = [score.value or 0.0 for score, (of, _) in zip(found, wordings, strict=True) if of == wording]
            if scores:
                concept = one.concept
                mean = float(np.mean(scores))
                yield ConceptScore(concept.name, concept.kind, concept.held_out, wording, mean, tuple(scores))
