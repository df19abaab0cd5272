"""The one place where scoring requests meet: explanations × exemplars → predictions, batched and kept."""

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
_Wish = tuple[Sequence[str], Sequence[Exemplar]]


@dataclass(slots=True, eq=False)
class _Bench:
    """What is known about one neuron while it is being explained."""

    exemplars: dict[int, Exemplar] = field(default_factory=dict)
    predictions: dict[tuple[str, int], NDArray[np.float32]] = field(default_factory=dict)
    simulated_tokens: int = 0
    started: float = field(default_factory=time.perf_counter)


@dataclass(slots=True, eq=False)
class _Request:
    """One caller's wish: these explanations on these sequences."""

    bench: _Bench
    explanations: tuple[str, ...]
    sequence_ids: tuple[int, ...]
    done: asyncio.Future[None]


class _Call(NamedTuple):
    """What the simulator is asked about one neuron."""

    bench: _Bench
    explanations: list[str]
    numbers: list[int]

    def wish(self) -> _Wish:
        """The question, without the truth."""
        return self.explanations, [without_truth(self.bench.exemplars[number]) for number in self.numbers]

    def keep(self, predicted: Predictions) -> None:
        """Remember the answer."""
        for number, array in zip(self.numbers, predicted, strict=True):
            self.bench.simulated_tokens += array.size
            self.bench.predictions.update(
                ((text, number), row) for text, row in zip(self.explanations, array, strict=True)
            )


class Scorer:
    """Predicts and scores explanations with one simulator, for any number of concurrent callers.

    Requests that arrive in the same turn of the event loop, or while the simulator is busy, are merged: every pair
    of explanation and sequence is predicted once, and sequences that need the same explanations go to the simulator
    in one call; a `BatchSimulator` gets the wishes of all neurons in one call. The simulator runs in a worker thread,
    one call at a time, and never sees an activation.

    What is known of a neuron stays in memory until `forget`, which the graph calls when the neuron is done: with
    eight modes, five iterations and default sets some 5 MB.
    """

    def __init__(self, simulator: Simulator, store: ExemplarSource) -> None:
        self._simulator = simulator
        self._store = store
        self._benches: dict[Neuron, _Bench] = {}
        self._waiting: list[_Request] = []
        self._worker: asyncio.Task[None] | None = None

    async def exemplars(self, neuron: Neuron, sequence_ids: Sequence[int]) -> list[Exemplar]:
        """The exemplars of these sequences, asked of the store once.

        Raises:
            NeuronScopeError: the store cannot give them.
        """
        known = self._bench(neuron).exemplars
        missing = [number for number in dict.fromkeys(sequence_ids) if number not in known]
        if missing:
            found = await asyncio.to_thread(self._store.by_id, neuron, missing)
            known.update(zip(missing, found, strict=True))
        return [known[number] for number in sequence_ids]

    async def predict(self, neuron: Neuron, explanations: Sequence[str], sequence_ids: Sequence[int]) -> Predictions:
        """Predict every explanation on every sequence, on the scale 0-10.

        Returns:
            One `(explanations, tokens)` array per sequence.

        Raises:
            SimulatorError: the simulator failed, or returned something other than such arrays of finite numbers.
        """
        bench = self._bench(neuron)
        await self.exemplars(neuron, sequence_ids)
        known = bench.predictions
        if any((text, number) not in known for text in explanations for number in sequence_ids):
            done = asyncio.get_running_loop().create_future()
            self._waiting.append(_Request(bench, tuple(explanations), tuple(sequence_ids), done))
            if self._worker is None or self._worker.done():
                self._worker = asyncio.create_task(self._serve())
            await done
        return [np.array([known[text, number] for text in explanations]) for number in sequence_ids]

    async def score(
        self, neuron: Neuron, explanations: Sequence[str], sequence_ids: Sequence[int]
    ) -> list[Correlation]:
        """Score every explanation on these sequences: Pearson's r over their pooled tokens.

        Without a sequence there is nothing to correlate, and no score.
        """
        predictions = await self.predict(neuron, explanations, sequence_ids)
        if not predictions:
            return [Correlation(None, constant=True)] * len(explanations)
        return pearson_rows(np.concatenate(predictions, axis=1), await self.truth(neuron, sequence_ids))

    async def truth(self, neuron: Neuron, sequence_ids: Sequence[int]) -> NDArray[np.float32]:
        """The neuron's activations on these sequences, pooled: shape `(tokens,)`."""
        return np.concatenate([exemplar.activations for exemplar in await self.exemplars(neuron, sequence_ids)])

    async def assign(
        self, neuron: Neuron, explanations: Sequence[str], sequence_ids: Sequence[int]
    ) -> NDArray[np.bool_]:
        """Which explanation fits each sequence best: shape `(explanations, sequences)` (see `assign_exemplars`)."""
        predictions = await self.predict(neuron, explanations, sequence_ids)
        exemplars = await self.exemplars(neuron, sequence_ids)
        return assign_exemplars(predictions, [exemplar.activations for exemplar in exemplars])

    def simulated_tokens(self, neuron: Neuron) -> int:
        """Explanation-token pairs that the simulator has predicted for this neuron."""
        return self._bench(neuron).simulated_tokens

    def seconds(self, neuron: Neuron) -> float:
        """Seconds since this neuron was first asked about."""
        return time.perf_counter() - self._bench(neuron).started

    def forget(self, neuron: Neuron) -> None:
        """Drop everything that is kept about a neuron."""
        self._benches.pop(neuron, None)

    def _bench(self, neuron: Neuron) -> _Bench:
        return self._benches.setdefault(neuron, _Bench())

    async def _serve(self) -> None:
        """Answer requests until none waits: whatever arrives during one round is merged into the next."""
        while True:
            await asyncio.sleep(0)
            batch = [request for request in self._waiting if not request.done.cancelled()]
            self._waiting = []
            if not batch:
                return
            for group in [batch] if isinstance(self._simulator, BatchSimulator) else _by_neuron(batch):
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
            _Call(group[0].bench, explanations, numbers)
            for group in _by_neuron(requests)
            for explanations, numbers in _calls(group, group[0].bench.predictions.keys())
        ]
        together = isinstance(self._simulator, BatchSimulator) and calls
        for group in [calls] if together else [[call] for call in calls]:
            predicted = await asyncio.to_thread(_checked_calls, self._simulator, [call.wish() for call in group])
            for call, arrays in zip(group, predicted, strict=True):
                call.keep(arrays)


