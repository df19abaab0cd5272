"""Many neurons with the same resources: here or on other machines, gone on with from a folder."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuronscope import blocking
from neuronscope.arguments import integer
from neuronscope.cluster import RayEngine, ray_engine
from neuronscope.config import Progress
from neuronscope.resources import Resources
from neuronscope.results import NeuronExplanation
from neuronscope.runs.folder import RunFolder
from neuronscope.types import Neuron

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver


def check_run(out: str | Path | None, parallel: int, engine: str | RayEngine) -> None:
    """Look at what a run needs beside its resources, before these are loaded: its folder can be used, and nobody does.

    Raises:
        ConfigurationError: something makes no sense, or cannot be used.
    """
    integer(parallel, "parallel", least=1)
    ray_engine(engine)
    if out is not None:
        with RunFolder(out):
            pass


async def explain_many(
    resources: Resources,
    neurons: Sequence[Neuron],
    *,
    out: str | Path | None,
    checkpoints: str | Path | BaseCheckpointSaver[Any] | None,
    parallel: int,
    engine: str | RayEngine,
    progress: Progress,
) -> AsyncGenerator[NeuronExplanation, None]:
    """Yield each result as it is finished, those of earlier calls first: see `Session.aexplain_many`.

    Raises:
        ConfigurationError: an argument makes no sense, or `out` belongs to a run with other settings.
    """
    parallel, cluster = integer(parallel, "parallel", least=1), ray_engine(engine)
    from neuronscope.display.run import RunDisplay
    from neuronscope.runs.runner import Runner

    async with AsyncExitStack() as stack:
        folder = None if out is None else stack.enter_context(RunFolder(out))
        finished = {} if folder is None else await blocking.in_callers_thread(_resume, folder, resources, neurons)
        display = stack.enter_context(RunDisplay(len(neurons), progress))
        display.known(len(finished))
        for neuron in neurons:
            if neuron in finished:
                yield finished[neuron]
        rest = [neuron for neuron in neurons if neuron not in finished]
        if cluster is not None:
            from neuronscope.runs.shards import explain_on_ray

            results = explain_on_ray(cluster, rest, resources, display, folder, checkpoints, parallel)
        else:
            checkpointer = await _checkpointer(stack, checkpoints, folder)
            runner = Runner(resources, display, folder=folder, checkpointer=checkpointer, parallel=parallel)
            results = runner.explain(rest)
        async with aclosing(results) as stream:
            async for result in stream:
                yield result


def _resume(folder: RunFolder, resources: Resources, neurons: Sequence[Neuron]) -> dict[Neuron, NeuronExplanation]:
    """What earlier calls have finished; what they have spent is spent."""
    from neuronscope.graphs.conclude import provenance

    folder.continue_as(provenance(resources.instruments()))
    budget = resources.budget
    if budget is not None and budget.carries_over(str(folder.path.resolve())):
        for entry in folder.ledger.read():
            counted = entry.input_tokens + entry.output_tokens
            budget.spend(counted if entry.counted else None, entry.dollars)
    return folder.finished(neurons)


async def _checkpointer(
    stack: AsyncExitStack, checkpoints: str | Path | BaseCheckpointSaver[Any] | None, folder: RunFolder | None
) -> BaseCheckpointSaver[Any] | None:
    from neuronscope.graphs.checkpoints import open_checkpoints

    if checkpoints == "auto":
        checkpoints = None if folder is None else folder.checkpoints
    if isinstance(checkpoints, (str, Path)):
        return await stack.enter_async_context(open_checkpoints(checkpoints))
    return checkpoints
