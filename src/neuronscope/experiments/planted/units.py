"""Planted neurons made of real ones: the sum or the maximum of two units that each have one clear meaning.

What such a neuron does is a model's own doing, with all that no sentence says of it; what is known is which of the two
units it comes from. It is a unit of a `Site` of its own, so that everything works on it as on any other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch

from neuronscope.baselines.token_lookup import LookupTable
from neuronscope.digests import name_of
from neuronscope.errors import ConfigurationError
from neuronscope.exemplars.store import ExemplarStore
from neuronscope.experiments.planted.meanings import EACH, HeldOut
from neuronscope.interfaces import Explainer, ModelSubject, Subject, Tap
from neuronscope.subject.sites import activations_at, site_named
from neuronscope.types import MLP, SCALE, Exemplar, Neuron

How = Literal["max", "sum"]

CANDIDATES = 300
"""Random units of a layer that are looked at."""
SHOWN = 100
"""Train exemplars from which it is said what a unit does."""
ENTRIES = 10
"""Tokens of the look-up table that has to be enough."""
CLEAR = 0.5
"""What this table has to score on validation text."""
ONE_WORD = 0.5
"""Share of the exemplars that have to peak on the same word."""
HELD_OUT = 20
"""Validation sequences of each kind, top and random, that the table is scored on."""
FOUND = 0.3
"""From this correlation with a unit's activations on a mode has found it: less than with a concept's ground truth
(`meanings.FOUND`), since no sentence says all of what a real unit does."""


@dataclass(frozen=True, slots=True)
class ClearUnit:
    """A unit with one clear meaning."""

    neuron: Neuron
    word: str
    """What most of its top exemplars peak on."""
    lookup: float
    """What a look-up table of ten tokens scores."""
    maximum: float
    """Its largest activation in the corpus."""


@dataclass(frozen=True, slots=True)
class UnitPair:
    """Two units of one layer, and how they make one: each on the scale 0-10 by its own maximum."""

    first: ClearUnit
    second: ClearUnit
    how: How = "max"

    @property
    def units(self) -> tuple[ClearUnit, ClearUnit]:
        """Both."""
        return self.first, self.second


def clear_units(
    store: ExemplarStore, layer: int, n: int, seed: int = 0, candidates: int = CANDIDATES
) -> list[ClearUnit]:
    """Find units with one clear meaning among random ones of a layer, for no other reason.

    A look-up table of ten tokens scores `CLEAR` on validation text, and half of the top train exemplars peak on the
    same word. Test text is not looked at.

    Args:
        store: exemplars of the layer's neurons, with the model or their activations.
        layer: the layer.
        n: as many at most.
        seed: of the draw.
        candidates: how many random units are looked at.
    """
    drawn = store.top_neurons(layer, candidates, by="random", seed=seed)
    shown = {each: store.top_ids(each, "train", SHOWN) for each in drawn}
    drawn = [each for each in drawn if len(shown[each]) == SHOWN]
    scored = {
        each: store.top_ids(each, "validation", HELD_OUT) + store.random_ids(each, "validation", HELD_OUT, seed)
        for each in drawn
    }
    store.prefetch({each: [*shown[each], *scored[each]] for each in drawn})
    maxima = store.max_activation(layer)
    found: list[ClearUnit] = []
    for neuron in drawn:
        train = store.by_id(neuron, shown[neuron])
        peaks = Counter(each.tokens[int(each.activations.argmax())].strip().casefold() for each in train)
        word, count = peaks.most_common(1)[0]
        score = LookupTable(train, ENTRIES).score(store.by_id(neuron, scored[neuron])) or 0.0
        if word and count >= ONE_WORD * len(train) and score >= CLEAR:
            found.append(ClearUnit(neuron, word, score, float(maxima[neuron.index])))
        if len(found) == n:
            break
    return found


def pair_units(units: Sequence[ClearUnit], n: int, seed: int = 0) -> list[UnitPair]:
    """Draw pairs of different words, by maximum and by sum in turn; no pair twice.

    Raises:
        ConfigurationError: there are not so many pairs.
    """
    pairs = [
        (first, second)
        for number, first in enumerate(units)
        for second in units[number + 1 :]
        if first.word != second.word and first.neuron.hook_point == second.neuron.hook_point
    ]
    if len(pairs) < n:
        raise ConfigurationError(
            f"{len(units)} units with one clear meaning make {len(pairs)} pairs, not {n}. Look at more candidates, or "
            "at other layers."
        )
    order = np.random.default_rng(seed).permutation(len(pairs))[:n]
    hows: tuple[How, How] = ("max", "sum")
    return [UnitPair(first, second, hows[place % 2]) for place, (first, second) in enumerate(pairs[i] for i in order)]


class PairSite:
    """The site whose units are pairs; its name says which.

    Args:
        pairs: of any layers; a pair's index is its place among those of its layer.
    """

    signed = False

    def __init__(self, pairs: Sequence[UnitPair]) -> None:
        self.pairs = tuple(pairs)
        made_of = [[[str(unit.neuron), unit.maximum] for unit in each.units] + [[each.how]] for each in pairs]
        self.fingerprint = name_of(made_of)
        self.name = f"pairs-{self.fingerprint[:8]}"

    def of_layer(self, layer: int) -> list[UnitPair]:
        """A layer's, in the order of their indices."""
        return [each for each in self.pairs if each.first.neuron.layer == layer]

    @property
    def neurons(self) -> list[Neuron]:
        """All of them."""
        layers = sorted({each.first.neuron.layer for each in self.pairs})
        return [Neuron(layer, index, 1, self.name) for layer in layers for index in range(len(self.of_layer(layer)))]

    def pair(self, neuron: Neuron) -> UnitPair:
        """What one of them is made of."""
        return self.of_layer(neuron.layer)[neuron.index]

    def taps(self, subject: ModelSubject, layer: int) -> Sequence[Tap]:
        """Those of the MLP's neurons."""
        return site_named(MLP).taps(subject, layer)

    def width(self, subject: ModelSubject, layer: int) -> int:
        """How many pairs a layer has."""
        return len(self.of_layer(layer))

    def read(self, tensors: Sequence[torch.Tensor], layer: int) -> torch.Tensor:
        """Each pair's maximum or sum."""
        values = cast(torch.Tensor, site_named(MLP).read(tensors, layer)).float()
        columns = []
        for pair in self.of_layer(layer):
            first, second = (
                (values[:, unit.neuron.index] * unit.neuron.sign).clamp(min=0) * (SCALE / unit.maximum)
                for unit in pair.units
            )
            columns.append(torch.maximum(first, second) if pair.how == "max" else first + second)
        return torch.stack(columns, dim=1) if columns else values[:, :0]


