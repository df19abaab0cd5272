"""The one place where scoring requests meet: explanations × exemplars → predictions, batched and cached."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuronscope.errors import NeuronScopeError, SimulatorError
from neuronscope.interfaces import BatchSimulator, ExemplarSource, Simulator
from neuronscope.metrics.correlation import Correlation, assign_exemplars, pearson_rows
from neuronscope.types import SCALE, Exemplar, Neuron

Predictions = list[NDArray[np.float32]]
_SimulatorRequest = tuple[Sequence[str], Sequence[Exemplar]]


@dataclass(slots=True, eq=False)
class _NeuronCache:
    """What is known about one neuron while it is being explained."""

    exemplars: dict[int, Exemplar] = field(default_factory=dict)
    predictions: dict[tuple[str, int], NDArray[np.float32]] = field(default_factory=dict)
    pooled: dict[tuple[str, tuple[int, ...]], NDArray[np.float32]] = field(default_factory=dict)
    notes: dict[str, object] = field(default_factory=dict)
    simulated_tokens: int = 0
    started: float = field(default_factory=time.perf_counter)


@dataclass(slots=True, eq=False)
class _Request:
    """One caller's request: these explanations on these sequences."""

    cache: _NeuronCache
    explanations: tuple[str, ...]
    sequence_ids: tuple[int, ...]
    done: asyncio.Future[None]


class _Call(NamedTuple):
    """What the simulator is asked about one neuron."""

    cache: _NeuronCache
    explanations: list[str]
    sequence_ids: list[int]

    def request(self) -> _SimulatorRequest:
        """The arguments of `simulate`, without the activations."""
        return self.explanations, [
            without_activations(self.cache.exemplars[sequence_id]) for sequence_id in self.sequence_ids
        ]

    def store(self, predicted: Predictions) -> None:
        """Put the predictions into the neuron's cache."""
        for sequence_id, array in zip(self.sequence_ids, predicted, strict=True):
            self.cache.simulated_tokens += array.size
            self.cache.predictions.update(
                ((text, sequence_id), row) for text, row in zip(self.explanations, array, strict=True)
            )


