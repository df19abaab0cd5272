"""Planted neurons with their exemplars: of concepts, or of pairs of real units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import neuronscope as ns
from neuronscope.experiments.planted.drawing import ConceptText, draw_planted
from neuronscope.experiments.planted.known import ExactTruth, OwnSentences, draw_held_out
from neuronscope.experiments.planted.neurons import PlantedSubject
from neuronscope.experiments.planted.units import PairSite, UnitWorld, clear_units, pair_units
from neuronscope.experiments.texts import load_tokenizer_of, read_split
from neuronscope.interfaces import ExemplarSource, Explainer, Subject

if TYPE_CHECKING:
    from neuronscope.exemplars.store import ExemplarStore
    from neuronscope.experiments.planted.meanings import HeldOut
    from neuronscope.types import Exemplar

TOKENS_OF = "smollm2-135m"


class World(Protocol):
    """Planted neurons, and what is known of them."""

    @property
    def subject(self) -> Subject:
        """Whose they are."""

    @property
    def store(self) -> ExemplarSource:
        """Their exemplars."""

    @property
    def neurons(self) -> list[ns.Neuron]:
        """The neurons."""

    @property
    def known(self) -> list[Explainer]:
        """What is known of them, as methods to compare with."""

    def number(self, neuron: ns.Neuron) -> int:
        """How many meanings one has."""

    def nothing_tuned_on(self, neuron: ns.Neuron) -> bool | None:
        """Whether nothing was tuned on the concepts that it is made of; None if it is made of none."""

    def held_out(self, neuron: ns.Neuron, seed: int) -> HeldOut:
        """Sequences of the test split, and where its meanings are in them."""

    def describe(self) -> list[dict[str, object]]:
        """What each is made of, as plain data."""


@dataclass(frozen=True)
class ConceptWorld:
    """Neurons with planted concepts, their exemplars, and text of the test split."""

    subject: PlantedSubject
    store: ExemplarStore
    text: list[Exemplar]

    @property
    def neurons(self) -> list[ns.Neuron]:
        """The neurons."""
        return [ns.Neuron(0, index) for index in range(len(self.subject.neurons))]

    @property
    def known(self) -> list[Explainer]:
        """Their concepts' own sentences, and where these hold."""
        return [OwnSentences(self.subject), ExactTruth(self.subject)]

    def number(self, neuron: ns.Neuron) -> int:
        """How many meanings one has."""
        return len(self.subject.planted(neuron).meanings)

    def nothing_tuned_on(self, neuron: ns.Neuron) -> bool:
        """Whether nothing was tuned on its concepts."""
        return self.subject.planted(neuron).held_out

    def held_out(self, neuron: ns.Neuron, seed: int) -> HeldOut:
        """Test sequences with each meaning, and others with none."""
        return draw_held_out(self.subject, neuron, self.text, seed)

    def describe(self) -> list[dict[str, object]]:
        """Everything that each is made of."""
        return [each.describe() for each in self.subject.neurons]


def plant(
    n: int,
    meanings: tuple[int, int] = (1, 5),
    *,
    held_out: bool | None = None,
    tokens_of: str = TOKENS_OF,
    corpus: Any = "builtin",
    config: ns.ExplainConfig | None = None,
    cache_dir: Path | None = None,
) -> ConceptWorld:
    """Draw neurons, and collect their exemplars.

    Args:
        n: how many.
        meanings: from and up to how many each has.
        held_out: as for `draw_planted`.
        tokens_of: the model whose tokens the text has.
        corpus: the text.
        config: the seed, and how much text.
        cache_dir: where stores are kept.
    """
    from neuronscope.exemplars.sampling import at_least

    config = config or ns.ExplainConfig()
    tokenizer = load_tokenizer_of(tokens_of)
    text = read_split(tokenizer, corpus, "test", config.seq_len)
    subject = PlantedSubject(draw_planted(ConceptText(text), n, meanings, config.seed, held_out), tokenizer)
    store = ns.collect_exemplars(
        subject,
        corpus,
        [0],
        seq_len=config.seq_len,
        top_k=at_least(config.n_train_exemplars, config.heldout_top),
        n_tokens=config.n_tokens,
        signs=(1,),
        cache_dir=cache_dir,
        keep_activations=True,
    )
    return ConceptWorld(subject, store, text)


def plant_pairs(
    n: int,
    layers: Sequence[int],
    *,
    subject: str = TOKENS_OF,
    corpus: Any = "builtin",
    config: ns.ExplainConfig | None = None,
    cache_dir: Path | None = None,
) -> UnitWorld:
    """Make neurons of two real units each, and collect their exemplars.

    Args:
        n: how many, divided evenly among the layers.
        layers: whose units.
        subject: the model.
        corpus: the text.
        config: the seed, and how much text.
        cache_dir: where stores are kept.
    """
    config = config or ns.ExplainConfig()
    loaded = ns.load_subject(subject)
    settings: dict[str, Any] = {"seq_len": config.seq_len, "n_tokens": config.n_tokens, "cache_dir": cache_dir}
    units = ns.collect_exemplars(loaded, corpus, layers, **settings)
    pairs = [
        pair
        for place, layer in enumerate(layers)
        if (share := n // len(layers) + (place < n % len(layers)))
        for pair in pair_units(clear_units(units, layer, 2 * share, config.seed), share, config.seed)
    ]
    site = PairSite(pairs)
    own = sorted({neuron.layer for neuron in site.neurons})
    store = ns.collect_exemplars(loaded, corpus, own, site=site, keep_activations=True, **settings)
    return UnitWorld(loaded, store, site, units)