def _by_neuron(requests: Iterable[_Request]) -> list[list[_Request]]:
    groups: dict[int, list[_Request]] = {}
    for request in requests:
        groups.setdefault(id(request.bench), []).append(request)
    return list(groups.values())


def _calls(requests: Iterable[_Request], known: Any) -> list[tuple[list[str], list[int]]]:
    """Group the pairs that are missing by the explanations that a sequence needs."""
    needed: dict[int, dict[str, None]] = {}
    for request in requests:
        for number in request.sequence_ids:
            missing = (text for text in request.explanations if (text, number) not in known)
            needed.setdefault(number, {}).update(dict.fromkeys(missing))
    groups: dict[tuple[str, ...], list[int]] = {}
    for number, explanations in needed.items():
        if explanations:
            groups.setdefault(tuple(explanations), []).append(number)
    return [(list(explanations), numbers) for explanations, numbers in groups.items()]


def without_truth(exemplar: Exemplar) -> Exemplar:
    """The same text without the truth."""
    return replace(exemplar, activations=np.zeros(len(exemplar.tokens), dtype=np.float32))


def _checked_calls(simulator: Simulator, wishes: Sequence[_Wish]) -> list[Predictions]:
    """Call the simulator, once if it takes several neurons at a time, and check what it returns.

    What breaks on the machine's side (memory, device, connection: RuntimeError and OSError) becomes an error of ours
    that a run survives; any other exception is a bug in the simulator, and surfaces as it is.
    """
    name = type(simulator).__name__
    try:
        if isinstance(simulator, BatchSimulator):
            returned = simulator.simulate_many(wishes)
        else:
            returned = [simulator.simulate(explanations, exemplars) for explanations, exemplars in wishes]
    except NeuronScopeError:
        raise
    except (RuntimeError, OSError, MemoryError) as error:
        raise SimulatorError(f"The simulator {name} failed: {error or type(error).__name__}") from error
    if len(returned) != len(wishes):
        raise SimulatorError(f"The simulator {name} answered {len(wishes)} requests with {len(returned)} lists.")
    return [_checked_answer(name, wish, arrays) for wish, arrays in zip(wishes, returned, strict=True)]


def _checked_answer(name: str, wish: _Wish, returned: Sequence[Any]) -> Predictions:
    explanations, exemplars = wish
    if len(returned) != len(exemplars):
        raise SimulatorError(
            f"The simulator {name} answered {len(exemplars)} exemplars with {len(returned)} arrays; it must return one "
            "array per exemplar."
        )
    return [
        _checked(name, array, (len(explanations), len(exemplar.tokens)))
        for array, exemplar in zip(returned, exemplars, strict=True)
    ]


def _checked(name: str, returned: Any, shape: tuple[int, int]) -> NDArray[np.float32]:
    array = np.asarray(returned, dtype=np.float32)
    if array.shape != shape:
        raise SimulatorError(
            f"The simulator {name} returned an array of shape {array.shape} where {shape} (explanations, tokens) was "
            "expected."
        )
    if not np.isfinite(array).all():
        raise SimulatorError(f"The simulator {name} predicted values that are not finite; it must stay within 0-10.")
    return np.clip(array, 0.0, SCALE)
