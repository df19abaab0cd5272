"""From settings, prices and what was measured to a `Plan`.

neurons that are finished, and a sample that is run now ─┐
constants and the settings (`expectation`) ──────────────┼─► amounts of one neuron (`estimate`) × those left
speed of subject and simulator (`speeds`) ───────────────┘
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from neuronscope.arguments import integer
from neuronscope.planning.estimate import Estimate, asking
from neuronscope.planning.footprint import SCORING, files_of, gpu_memory, memory
from neuronscope.planning.plan import Amounts, Plan
from neuronscope.planning.speeds import Speeds, Stopwatch, Timed, measure_speeds, waiting_nodes, warm_up
from neuronscope.resources import Resources
from neuronscope.results import NeuronExplanation, Usage
from neuronscope.runs.folder import RUN_FILE, RunFolder
from neuronscope.runs.run import explain_many, resume
from neuronscope.types import Neuron

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_DEAD = 4
"""Neurons without a mode that a sample may meet before it is given up."""


@runtime_checkable
class KnowsMaxima(Protocol):
    """A source that knows which neurons are dead, as an `ExemplarStore` does."""

    def max_activation(self, layer: int, sign: int = 1) -> NDArray[np.float32]:
        """Each neuron's largest activation; 0 for a dead one."""


@dataclass(frozen=True, kw_only=True)
class Before:
    """What a run does before its first neuron."""

    steps: Mapping[str, float | None] = field(default_factory=dict)
    """Seconds."""
    files: Mapping[str, int] = field(default_factory=dict)
    """Bytes on disk."""
    memory: int = 0
    """Bytes, beside those that the process has now."""
    assumptions: tuple[str, ...] = ()
    is_provisional: bool = False
    """Whether the store is only a small one, for measuring: it does not know which neurons are dead."""


async def make_plan(
    resources: Resources,
    neurons: Sequence[Neuron],
    *,
    out: str | Path | None,
    parallel: int | None,
    sample: int,
    before: Before | None = None,
) -> Plan:
    """Plan what is left of a run: see `Session.aplan`.

    Raises:
        ConfigurationError: an argument makes no sense, or `out` belongs to a run with other settings.
        NeuronScopeError: the sample, the subject or the simulator failed.
    """
    at_once, sample = resources.at_once(parallel), integer(sample, "sample", least=0)
    neurons, before = list(dict.fromkeys(neurons)), before or Before()
    finished = await asyncio.to_thread(_finished, resources, neurons, out)
    timed: list[Timed] = []
    if sample and len(finished) < len(neurons):
        await warm_up(resources)
        timed = await _explain_sample(resources, [one for one in neurons if one not in finished], out, sample)
    known = [*finished.values(), *(each.result for each in timed)]
    if out is not None:
        finished |= {each.result.neuron: each.result for each in timed if each.result.status != "partial"}
    left = [neuron for neuron in neurons if neuron not in finished]
    alive = left if before.is_provisional else [neuron for neuron in left if not _is_dead(neuron, resources)]
    useful = [each for each in timed if _tells(each.result)]
    speeds = await measure_speeds(resources, alive[0]) if alive else Speeds(None, None)
    estimate = Estimate(
        resources, [result for result in known if _tells(result)], useful, speeds, before.is_provisional
    )
    paid = {each.result.neuron for each in useful} if resources.config.cache_answers else set()
    n, n_asking = len(alive), sum(neuron not in paid for neuron in alive)
    expected, at_most = estimate.expected(n, n_asking, at_once), estimate.at_most(n, n_asking)
    steps = {**before.steps, "explaining": expected.seconds}
    files = {
        **before.files,
        **files_of(
            resources.config,
            n,
            modes=estimate.shape.modes,
            requests=expected.requests or 0,
            activations=round(estimate.sequences * estimate.seq_len),
            parallel=at_once,
            is_saved=out is not None,
        ),
    }
    resident = memory()
    return Plan(
        neurons=len(neurons),
        finished=len(finished),
        measured=len(estimate.known),
        expected=_with_seconds(expected, _sum(steps.values())),
        at_most=at_most,
        agents=estimate.agents(n_asking),
        spent=_spent(timed),
        steps=steps,
        files=files,
        memory=None if resident is None else resident + before.memory + min(at_once, n) * SCORING,
        gpu_memory=gpu_memory(),
        budget=_left(resources),
        affordable=_affordable(resources, expected, n, n_asking),
        assumptions=(
            *before.assumptions,
            *_of_neurons(len(left) - n, timed),
            *estimate.assumptions(n, at_once),
        ),
    )


