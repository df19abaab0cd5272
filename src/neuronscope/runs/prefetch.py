"""The activations that neurons will need, computed together before they are needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from neuronscope.graphs.observe import ListsIds, draw_exemplars
from neuronscope.state import Instruments
from neuronscope.types import Neuron

GROUP = 256
"""Neurons whose activations are computed together; those of the next group, while the agents work on this one."""


@runtime_checkable
class Prefetches(ListsIds, Protocol):
    """A source that computes activations of many neurons in common forward passes, as an `ExemplarStore` does."""

    def prefetch(self, wanted: Mapping[Neuron, Iterable[int]]) -> None:
        """Compute the activations of these sequences."""


def groups(neurons: Sequence[Neuron], first: int) -> Iterator[Sequence[Neuron]]:
    """The neurons in order: first a few, so that work begins soon, then `GROUP` at a time."""
    start, size = 0, first
    while start < len(neurons):
        yield neurons[start : start + size]
        start, size = start + size, GROUP


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
