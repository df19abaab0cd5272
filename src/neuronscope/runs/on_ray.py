"""Many neurons on the machines of a Ray cluster: a task for each shard; this process keeps the results."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from pathlib import Path
from typing import NamedTuple

from neuronscope import blocking
from neuronscope.cluster import RayEngine, claim, places, spread
from neuronscope.config import AnySimulator, Setup
from neuronscope.display.costs import Cost
from neuronscope.display.run import RunDisplay
from neuronscope.errors import ConfigurationError, StoreError
from neuronscope.exemplars.portable import portable
from neuronscope.exemplars.store import ExemplarStore, open_store
from neuronscope.interfaces import ExemplarSource, Subject
from neuronscope.llm import Budget
from neuronscope.llm.usage_log import UsageRecord
from neuronscope.resources import Resources, open_resources
from neuronscope.results import NeuronExplanation
from neuronscope.runs.folder import RunFolder
from neuronscope.stopping import stoppable_context
from neuronscope.types import Neuron

_SHARDS_PER_GPU = 4
"""A task with a GPU loads its models anew, so there are few of them."""


async def explain_on_ray(
    engine: RayEngine,
    neurons: Sequence[Neuron],
    resources: Resources,
    display: RunDisplay,
    folder: RunFolder | None,
    checkpoints: object,
    parallel: int,
) -> AsyncGenerator[NeuronExplanation, None]:
    """Yield results as shards are finished; each is saved before.

    Raises:
        ConfigurationError: Ray is missing, cannot be reached or keeps losing workers; or what the workers need cannot
            be sent to them.
        StoreError: a worker cannot open the store.
    """
    opener = _opener(resources, checkpoints, parallel)
    shards = _shards(neurons, engine, resources.budget if resources.asks_models else None, display, parallel)
    context, stopped = stoppable_context()
    loop, finished = asyncio.get_running_loop(), spread(engine, opener, _explain, shards)

    def following() -> list[str] | None:
        return context.run(next, finished, None)

    try:
        while (texts := await loop.run_in_executor(None, following)) is not None:
            for text in texts:
                result = NeuronExplanation.from_json(text)
                _count(result, resources, folder)
                if folder is not None:
                    folder.save(result)
                display.finished(result)
                yield result
    finally:
        stopped.set()
        with suppress(ValueError):  # a step is under way: it ends, and the tasks with it
            finished.close()


@dataclass(frozen=True)
class _Worker:
    """What a task explains with."""

    resources: Resources
    checkpoints: str | None
    parallel: int


class _Shard(NamedTuple):
    """Some neurons, and what they may spend."""

    neurons: Sequence[Neuron]
    budget: Budget | None


def _opener(resources: Resources, checkpoints: object, parallel: int) -> Callable[[str], _Worker]:
    """How a worker opens the setup: with the subject and the store of this process, and its own of all else."""
    subject, store = resources.instruments().subject, resources.store
    elsewhere = {"subject": None, "store": None, "corpus": "builtin", "budget": None}
    return partial(
        _open,
        resources.setup.model_copy(update={**elsewhere, "simulator": _simulator(resources)}),
        portable(subject),
        store.path if isinstance(store, ExemplarStore) else store,
        _shared(checkpoints),
        parallel,
    )


def _simulator(resources: Resources) -> AnySimulator:
    """What all workers use: "auto" is decided once, here, so that no two machines decide otherwise."""
    from neuronscope.simulators import HybridSimulator
    from neuronscope.simulators.reader import ReaderSimulator

    if (wanted := resources.setup.simulator) != "auto":
        return wanted
    if isinstance(resources.simulator, ReaderSimulator):
        return "reader"
    return "hybrid" if isinstance(resources.simulator, HybridSimulator) else "transluce"


def _shared(checkpoints: object) -> str | None:
    """Where workers keep checkpoints: in a database that all reach, or nowhere."""
    if checkpoints in (None, "auto"):
        return None
    if isinstance(checkpoints, str) and "://" in checkpoints:
        return checkpoints
    raise ConfigurationError(
        "Several machines cannot share checkpoints in a file or an object. Give a Postgres URL, or None."
    )


def _shards(
    neurons: Sequence[Neuron], engine: RayEngine, budget: Budget | None, display: RunDisplay, parallel: int
) -> Iterator[_Shard]:
    """The neurons, some at a time; each shard may spend its part of what is left, as many as can be under way."""
    n_places = places(engine)
    few = ceil(len(neurons) / (_SHARDS_PER_GPU * n_places)) if claim(engine)["num_gpus"] and n_places else 0
    size = engine.shard_size or max(parallel, few)
    for start in range(0, len(neurons), size):
        some = neurons[start : start + size]
        if budget is None:
            yield _Shard(some, None)
        elif budget.is_spent:
            for neuron in some:
                display.put_off(neuron)
        else:
            dollars, tokens = budget.left
            yield _Shard(some, Budget(dollars=dollars, tokens=tokens).share(n_places))


def _count(result: NeuronExplanation, resources: Resources, folder: RunFolder | None) -> None:
    """Charge a worker's neuron to the budget, and write it down."""
    cost = Cost.of(result.usage)
    if resources.budget is not None and cost.requests:
        resources.budget.spend(cost.tokens, cost.dollars)
    if folder is not None:
        for agent, row in result.usage.by_agent.items():
            record = UsageRecord(
                agent,
                row.requests,
                row.answers,
                row.cached,
                row.input_tokens,
                row.output_tokens,
                row.dollars,
                cached_input_tokens=row.cached_input_tokens,
            )
            folder.usage_log.add(str(result.neuron), record)


def _open(
    setup: Setup,
    load: Callable[[str], Subject],
    store: Path | ExemplarSource,
    checkpoints: str | None,
    parallel: int,
    device: str,
) -> _Worker:
    """Open the setup; in a worker."""
    chosen = {"subject": load(device), "store": _opened(store) if isinstance(store, Path) else store}
    return _Worker(open_resources(setup.model_copy(update=chosen), layers=[]), checkpoints, parallel)


def _opened(store: Path) -> ExemplarStore:
    try:
        return open_store(store)
    except StoreError as error:
        raise StoreError(
            f"A worker cannot open the store: {error} Every machine must find it under the same path: collect with "
            "cache_dir= on a shared file system."
        ) from error


def _explain(worker: _Worker, shard: _Shard) -> list[str]:
    """Explain a shard; in a worker."""
    return blocking.run(partial(_explain_all, worker, shard))


async def _explain_all(worker: _Worker, shard: _Shard) -> list[str]:
    from neuronscope.graphs.checkpoints import open_checkpoints
    from neuronscope.runs.runner import Runner

    resources = replace(worker.resources, budget=shard.budget)
    async with AsyncExitStack() as stack:
        saver = None
        if worker.checkpoints is not None:
            saver = await stack.enter_async_context(open_checkpoints(worker.checkpoints))
        display = RunDisplay(len(shard.neurons), progress=False)
        runner = Runner(resources, display, checkpointer=saver, parallel=worker.parallel)
        return [result.to_json() async for result in runner.explain(shard.neurons)]
