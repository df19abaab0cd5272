"""Many neurons with the same resources: here or on other machines, gone on with from a folder."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuronscope import blocking
from neuronscope.arguments import integer
from neuronscope.cluster import RayEngine, ray_engine
from neuronscope.config import Progress
from neuronscope.errors import ConfigurationError
from neuronscope.resources import Resources
from neuronscope.results import NeuronExplanation
from neuronscope.runs.folder import RunFolder
from neuronscope.runs.shard import AnyShard, Shard, ShardFile, open_folder
from neuronscope.types import Neuron

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver


def check_run(
    out: str | Path | None, parallel: int | None, engine: str | RayEngine, shard: AnyShard | None = None
) -> None:
    """Look at what a run needs beside its resources, before these are loaded: its folder can be used, and nobody does.

    Raises:
        ConfigurationError: something makes no sense, or cannot be used.
    """
    if parallel is not None:
        integer(parallel, "parallel", least=1)
    _, part = _division(engine, shard)
    if out is not None:
        with open_folder(out, part):
            pass


async def explain_many(
    resources: Resources,
    neurons: Sequence[Neuron],
    *,
    out: str | Path | None,
    checkpoints: str | Path | BaseCheckpointSaver[Any] | None,
    parallel: int | None,
    engine: str | RayEngine,
    progress: Progress,
    shard: AnyShard | None = None,
) -> AsyncGenerator[NeuronExplanation, None]:
    """Yield each result as it is finished, those of earlier calls first: see `Session.aexplain_many`.

    Raises:
        ConfigurationError: an argument makes no sense, or `out` belongs to a run with other settings.
    """
    at_once, (cluster, part) = resources.at_once(parallel), _division(engine, shard)
    from neuronscope.display.run import RunDisplay
    from neuronscope.runs.runner import Runner

    async with AsyncExitStack() as stack:
        folder = None if out is None else stack.enter_context(open_folder(out, part))
        whole = neurons
        if part is not None:
            neurons, resources = part.neurons(whole), _share_of(resources, part)
        finished = {} if folder is None else await blocking.in_callers_thread(resume, folder, resources, neurons)
        if part is not None and folder is not None:
            ShardFile.describe(part, whole).write(folder.path)
        display = stack.enter_context(RunDisplay(len(neurons), progress))
        display.known(len(finished))
        for neuron in neurons:
            if neuron in finished:
                yield finished[neuron]
        rest = [neuron for neuron in neurons if neuron not in finished]
        if cluster is not None:
            from neuronscope.runs.on_ray import explain_on_ray

            results = explain_on_ray(cluster, rest, resources, display, folder, checkpoints, at_once)
        else:
            if checkpoints == "auto":
                checkpoints = None if folder is None or resources.is_quick else folder.checkpoints
            checkpointer = await _checkpointer(stack, checkpoints)
            runner = Runner(resources, display, folder=folder, checkpointer=checkpointer, parallel=at_once)
            results = runner.explain(rest)
        async with aclosing(results) as stream:
            async for result in stream:
                yield result


def _division(engine: str | RayEngine, shard: AnyShard | None) -> tuple[RayEngine | None, Shard | None]:
    cluster, part = ray_engine(engine), None if shard is None else Shard.of(shard)
    if cluster is not None and part is not None:
        raise ConfigurationError(
            "A shard is explained by the process that is given it. Leave out either engine='ray', which divides the "
            "neurons itself, or shard=."
        )
    return cluster, part


def _share_of(resources: Resources, shard: Shard) -> Resources:
    budget = resources.budget
    return resources if budget is None else replace(resources, budget=budget.share(shard.count))


def resume(folder: RunFolder, resources: Resources, neurons: Sequence[Neuron]) -> dict[Neuron, NeuronExplanation]:
    """What earlier calls have finished; what they have spent is spent."""
    from neuronscope.graphs.conclude import provenance

    folder.continue_as(provenance(resources.instruments()))
    budget = resources.budget
    if budget is not None and budget.carries_over(str(folder.path.resolve())):
        for record in folder.usage_log.read():
            counted = record.input_tokens + record.output_tokens
            budget.spend(counted if record.counted else None, record.dollars)
    return folder.finished(neurons)


async def _checkpointer(
    stack: AsyncExitStack, checkpoints: str | Path | BaseCheckpointSaver[Any] | None
) -> BaseCheckpointSaver[Any] | None:
    from neuronscope.graphs.checkpoints import open_checkpoints

    if isinstance(checkpoints, (str, Path)):
        return await stack.enter_async_context(open_checkpoints(checkpoints))
    return checkpoints
