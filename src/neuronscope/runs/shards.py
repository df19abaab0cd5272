"""Many neurons on the machines of a Ray cluster: each worker has its own models, this process keeps the results."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from neuronscope import blocking
from neuronscope.cluster import RayEngine, RayWorkers
from neuronscope.config import AnySimulator, Setup
from neuronscope.display.costs import Cost
from neuronscope.display.run import RunDisplay as Board
from neuronscope.errors import ConfigurationError, StoreError
from neuronscope.exemplars.identity import identify
from neuronscope.exemplars.sharding import load_same
from neuronscope.exemplars.store import ExemplarStore, open_store
from neuronscope.interfaces import ExemplarSource
from neuronscope.llm import Budget
from neuronscope.llm.usage_log import Entry
from neuronscope.resources import Resources, open_resources
from neuronscope.results import NeuronExplanation
from neuronscope.runs.folder import RunFolder
from neuronscope.runs.runner import Runner
from neuronscope.subject.portable import PortableSubject, portable
from neuronscope.types import Neuron

_END: Any = object()


class _Workplace(NamedTuple):
    """What a worker needs to get ready."""

    subject: PortableSubject
    identity: dict[str, str]
    store: Path | ExemplarSource
    setup: Setup
    """Without the subject, the store and the corpus, which travel in other forms or not at all."""
    checkpoints: str | None
    parallel: int


class _Shard(NamedTuple):
    """Some neurons, and what is left for them to spend."""

    neurons: Sequence[Neuron]
    dollars: float | None
    tokens: int | None


async def explain_on_ray(
    engine: RayEngine,
    neurons: Sequence[Neuron],
    resources: Resources,
    board: Board,
    folder: RunFolder | None,
    checkpoints: Any,
    parallel: int,
) -> AsyncGenerator[NeuronExplanation, None]:
    """Yield results as workers finish them; each is saved before.

    A budget is kept by giving no more neurons out once it is spent; each worker has what was left of it at the time, so
    up to as much again may be spent by every other worker.

    Raises:
        ConfigurationError: Ray is missing, cannot be reached or keeps losing workers; or what the workers need cannot
            be sent to them.
        StoreError: a worker cannot open the store.
    """
    subject, store = resources.instruments().subject, resources.store
    elsewhere = {"subject": None, "store": None, "corpus": "builtin", "budget": None}
    place = _Workplace(
        portable(subject),
        identify(subject),
        store.path if isinstance(store, ExemplarStore) else store,
        resources.setup.model_copy(update={**elsewhere, "simulator": _simulator(resources)}),
        _shared(checkpoints),
        parallel,
    )
    budget = resources.budget if resources.asks_models else None
    shards = _shards(neurons, engine.shard_size or parallel, budget, board)
    with await asyncio.to_thread(RayWorkers, engine, partial(_get_ready, place)) as workers:
        finished = workers.map(_explain, shards)
        while (texts := await asyncio.to_thread(next, finished, _END)) is not _END:
            for text in texts:
                result = NeuronExplanation.from_json(text)
                _count(result, resources, folder)
                if folder is not None:
                    folder.save(result)
                board.finished(result)
                yield result


def _simulator(resources: Resources) -> AnySimulator:
    """What all workers use: "auto" is decided once, here, so that no two machines decide otherwise."""
    from neuronscope.simulators import HybridSimulator

    if (wanted := resources.setup.simulator) != "auto":
        return wanted
    return "hybrid" if isinstance(resources.simulator, HybridSimulator) else "transluce"


def _shared(checkpoints: Any) -> str | None:
    """Where workers keep checkpoints: in a database that all reach, or nowhere."""
    if checkpoints in (None, "auto"):
        return None
    if isinstance(checkpoints, str) and "://" in checkpoints:
        return checkpoints
    raise ConfigurationError(
        "Several machines cannot share checkpoints in a file or an object. Give a Postgres URL, or None."
    )


def _shards(neurons: Sequence[Neuron], size: int, budget: Budget | None, board: Board) -> Iterator[_Shard]:
    for start in range(0, len(neurons), size):
        some = neurons[start : start + size]
        if budget is not None and budget.is_spent:
            for neuron in some:
                board.put_off(neuron)
            continue
        yield _Shard(some, *((None, None) if budget is None else budget.left))


def _count(result: NeuronExplanation, resources: Resources, folder: RunFolder | None) -> None:
    """Charge a worker's neuron to the budget, and write it down."""
    cost = Cost.of(result.usage)
    if resources.budget is not None and cost.requests:
        resources.budget.spend(cost.tokens, cost.dollars)
    if folder is not None:
        for agent, row in result.usage.by_agent.items():
            entry = Entry(
                agent, row.requests, row.answers, row.cached, row.input_tokens, row.output_tokens, row.dollars
            )
            folder.ledger.add(str(result.neuron), entry)


class _Ready(NamedTuple):
    """A worker that is ready."""

    resources: Resources
    place: _Workplace


def _get_ready(place: _Workplace, device: str) -> _Ready:
    """Load everything; in a worker."""
    subject = load_same(place.subject, place.identity, device)
    setup = place.setup.model_copy(update={"subject": subject, "store": _opened(place.store)})
    return _Ready(open_resources(setup, layers=[]), place)


def _opened(store: Path | ExemplarSource) -> ExemplarSource:
    if not isinstance(store, Path):
        return store
    try:
        return open_store(store)
    except StoreError as error:
        raise StoreError(
            f"A worker cannot open the store: {error} Every machine must find it under the same path: collect with "
            "cache_dir= on a shared file system."
        ) from error


def _explain(ready: _Ready, shard: _Shard) -> list[str]:
    """Explain some neurons; in a worker."""
    limited = shard.dollars is not None or shard.tokens is not None
    budget = Budget(dollars=shard.dollars, tokens=shard.tokens) if limited else None
    resources = replace(ready.resources, budget=budget)
    return blocking.run(partial(_explain_all, resources, ready.place, shard.neurons))


async def _explain_all(resources: Resources, place: _Workplace, neurons: Sequence[Neuron]) -> list[str]:
    from neuronscope.graphs.checkpoints import open_checkpoints

    async with AsyncExitStack() as stack:
        saver = None
        if place.checkpoints is not None:
            saver = await stack.enter_async_context(open_checkpoints(place.checkpoints))
        board = Board(len(neurons), progress=False)
        runner = Runner(resources, board, checkpointer=saver, parallel=place.parallel)
        return [result.to_json() async for result in runner.explain(neurons)]