def _finished(
    resources: Resources, neurons: Sequence[Neuron], out: str | Path | None
) -> dict[Neuron, NeuronExplanation]:
    """What earlier calls have finished; a folder that is not there yet is not made."""
    if out is None or not (Path(out).expanduser() / RUN_FILE).is_file():
        return {}
    with RunFolder(out) as folder:
        return resume(folder, resources, neurons)


async def _explain_sample(
    resources: Resources, neurons: Sequence[Neuron], out: str | Path | None, sample: int
) -> list[Timed]:
    """Explain the first neurons as the run would, until so many of them have told what one takes."""
    timed: list[Timed] = []
    nodes = waiting_nodes(resources, list(asking(resources)))
    for neuron in neurons:
        told = sum(_tells(each.result) for each in timed)
        if told >= sample or len(timed) >= sample + MOST_DEAD:
            break
        watch = Stopwatch(nodes)
        results = explain_many(
            resources, [neuron], out=out, checkpoints="auto", parallel=1, engine="local", progress=watch
        )
        async with aclosing(results) as stream:
            timed += [watch.read(result) async for result in stream]
    return timed


def _tells(result: NeuronExplanation) -> bool:
    """Whether a result tells what a neuron takes: one that is dead, or has failed, does not."""
    return result.status == "explained" and bool(result.modes) and result.usage.simulated_tokens > 0


def _is_dead(neuron: Neuron, resources: Resources) -> bool:
    store = resources.store
    return isinstance(store, KnowsMaxima) and not store.max_activation(neuron.layer, neuron.sign)[neuron.index] > 0


def _with_seconds(amounts: Amounts, seconds: float | None) -> Amounts:
    return replace(amounts, seconds=seconds)


def _sum(values: Any) -> float | None:
    known = list(values)
    return None if any(value is None for value in known) else sum(known)


def _spent(timed: Sequence[Timed]) -> Amounts:
    """What a sample has cost."""
    usages: list[Usage] = [each.result.usage for each in timed]
    dollars = [usage.total_dollars for usage in usages]
    return Amounts(
        requests=sum(sum(usage.requests.values()) for usage in usages),
        input_tokens=sum(sum(usage.input_tokens.values()) for usage in usages),
        output_tokens=sum(sum(usage.output_tokens.values()) for usage in usages),
        dollars=_sum(dollars),
        simulated_tokens=sum(usage.simulated_tokens for usage in usages),
        seconds=sum(each.waited + each.computed for each in timed),
    )


def _left(resources: Resources) -> str | None:
    """What is left of the budget, in its own unit."""
    if resources.budget is None:
        return None
    dollars, tokens = resources.budget.left
    return f"{tokens:,} tokens" if dollars is None else f"${dollars:,.2f}"


def _affordable(resources: Resources, expected: Amounts, n: int, n_asking: int) -> int | None:
    """For how many neurons the budget lasts, if they cost what is expected."""
    if resources.budget is None:
        return None
    dollars, tokens = resources.budget.left
    left, needed = (tokens, expected.tokens) if dollars is None else (dollars, expected.dollars)
    if needed is None or left is None:
        return None
    free = n - n_asking
    return n if needed <= left else free + int(left / needed * n_asking)


def _of_neurons(dead: int, timed: Sequence[Timed]) -> list[str]:
    """What has to be said of the neurons themselves."""
    failures = [each.result.failures[0] for each in timed if each.result.failures]
    said = [f"{dead} of the neurons that are left are dead, and cost nothing."] if dead else []
    if timed and not any(_tells(each.result) for each in timed):
        said.append(f"None of the {len(timed)} neurons of the sample has told what one takes.")
    return said + [f"In the sample something failed: {failure}" for failure in failures[:1]]
