"""The activations that neurons will need, computed together before they are needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from neuronscope.graphs.observe import ListsIds, draw_exemplars
from neuronscope.interfaces import ExemplarSource
from neuronscope.state import Instruments
from neuronscope.types import Neuron

GROUP, WHOLE_LAYER = 256, 2048
"""Neurons whose activations are computed together, those of the next group while the agents work on this one; and as
many where the text is so short that they use all of it: then every group is a pass over the corpus."""
PER_NEURON = 600
"""Sequences that one neuron asks for, about."""
SHORT = 32_768
"""Sequences of such a text, at most: two million tokens."""


@runtime_checkable
class Prefetches(ListsIds, Protocol):
    """A source that computes activations of many neurons in common forward passes, as an `ExemplarStore` does."""

    def prefetch(self, wanted: Mapping[Neuron, Iterable[int]]) -> None:
        """Compute the activations of these sequences."""


def group_sizes(store: ExemplarSource, parallel: int) -> tuple[int, int]:
    """How many neurons' activations are computed together first, and then.

    First come as many as are under way at once, so that work begins soon; unless they use all of the text already.
    """
    info = getattr(store, "info", {})
    n_sequences = sum(info["n_sequences"].values()) if "n_sequences" in info else SHORT + 1
    then = WHOLE_LAYER if n_sequences <= SHORT else GROUP
    return (then if n_sequences <= parallel * PER_NEURON else min(parallel, GROUP)), then


def groups(neurons: Sequence[Neuron], first: int, then: int) -> Iterator[Sequence[Neuron]]:
    """The neurons in order: first a few, so that work begins soon, then more at a time."""
    start, size = 0, first
    while start < len(neurons):
        yield neurons[start : start + size]
        start, size = start + size, then


def prefetch(neurons: Sequence[Neuron], instruments: Instruments) -> None:
    """Have a store compute what the graph will ask of it; other sources are left alone.

    Raises:
        NeuronScopeError: the store cannot compute it.
    """
    store = instruments.store
    if isinstance(store, Prefetches):
        store.prefetch({neuron: _sequences(neuron, store, instruments) for neuron in neurons})


def _sequences(neuron: Neuron, store: Prefetches, instruments: Instruments) -> list[int]:
    config = instruments.config
    found = draw_exemplars(instruments.store, neuron, config).all_ids()
    if "offline" in (instruments.llm_for("hypothesis"), instruments.llm_for("refinement")):
        from neuronscope.offline.agents import RANDOM_EXEMPLARS, TOP_EXEMPLARS

        found += store.top_ids(neuron, "train", TOP_EXEMPLARS)
        found += store.random_ids(neuron, "train", RANDOM_EXEMPLARS, config.seed)
    return found