class Scorer:
    """Predicts and scores explanations with one simulator, for any number of concurrent callers.

    Requests that arrive in the same turn of the event loop, or while the simulator is busy, are merged: every pair
    of explanation and sequence is predicted once, and sequences that need the same explanations go to the simulator
    in one call; a `BatchSimulator` gets the requests of all neurons in one call. The simulator runs in a worker thread,
    one call at a time, and never sees an activation.

    What is known of a neuron is cached until `forget`, which the graph calls when the neuron is done: with
    eight modes, five iterations and default sets some 5 MB.
    """

    def __init__(self, simulator: Simulator, store: ExemplarSource) -> None:
        self._simulator = simulator
        self._is_batched = isinstance(simulator, BatchSimulator)
        self._store = store
        self._caches: dict[Neuron, _NeuronCache] = {}
        self._waiting: list[_Request] = []
        self._worker: asyncio.Task[None] | None = None

    async def exemplars(self, neuron: Neuron, sequence_ids: Sequence[int]) -> list[Exemplar]:
        """The exemplars of these sequences, asked of the store once.

        Raises:
            NeuronScopeError: the store cannot give them.
        """
        known = self._cache_of(neuron).exemplars
        missing = [sequence_id for sequence_id in dict.fromkeys(sequence_ids) if sequence_id not in known]
        if missing:
            found = await asyncio.to_thread(self._store.by_id, neuron, missing)
            known.update(zip(missing, found, strict=True))
        return [known[sequence_id] for sequence_id in sequence_ids]

    async def predict(self, neuron: Neuron, explanations: Sequence[str], sequence_ids: Sequence[int]) -> Predictions:
        """Predict every explanation on every sequence, on the scale 0-10.

        Returns:
            One `(explanations, tokens)` array per sequence.

        Raises:
            SimulatorError: the simulator failed, or returned something other than such arrays of finite numbers.
        """
        cache = self._cache_of(neuron)
        await self.exemplars(neuron, sequence_ids)
        known = cache.predictions
        if any((text, sequence_id) not in known for text in explanations for sequence_id in sequence_ids):
            done = asyncio.get_running_loop().create_future()
            self._waiting.append(_Request(cache, tuple(explanations), tuple(sequence_ids), done))
            if self._worker is None or self._worker.done():
                self._worker = asyncio.create_task(self._serve())
            await done
        return [np.array([known[text, sequence_id] for text in explanations]) for sequence_id in sequence_ids]

    async def pooled(
        self, neuron: Neuron, explanations: Sequence[str], sequence_ids: Sequence[int]
    ) -> NDArray[np.float32]:
        """The same over all tokens of all sequences, one at least: shape `(explanations, tokens)`.

        Raises:
            SimulatorError: as for `predict`.
        """
        known, key = self._cache_of(neuron).pooled, tuple(sequence_ids)
        missing = [text for text in dict.fromkeys(explanations) if (text, key) not in known]
        if missing:
            rows = np.concatenate(await self.predict(neuron, missing, sequence_ids), axis=1)
            known.update(((text, key), row) for text, row in zip(missing, rows, strict=True))
        return np.stack([known[text, key] for text in explanations])

    async def score(
        self, neuron: Neuron, explanations: Sequence[str], sequence_ids: Sequence[int]
    ) -> list[Correlation]:
        """Score every explanation on these sequences: Pearson's r over their pooled tokens.

        Without a sequence there is nothing to correlate, and no score.
        """
        if not sequence_ids or not explanations:
            return [Correlation(None, constant=True)] * len(explanations)
        predicted = await self.pooled(neuron, explanations, sequence_ids)
        return pearson_rows(predicted, await self.ground_truth(neuron, sequence_ids))

    async def ground_truth(self, neuron: Neuron, sequence_ids: Sequence[int]) -> NDArray[np.float32]:
        """The neuron's activations on these sequences, pooled: shape `(tokens,)`."""
        return np.concatenate([exemplar.activations for exemplar in await self.exemplars(neuron, sequence_ids)])

    async def assign(
        self, neuron: Neuron, explanations: Sequence[str], sequence_ids: Sequence[int]
    ) -> NDArray[np.bool_]:
        """Which explanation fits each sequence best: shape `(explanations, sequences)` (see `assign_exemplars`)."""
        predictions = await self.predict(neuron, explanations, sequence_ids)
        exemplars = await self.exemplars(neuron, sequence_ids)
        return assign_exemplars(predictions, [exemplar.activations for exemplar in exemplars])

    def notes(self, neuron: Neuron) -> dict[str, object]:
        """What agents keep of this neuron until `forget`, each under a name that says what it depends on."""
        return self._cache_of(neuron).notes

    def simulated_tokens(self, neuron: Neuron) -> int:
        """Explanation-token pairs that the simulator has predicted for this neuron."""
        return self._cache_of(neuron).simulated_tokens

    def seconds(self, neuron: Neuron) -> float:
        """Seconds since this neuron was first asked about."""
        return time.perf_counter() - self._cache_of(neuron).started

    def forget(self, neuron: Neuron) -> None:
        """Drop everything that is cached of a neuron."""
        self._caches.pop(neuron, None)

    def _cache_of(self, neuron: Neuron) -> _NeuronCache:
        if neuron not in self._caches:
            self._caches[neuron] = _NeuronCache()
        return self._caches[neuron]

    async def _serve(self) -> None:
        """Serve requests until none waits: whatever arrives during one round is merged into the next."""
        while True:
            await asyncio.sleep(0)
            batch = [request for request in self._waiting if not request.done.cancelled()]
            self._waiting = []
            if not batch:
                return
            for group in [batch] if self._is_batched else _by_neuron(batch):
                await self._answer(group)

    async def _answer(self, requests: list[_Request]) -> None:
        """Answer requests together; if that fails, by neuron, and then one by one, so only the culprit fails."""
        try:
            await self._simulate(requests)
        except Exception as error:  # noqa: BLE001
            # Nothing is swallowed: whatever it is, it is raised again where the answer is awaited.
            neurons = _by_neuron(requests)
            if len(requests) > 1:
                for part in neurons if len(neurons) > 1 else [[request] for request in requests]:
                    await self._answer(part)
            elif not requests[0].done.done():
                requests[0].done.set_exception(error)
            return
        for request in requests:
            if not request.done.done():
                request.done.set_result(None)

    async def _simulate(self, requests: list[_Request]) -> None:
        """Predict every pair that is not known yet, in as few calls as need no superfluous pair."""
        calls = [
            _Call(group[0].cache, explanations, sequence_ids)
            for group in _by_neuron(requests)
            for explanations, sequence_ids in _calls(group, group[0].cache.predictions.keys())
        ]
        together = self._is_batched and calls
        for group in [calls] if together else [[call] for call in calls]:
            predicted = await asyncio.to_thread(_checked_calls, self._simulator, [call.request() for call in group])
            for call, arrays in zip(group, predicted, strict=True):
                call.store(arrays)


