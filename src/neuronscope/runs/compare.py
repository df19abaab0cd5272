"""Methods on the same neurons: each neuron is explained, and then scored by one method after the other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from neuronscope import blocking
from neuronscope.baselines.registry import AnyBaselines, named_baselines, resolve_baselines
from neuronscope.comparison import MethodScore
from neuronscope.config import Progress
from neuronscope.errors import BudgetExceededError, NeuronScopeError
from neuronscope.graphs.conclude import usage_of
from neuronscope.graphs.explainer import score_explainer
from neuronscope.results import Failure, NeuronExplanation
from neuronscope.runs.folder import RunFolder
from neuronscope.runs.gathering import gathered
from neuronscope.runs.run import explain_many, resume
from neuronscope.types import Neuron

if TYPE_CHECKING:
    from neuronscope.interfaces import Explainer
    from neuronscope.resources import Resources
    from neuronscope.state import Instruments

logger = logging.getLogger(__name__)

METHODS = (
    "neuronscope",
    "unrefined",
    "first_mode",
    "best_of_n",
    "single_pass",
    "best_of_k",
    "clustered",
    "experimenter",
    "token_lookup",
    "token_lookup_own_size",
    "another_neuron",
    "random_description",
    "random_description:8",
)
"""What is compared where nobody says what: every method, and the null of as many sentences as a best of k has."""


async def compare(
    resources: Resources,
    neurons: Sequence[Neuron],
    methods: AnyBaselines,
    out: str | Path | None,
    progress: Progress,
    known: Iterable[NeuronExplanation] = (),
    parallel: int | None = None,
) -> AsyncGenerator[MethodScore, None]:
    """Yield the rows as they are scored; `out` keeps them, and an equal call goes on from there.

    Several neurons are under way at once, each with one method after the other.

    Raises:
        ConfigurationError: there is no method of a name, or `out` belongs to something else.
        BudgetExceededError: the budget is spent; what is done stays in `out`.
    """
    explanations = {each.neuron: each for each in known}
    needed = [neuron for neuron in neurons if neuron not in explanations] if _needs_explanations(methods) else []
    explanations |= await _explain(resources, needed, out, progress, parallel)
    explainers = resolve_baselines(methods, explanations)
    with nullcontext() if out is None else RunFolder(out) as folder:
        if folder is not None:
            await blocking.in_callers_thread(resume, folder, resources, neurons)
        waiting = iter(neurons)

        async def work(done: asyncio.Queue[MethodScore | None]) -> None:
            for neuron in waiting:
                for explainer in explainers:
                    done.put_nowait(await _saved_score(explainer, neuron, resources, folder))

        async with aclosing(gathered([work] * min(resources.at_once(parallel), len(neurons)))) as rows:
            async for row in rows:
                yield row


def _needs_explanations(methods: AnyBaselines) -> bool:
    """Whether one of the methods is made from what `explain` finds; also checks the names before anything is paid."""
    known = named_baselines()
    names = [each.name.partition(":")[0] for each in resolve_baselines(methods)]
    return any(name in known and known[name].of_explanations for name in names)


async def _explain(
    resources: Resources, neurons: Sequence[Neuron], out: str | Path | None, progress: Progress, parallel: int | None
) -> dict[Neuron, NeuronExplanation]:
    """What `explain` finds of each neuron, or has found in an earlier call."""
    if not neurons:
        return {}
    results = explain_many(
        resources, neurons, out=out, checkpoints="auto", parallel=parallel, engine="local", progress=progress
    )
    async with aclosing(results) as stream:
        return {explanation.neuron: explanation async for explanation in stream}


async def _saved_score(
    explainer: Explainer, neuron: Neuron, resources: Resources, folder: RunFolder | None
) -> MethodScore:
    """One method's row for one neuron, from its file if there is one; what failed altogether is not kept there."""
    path = None if folder is None else _path(folder.path, neuron, explainer.name)
    if (known := _saved(path)) is not None:
        return known
    log = None if folder is None else folder.usage_log.of(f"{neuron} {explainer.name}")
    row = await _score(explainer, neuron, resources.instruments(log))
    if path is not None and not (row.failures and row.joint_score is None):
        row.save(path)
    return row


async def _score(explainer: Explainer, neuron: Neuron, instruments: Instruments) -> MethodScore:
    """One method's row for one neuron; what fails for it is in the row, and loses no other."""
    try:
        scored = await score_explainer(explainer, neuron, instruments)
    except BudgetExceededError:
        raise
    except NeuronScopeError as error:
        logger.warning("%s has no score for %s: %s", explainer.name, neuron, error)
        spent = usage_of(neuron, instruments)
        instruments.forget(neuron)
        failures = [Failure(explainer.name, str(error))]
        return MethodScore(neuron=neuron, method=explainer.name, usage=spent, failures=failures)
    explanation = scored.explanation
    return MethodScore(
        neuron=neuron,
        method=explainer.name,
        joint_score=scored.joint_score,
        score=scored.score,
        val_score=scored.val_score,
        val_joint_score=scored.val_joint_score,
        corpus_score=scored.corpus_score,
        number=scored.number,
        sentences=[] if explanation is None else [mode.explanation for mode in explanation.modes],
        usage=scored.usage,
        failures=list(scored.failures),
    )


def _saved(path: Path | None) -> MethodScore | None:
    return MethodScore.load(path) if path is not None and path.exists() else None


def _path(folder: Path, neuron: Neuron, method: str) -> Path:
    """The file of a row."""
    name = "".join(character if character.isalnum() or character in "_-" else "-" for character in method)
    return folder / "scores" / neuron.file_name / f"{name}.json"
