"""How fast this machine is, measured in seconds: the subject, the simulator, and one neuron from end to end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from neuronscope.errors import NeuronScopeError
from neuronscope.events import ProgressEvent
from neuronscope.interfaces import CountedSimulator
from neuronscope.llm.embeddings import aembed
from neuronscope.resources import Resources
from neuronscope.results import NeuronExplanation
from neuronscope.types import Neuron

EXPLANATIONS = tuple(
    f'This neuron activates on the word "{word}" and on words like it.' for word in "red two Paris".split()
)
"""What the simulator is tried on."""
WARM_UP = [f"This neuron activates on {word}." for word in ("rivers", "lakes", "dates", "years", "names", "towns")]
"""What embeddings and clustering are loaded with."""
SEQUENCES = 8
"""On so many sequences."""


class Speeds(NamedTuple):
    """Tokens a second."""

    subject: float | None
    """Through the subject, of one layer; None where there is none."""
    simulator: float | None
    """Pairs of an explanation and a token; None for one that asks a language model."""
    seq_len: float | None = None
    """Tokens of the sequences that they were measured on, in the mean."""


async def measure_speeds(resources: Resources, neuron: Neuron) -> Speeds:
    """Run the subject and the simulator on a few sequences, twice: the first time loads what they need.

    Raises:
        NeuronScopeError: the store, the subject or the simulator failed.
    """
    return await asyncio.to_thread(_measure, resources, neuron)


def _measure(resources: Resources, neuron: Neuron) -> Speeds:
    from neuronscope.metrics.scorer import without_activations

    drawn = resources.store.random_sequences(neuron, "validation", SEQUENCES)
    exemplars = [without_activations(exemplar) for exemplar in drawn]
    n_tokens = sum(len(exemplar.tokens) for exemplar in exemplars)
    if not n_tokens:
        return Speeds(None, None)
    subject = simulator = None
    if (model := resources.subject) is not None:
        for _ in range(2):
            began = time.perf_counter()
            model.activations([list(exemplar.token_ids) for exemplar in exemplars], [neuron.layer])
            subject = n_tokens / (time.perf_counter() - began)
    if not isinstance(resources.simulator, CountedSimulator):
        for number in range(2):
            explanations = [f"{text} ({number})" for text in EXPLANATIONS]  # others, so that nothing is remembered
            began = time.perf_counter()
            resources.simulator.simulate(explanations, exemplars)
            simulator = len(explanations) * n_tokens / (time.perf_counter() - began)
    return Speeds(subject, simulator, n_tokens / len(exemplars))


async def warm_up(resources: Resources) -> None:
    """Load what the first neuron would wait for, and the others would not."""
    from neuronscope.agents.clustering import cluster_atoms
    from neuronscope.graphs import build_neuron_graph
    from neuronscope.metrics.joint import fit_strengths

    await asyncio.to_thread(build_neuron_graph)
    try:
        vectors = await aembed(resources.embeddings, WARM_UP, "clustering")
        for few in (0, len(WARM_UP)):
            await asyncio.to_thread(cluster_atoms, WARM_UP, vectors, few_atoms=few)
    except NeuronScopeError:
        pass  # the run says what is wrong, where it needs them
    await asyncio.to_thread(fit_strengths, np.eye(2), np.ones(2))


class Timed(NamedTuple):
    """A neuron that was explained, and how long that took."""

    result: NeuronExplanation
    waited: float
    """Seconds in which a language model was waited for."""
    computed: float
    """All other seconds."""


class Stopwatch:
    """Takes a neuron's events, and adds up the time in nodes that wait for a language model.

    Args:
        waiting: the names of these nodes.
    """

    def __init__(self, waiting: Collection[str]) -> None:
        self._waiting = waiting
        self._under_way: set[tuple[str, str | None]] = set()
        self._since = self._began = time.perf_counter()
        self._waited = 0.0

    def __call__(self, event: ProgressEvent) -> None:
        """Take in one event."""
        now = time.perf_counter()
        if self._under_way:
            self._waited += now - self._since
        self._since = now
        if event.node in ("tools", "conclude") and event.phase == "started":
            self._under_way.clear()  # a node that raised an error has never finished
        if event.node in self._waiting:
            change = self._under_way.add if event.phase == "started" else self._under_way.discard
            change((event.node, event.mode))

    def read(self, result: NeuronExplanation) -> Timed:
        """The time so far, as that of a neuron which has just been finished."""
        return Timed(result, self._waited, max(0.0, time.perf_counter() - self._began - self._waited))


def waiting_nodes(resources: Resources, asking: Sequence[str]) -> set[str]:
    """The nodes of the graph that wait for a language model.

    Args:
        resources: of the run.
        asking: the agents that ask one.
    """
    nodes = {"hypothesis", "decomposition"} & set(asking)
    if "refinement" in asking:
        nodes |= {"propose", "probe"}
    return nodes | ({"tools", "reconcile", "conclude"} if isinstance(resources.simulator, CountedSimulator) else set())