def _by_neuron(requests: Iterable[_Request]) -> list[list[_Request]]:
    groups: dict[int, list[_Request]] = {}
    for request in requests:
        groups.setdefault(id(request.cache), []).append(request)
    return list(groups.values())


def _calls(requests: Iterable[_Request], known: Any) -> list[tuple[list[str], list[int]]]:
    """Group the pairs that are missing by the explanations that a sequence needs."""
    needed: dict[int, dict[str, None]] = {}
    for request in requests:
        for sequence_id in request.sequence_ids:
            missing = (text for text in request.explanations if (text, sequence_id) not in known)
            needed.setdefault(sequence_id, {}).update(dict.fromkeys(missing))
    groups: dict[tuple[str, ...], list[int]] = {}
    for sequence_id, explanations in needed.items():
        if explanations:
            groups.setdefault(tuple(explanations), []).append(sequence_id)
    return [(list(explanations), sequence_ids) for explanations, sequence_ids in groups.items()]


def without_activations(exemplar: Exemplar) -> Exemplar:
    """The same text without the neuron's activations."""
    return replace(exemplar, activations=np.zeros(len(exemplar.tokens), dtype=np.float32))


def _checked_calls(simulator: Simulator, requests: Sequence[_SimulatorRequest]) -> list[Predictions]:
    """Call the simulator, once if it takes several neurons at a time, and check what it returns.

    What breaks on the machine's side (memory, device, connection: RuntimeError and OSError) becomes an error of ours
    that a run survives; any other exception is a bug in the simulator, and surfaces as it is.
    """
    name = type(simulator).__name__
    try:
        if isinstance(simulator, BatchSimulator):
            returned = simulator.simulate_many(requests)
        else:
            returned = [simulator.simulate(explanations, exemplars) for explanations, exemplars in requests]
    except NeuronScopeError:
        raise
    except (RuntimeError, OSError, MemoryError) as error:
        raise SimulatorError(f"The simulator {name} failed: {error or type(error).__name__}") from error
    if len(returned) != len(requests):
        raise SimulatorError(f"The simulator {name} answered {len(requests)} requests with {len(returned)} lists.")
    return [_checked_answer(name, request, arrays) for request, arrays in zip(requests, returned, strict=True)]


def _checked_answer(name: str, request: _SimulatorRequest, returned: Sequence[Any]) -> Predictions:
    explanations, exemplars = request
    if len(returned) != len(exemplars):
        raise SimulatorError(
            f"The simulator {name} answered {len(exemplars)} exemplars with {len(returned)} arrays; it must return one "
            "array per exemplar."
        )
    found = [
        _shaped(name, array, (len(explanations), len(exemplar.tokens)))
        for array, exemplar in zip(returned, exemplars, strict=True)
    ]
    if not found:
        return []
    pooled = np.concatenate(found, axis=1)
    if not np.isfinite(pooled).all():
        raise SimulatorError(f"The simulator {name} predicted values that are not finite; it must stay within 0-10.")
    lengths = [array.shape[1] for array in found]
    return np.split(np.clip(pooled, 0.0, SCALE), np.cumsum(lengths)[:-1], axis=1)


def _shaped(name: str, returned: Any, shape: tuple[int, int]) -> NDArray[np.float32]:
    array = np.asarray(returned, dtype=np.float32)
    if array.shape != shape:
        raise SimulatorError(
            f"The simulator {name} returned an array of shape {array.shape} where {shape} (explanations, tokens) was "
            "expected."
        )
    return array
