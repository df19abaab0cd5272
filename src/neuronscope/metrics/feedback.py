"""Where a neuron's explanations are right and wrong on feedback text, token by token: what refinement learns from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuronscope.metrics.correlation import pearson
from neuronscope.metrics.joint import LEAST_SEEN, fit_strengths, scaled
from neuronscope.metrics.scorer import Scorer
from neuronscope.types import SCALE, Exemplar, ExemplarIds, Neuron, normalise

MISSES, FALSE_ALARMS, HITS = 30, 30, 15
"""How many cases of each kind are found."""
LEAST_ERROR = 1.0
"""A smaller difference is no error."""
LEAST_HIT = 0.75
"""Of a hit both the prediction and the activation reach this."""
SAME_TOKEN = 3
"""Cases of one kind that have the same token, at most."""
CONTEXT_CHARACTERS = 64
"""How much of the text before a token is kept."""

_REST_OF_WORD = re.compile(r"\w{0,16}")

Floats = NDArray[np.floating[Any]]


class Case(NamedTuple):
    """One token, what was predicted on it, and what the neuron did; both 0-10."""

    before: str
    token: str
    after: str
    """The rest of the word."""
    predicted: float
    actual: float


@dataclass(frozen=True, slots=True)
class Feedback:
    """What one mode's explanation does on feedback text, together with those of the other modes."""

    correlation: float | None
    """Of the joint prediction with the activations; None where it cannot be measured."""
    strengths: tuple[float, ...]
    """Fitted on train: of the mode, and of the others in their order."""
    misses: tuple[Case, ...]
    """Where all modes together predict too little, the largest errors first."""
    false_alarms: tuple[Case, ...]
    """Where this mode predicts too much."""
    hits: tuple[Case, ...]
    """Where this mode predicts activation, and there is some."""


async def feedback_of(
    explanation: str, others: Sequence[str], neuron: Neuron, ids: ExemplarIds, scorer: Scorer
) -> Feedback | None:
    """Predict a mode's explanation and those of the other modes on feedback text; None where there is no such text.

    Where refinement has measured them, predictions are not made again.

    Args:
        explanation: the mode's.
        others: of the other modes that count with it; none where each mode stands alone.
        neuron: the neuron.
        ids: its sequences; strengths are fitted on train.
        scorer: predicts.

    Raises:
        NeuronScopeError: the simulator or the store failed.
    """
    sequences, texts = ids.of("feedback"), [explanation, *others]
    if not sequences:
        return None
    strengths = await strengths_of(texts, neuron, ids, scorer)
    rows = [scaled(one, strengths) for one in await scorer.predict(neuron, texts, sequences)]
    exemplars = await scorer.exemplars(neuron, sequences)
    actual = [normalise(exemplar.activations, ids.maximum) for exemplar in exemplars]
    together = np.concatenate([one.max(axis=0) for one in rows])
    own, truth = np.concatenate([one[0] for one in rows]), np.concatenate(actual)
    places = [(index, position) for index, one in enumerate(actual) for position in range(len(one))]
    is_own = own >= together
    cases = _Cases(exemplars, places, together, truth)
    return Feedback(
        correlation=pearson(together, truth).value,
        strengths=tuple(round(strength, 1) for strength in strengths),
        misses=cases.largest(truth - together, LEAST_ERROR, MISSES),
        false_alarms=cases.largest(np.where(is_own, together - truth, 0.0), LEAST_ERROR, FALSE_ALARMS),
        hits=cases.largest(np.where(is_own, np.minimum(together, truth), 0.0), LEAST_HIT, HITS),
    )


async def strengths_of(explanations: Sequence[str], neuron: Neuron, ids: ExemplarIds, scorer: Scorer) -> list[float]:
    """The strength of each mode's explanation together with the others, fitted on train text (see `metrics.joint`).

    An explanation that applies nowhere in that text keeps the simulator's own scale.

    Raises:
        NeuronScopeError: the simulator or the store failed.
    """
    sequences = ids.of("train")
    if not sequences or not explanations:
        return [SCALE] * len(explanations)
    predicted = await scorer.pooled(neuron, explanations, sequences)
    actual = await scorer.ground_truth(neuron, sequences)
    fitted = fit_strengths(predicted, normalise(actual, ids.maximum))
    seen = predicted.max(axis=1) >= LEAST_SEEN
    return [strength if is_seen else SCALE for strength, is_seen in zip(fitted, seen, strict=True)]


@dataclass(frozen=True, slots=True)
class _Cases:
    exemplars: Sequence[Exemplar]
    places: Sequence[tuple[int, int]]
    predicted: Floats
    actual: Floats

    def largest(self, size: Floats, least: float, n: int) -> tuple[Case, ...]:
        """The tokens with the largest `size`, no token's text and no left context too often."""
        order = np.argsort(-size, kind="stable")
        return tuple(_varied(map(self._case, (int(i) for i in order if size[i] >= least)), n))

    def _case(self, number: int) -> Case:
        index, position = self.places[number]
        tokens = self.exemplars[index].tokens
        following = "".join(tokens[position + 1 : position + 9])
        rest = _REST_OF_WORD.match(following) if tokens[position][-1:].isalnum() else None
        return Case(
            before="".join(tokens[:position])[-CONTEXT_CHARACTERS:],
            token=tokens[position],
            after=rest[0] if rest else "",
            predicted=round(float(self.predicted[number]), 1),
            actual=round(float(self.actual[number]), 1),
        )


def _varied(cases: Iterable[Case], n: int) -> Iterator[Case]:
    """The first n, but for more of a token than `SAME_TOKEN`, and for the same end of a context again."""
    counts: Counter[str] = Counter()
    contexts: set[tuple[str, str]] = set()
    for case in cases:
        if len(contexts) == n:
            return
        context = case.token, case.before[-16:]
        if counts[case.token] < SAME_TOKEN and context not in contexts:
            counts[case.token] += 1
            contexts.add(context)
            yield case