@dataclass(frozen=True)
class UnitWorld:
    """Pairs of real units, their exemplars, and those of the units."""

    subject: Subject
    store: ExemplarStore
    """Of the pairs."""
    site: PairSite
    units: ExemplarStore
    """Of the units."""

    @property
    def neurons(self) -> list[Neuron]:
        """The pairs."""
        return self.site.neurons

    @property
    def known(self) -> list[Explainer]:
        """Nothing that could be said of a real unit is known to be true."""
        return []

    def number(self, neuron: Neuron) -> int:
        """Two."""
        return 2

    def nothing_tuned_on(self, neuron: Neuron) -> None:
        """Pairs are made of no concepts."""

    def describe(self) -> list[dict[str, object]]:
        """What each pair is made of, as plain data."""
        return [
            {
                "neuron": str(neuron),
                "how": pair.how,
                "units": [str(each.neuron) for each in pair.units],
                "words": [each.word for each in pair.units],
            }
            for neuron in self.neurons
            for pair in [self.site.pair(neuron)]
        ]

    def held_out(self, neuron: Neuron, seed: int) -> HeldOut:
        """Both units' top test sequences and random ones, with what each unit does in them."""
        pair = self.site.pair(neuron)
        ids = [number for unit in pair.units for number in self.units.top_ids(unit.neuron, "test", EACH)]
        ids += self.units.random_ids(pair.first.neuron, "test", 2 * EACH, seed)
        ids = list(dict.fromkeys(ids))
        parts = [
            [each.activations * (SCALE / unit.maximum) for each in self.units.by_id(unit.neuron, ids)]
            for unit in pair.units
        ]
        truth = [np.stack(rows) for rows in zip(*parts, strict=True)]
        texts = self.units.by_id(pair.first.neuron, ids)
        own = activations_at(self.subject, [each.token_ids for each in texts], [neuron.layer], neuron.site)
        exemplars = [
            Exemplar(each.tokens, each.token_ids, row[:, neuron.index], each.sequence_id, each.source)
            for each, row in zip(texts, own[neuron.layer], strict=True)
        ]
        return HeldOut(exemplars, truth, [_dominant(each.max(axis=1)) for each in truth], FOUND)


def _dominant(peaks: np.ndarray[tuple[int], np.dtype[np.floating]]) -> int:
    """The larger one, if it is more than background: a tenth of its unit's largest activation."""
    return int(peaks.argmax()) if peaks.max() >= SCALE / 10 else -1
