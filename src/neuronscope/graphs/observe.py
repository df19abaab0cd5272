"""The first node: which sequences are used for what."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Protocol, runtime_checkable

from langgraph.runtime import Runtime

from neuronscope.config import ExplainConfig
from neuronscope.exemplars.sampling import split_seed, strata_of_test
from neuronscope.interfaces import ExemplarSource
from neuronscope.results import Failure
from neuronscope.state import Instruments, NeuronState
from neuronscope.types import ExemplarIds, Neuron, Split

NO_TRAIN_EXEMPLAR = (
    "The neuron is active in held-out text but in none of the train documents, so there is no hypothesis. "
    "Collect exemplars from more tokens."
)


RANKED = 400
"""Sequences below the top that others are taken from."""


@runtime_checkable
class ListsIds(Protocol):
    """A source that can name sequences before anything is computed on them, as an `ExemplarStore` can."""

    def top_ids(self, neuron: Neuron, split: str, n: int) -> list[int]:
        """Ids of the neuron's top sequences of a split, strongest first."""

    def random_ids(self, neuron: Neuron, split: str, n: int, seed: int) -> list[int]:
        """Ids of sequences drawn without regard to activation."""


async def observe(state: NeuronState, runtime: Runtime[Instruments]) -> NeuronState:
    """Draw the neuron's exemplars of every split, and have their activations computed together.

    A top sequence without any activation is left out.
    """
    neuron, store, config = state["neuron"], runtime.context.store, runtime.context.config
    drawn = await asyncio.to_thread(draw_exemplars, store, neuron, config)
    top = [*drawn.train, *drawn.feedback, *drawn.validation, *drawn.test]
    exemplars = await runtime.context.scorer.exemplars(neuron, drawn.all_ids())
    peaks = {exemplar.sequence_id: float(exemplar.activations.max(initial=0.0)) for exemplar in exemplars}
    ids = replace(
        drawn,
        train=[number for number in drawn.train if peaks[number] > 0],
        feedback=[number for number in drawn.feedback if peaks[number] > 0],
        validation=[number for number in drawn.validation if peaks[number] > 0],
        test=[number for number in drawn.test if peaks[number] > 0],
        maximum=max((peaks[number] for number in top), default=0.0),
    )
    if ids.maximum > 0 and not ids.train:
        return {"exemplars": ids, "failures": [Failure("observe", NO_TRAIN_EXEMPLAR)]}
    return {"exemplars": ids}


def draw_exemplars(store: ExemplarSource, neuron: Neuron, config: ExplainConfig) -> ExemplarIds:
    """Ask the store which sequences to use: the top ones of each split, and random ones to compare with.

    The random ones are drawn with a seed made from `config.seed` and the split; none of them is a top one. Where the
    neuron is active in train and in test text, the whole test split is sampled too, for the corpus score.
    """
    train = _top(store, neuron, "train", config.n_train_exemplars)
    feedback = _top(store, neuron, "feedback", config.heldout_top)
    validation = _top(store, neuron, "validation", config.heldout_top)
    test = _top(store, neuron, "test", config.heldout_top)
    others = _spread(store, neuron, "validation", config, validation) if config.objective == "joint" else []
    return ExemplarIds(
        train=train,
        train_others=_others(store, neuron, config, train),
        feedback=feedback,
        feedback_random=_random(store, neuron, "feedback", config, feedback),
        validation=validation,
        validation_random=_random(store, neuron, "validation", config, validation),
        validation_others=others,
        test=test,
        test_random=_random(store, neuron, "test", config, test),
        test_strata=strata_of_test(store, neuron, config) if train and test else [],
    )


def _others(store: ExemplarSource, neuron: Neuron, config: ExplainConfig, top: list[int]) -> list[int]:
    """Train sequences of all ranks below the top, and random ones: a dominant meaning may have the top for itself."""
    spread = _spread(store, neuron, "train", config, top)
    return [*spread, *(one for one in _random(store, neuron, "train", config, top) if one not in spread)]


def _spread(store: ExemplarSource, neuron: Neuron, split: Split, config: ExplainConfig, top: list[int]) -> list[int]:
    """Sequences of all ranks below the top."""
    ranked = _top(store, neuron, split, RANKED)[len(top) :]
    return ranked[:: max(1, len(ranked) // config.heldout_top)][: config.heldout_top]


def _top(store: ExemplarSource, neuron: Neuron, split: Split, n: int) -> list[int]:
    if isinstance(store, ListsIds):
        return store.top_ids(neuron, split, n)
    return [exemplar.sequence_id for exemplar in store.exemplars(neuron, split, n)]


def _random(store: ExemplarSource, neuron: Neuron, split: Split, config: ExplainConfig, top: list[int]) -> list[int]:
    n, seed = config.heldout_random, split_seed(config.seed, split)
    if isinstance(store, ListsIds):
        drawn = store.random_ids(neuron, split, n, seed)
    else:
        drawn = [exemplar.sequence_id for exemplar in store.random_sequences(neuron, split, n, seed)]
    return [number for number in drawn if number not in top]
