"""Neurons in this process: one, or many side by side, each in its own graph, all with the same models."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from neuronscope.config import Progress
from neuronscope.display.choice import watching
from neuronscope.display.run import RunDisplay
from neuronscope.errors import NeuronScopeError
from neuronscope.graphs import build_neuron_graph
from neuronscope.graphs.conclude import provenance, usage_of
from neuronscope.graphs.stream import stream_events
from neuronscope.resources import Resources
from neuronscope.results import Failure, NeuronExplanation
from neuronscope.runs.folder import RunFolder
from neuronscope.runs.gathering import Worker, gathered
from neuronscope.runs.prefetch import group_sizes, groups, prefetch
from neuronscope.state import Instruments
from neuronscope.types import Neuron

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import BaseCheckpointSaver

logger = logging.getLogger(__name__)


async def run_graph(neuron: Neuron, instruments: Instruments, progress: Progress = None) -> NeuronExplanation:
    """Run the default graph on one neuron, and show how it goes."""
    with watching(progress, neuron) as listener:
        async for item in stream_events(build_neuron_graph(), neuron, instruments):
            if isinstance(item, NeuronExplanation):
                explanation = item  # the last item of every stream
            else:
                listener(item)
    return explanation


class Runner:
    """Explains neurons, several at a time.

    While one neuron waits for its language model another is described, scored or concluded. Their requests to the model
    share one limit, their requests to the simulator one queue.

    Args:
        resources: what they share.
        display: what shows how far the run is.
        folder: where results are written and costs are kept, if anywhere.
        checkpointer: keeps the steps of the neurons under way, if given.
        parallel: how many neurons are under way at once.
    """

    def __init__(
        self,
        resources: Resources,
        display: RunDisplay,
        *,
        folder: RunFolder | None = None,
        checkpointer: BaseCheckpointSaver[Any] | None = None,
        parallel: int = 8,
    ) -> None:
        self._resources = resources
        self._display = display
        self._folder = folder
        self._checkpointer = checkpointer
        self._graph = build_neuron_graph(checkpointer=checkpointer)
        self._parallel = parallel
        origins = json.dumps(provenance(resources.instruments()), sort_keys=True, default=str)
        self._name = blake2b(origins.encode(), digest_size=12).hexdigest()

    async def explain(self, neurons: Sequence[Neuron]) -> AsyncGenerator[NeuronExplanation, None]:
        """Yield results as they are finished; each is saved before. Ends early when the budget is spent."""
        n_workers = min(self._parallel, len(neurons))
        waiting: asyncio.Queue[Neuron | None] = asyncio.Queue(maxsize=max(1, n_workers))

        async def feed(done: asyncio.Queue[NeuronExplanation | None]) -> None:
            await self._feed(neurons, waiting, n_workers)

        workers: list[Worker[NeuronExplanation]] = [feed, *[partial(self._work, waiting)] * n_workers]
        async with aclosing(gathered(workers)) as results:
            async for result in results:
                yield result

    async def _feed(self, neurons: Sequence[Neuron], waiting: asyncio.Queue[Neuron | None], n_workers: int) -> None:
        """Compute the activations of the next neurons while the ones before are at work."""
        ready: Sequence[Neuron] = []
        for group in groups(neurons, *group_sizes(self._resources.store, self._parallel)):
            computing = asyncio.create_task(asyncio.to_thread(prefetch, group, self._resources.instruments()))
            for neuron in ready:
                await waiting.put(neuron)
            await computing
            ready = group
        for neuron in ready:
            await waiting.put(neuron)
        for _ in range(n_workers):
            await waiting.put(None)

    async def _work(self, waiting: asyncio.Queue[Neuron | None], done: asyncio.Queue[NeuronExplanation | None]) -> None:
        while (neuron := await waiting.get()) is not None:
            budget = self._resources.budget
            if budget is not None and budget.is_spent and self._resources.asks_models:
                self._display.put_off(neuron)
                continue
            result = await self._attempt(neuron)
            if self._folder is not None:
                await asyncio.to_thread(self._folder.save, result)
            if self._checkpointer is not None:
                await self._checkpointer.adelete_thread(self._thread(neuron))
            self._display.finished(result)
            done.put_nowait(result)

    async def _attempt(self, neuron: Neuron) -> NeuronExplanation:
        """Explain a neuron; what goes wrong with one, whatever it is, must not end a night's run of a thousand."""
        log = None if self._folder is None else self._folder.usage_log.of(str(neuron))
        instruments = self._resources.instruments(log)
        self._display.started(neuron, instruments.usage)
        try:
            return await self._explain(neuron, instruments)
        except NeuronScopeError as error:
            message = str(error)
        except Exception as error:
            logger.exception("%s could not be explained; the others go on.", neuron)
            message = f"{type(error).__name__}: {error}"
        failed = NeuronExplanation(
            neuron,
            "partial",
            failures=[Failure("run", message)],
            usage=usage_of(neuron, instruments),
            provenance=provenance(instruments),
        )
        instruments.forget(neuron)
        return failed

    async def _explain(self, neuron: Neuron, instruments: Instruments) -> NeuronExplanation:
        """Start a neuron, or go on with it where a process that was killed has left it."""
        start: Neuron | None = neuron
        config: RunnableConfig | None = None
        if self._checkpointer is not None:
            config = {"configurable": {"thread_id": self._thread(neuron)}}
            left = await self._graph.aget_state(config)
            if left.next:
                start = None
            elif isinstance(kept := left.values.get("explanation"), NeuronExplanation):
                return kept
        events = stream_events(self._graph, start, instruments, config=config, durability="sync" if config else None)
        async with aclosing(events) as stream:
            async for event in stream:
                if isinstance(event, NeuronExplanation):
                    return event
                self._display.take(event)
        raise RuntimeError("The graph's stream ended without an explanation.")

    def _thread(self, neuron: Neuron) -> str:
        """The name of a neuron's checkpoints; those of other settings, or another version, have another."""
        return f"{self._name}/{neuron}"
