"""The front doors for many neurons: a list of them, or a run that a file describes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuronscope import blocking
from neuronscope.arguments import dimensions, integer, short
from neuronscope.cluster import RayEngine, ray_engine
from neuronscope.config import ExplainConfig
from neuronscope.errors import ConfigurationError
from neuronscope.interfaces import ExemplarSource, Simulator, Subject
from neuronscope.results import NeuronExplanation
from neuronscope.runs.folder import RunFolder
from neuronscope.runs.spec import RunSpec
from neuronscope.session import Equipment, as_subject, collect_for, equip, resolve_names
from neuronscope.stopping import stopping_threads
from neuronscope.types import Neuron

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings
    from langgraph.checkpoint.base import BaseCheckpointSaver

    from neuronscope.events import ProgressEvent
    from neuronscope.llm import Budget
    from neuronscope.session import AnySubject, LLMs

AnyNeuron = Neuron | tuple[int, int] | tuple[int, int, int] | str


async def aexplain_neurons(
    neurons: Iterable[AnyNeuron],
    subject: AnySubject,
    *,
    corpus: Any = "builtin",
    store: ExemplarSource | None = None,
    llm: LLMs = "auto",
    base_url: str | None = None,
    budget: str | Budget | None = None,
    embeddings: str | Embeddings = "auto",
    simulator: str | Simulator = "auto",
    config: ExplainConfig | None = None,
    cache_dir: str | Path | None = None,
    out: str | Path | None = None,
    checkpoints: str | Path | BaseCheckpointSaver[Any] | None = "auto",
    parallel: int = 8,
    engine: str | RayEngine = "local",
    progress: bool | Callable[[ProgressEvent], None] | None = None,
) -> AsyncGenerator[NeuronExplanation, None]:
    """Explain many neurons, several at a time, and yield each result as it is finished.

    `aexplain_neurons` is iterated with `async for`, `explain_neurons` with `for`, also inside a running event loop.

    With `out`, every result is saved there before it is yielded. Killed at any moment, an equal call goes on: results
    that are there are yielded at once, neurons that were under way continue after their last step, and answers that
    the language model had given are not asked for again; only requests that were under way are repeated. Neurons whose
    result is partial, since something failed or the budget was spent, are tried again.

    Args:
        neurons: which: `Neuron` objects, `(layer, index)` or `(layer, index, sign)`, or text such as `"9/740"`; also
            rows of arrays and tables, with the columns "layer" and "neuron".
        subject: the model: anything `load_subject` takes, or a subject.
        corpus: the text to look at, if no store is given; exemplars of all layers are collected in one pass.
        store: exemplars collected before.
        llm: as for `explain_neuron`.
        base_url: as for `explain_neuron`.
        budget: what all neurons together may cost, with `out` over all calls. When it is spent, no further neuron is
            begun, and those under way end partial.
        embeddings: as for `explain_neuron`.
        simulator: as for `explain_neuron`; one serves all neurons, and batches their requests.
        config: every other setting; None is `ExplainConfig()`.
        cache_dir: where collected exemplars are kept; None is the user's cache folder.
        out: the run's folder, made if it is missing; None keeps nothing.
        checkpoints: where the steps of neurons under way are kept: "auto" is a file in `out`; a file; the URL of a
            Postgres database; a LangGraph checkpointer; or None. Without it a neuron that was under way starts again,
            from the answers that were kept.
        parallel: neurons under way at once.
        engine: `"local"`, or `"ray"` for the workers of a Ray cluster, each of which needs the store's folder and
            explains `parallel` neurons at once.
        progress: whether to show what is going on; None shows it in a terminal; or a function that gets every
            `ProgressEvent`.

    Raises:
        ConfigurationError: an argument makes no sense, or `out` belongs to a run with other settings.
        NeuronScopeError: something cannot be found, loaded or reached. What fails for one neuron is no exception: its
            result is partial and says what happened.
    """
    chosen, parallel = as_neurons(neurons), integer(parallel, "parallel", least=1)
    cluster = ray_engine(engine)
    from neuronscope.display.run import Board
    from neuronscope.runs.runner import Runner

    async with AsyncExitStack() as stack:
        folder = None if out is None else stack.enter_context(RunFolder(out))  # before the work: it may be in use
        with stopping_threads():
            equipment = await blocking.in_callers_thread(
                equip,
                subject,
                chosen,
                corpus=corpus,
                store=store,
                llm=llm,
                base_url=base_url,
                budget=budget,
                embeddings=embeddings,
                simulator=simulator,
                config=config,
                cache_dir=cache_dir,
                progress=progress if isinstance(progress, bool) else None,
            )
        finished = {} if folder is None else await blocking.in_callers_thread(_resume, folder, equipment, chosen)
        board = stack.enter_context(Board(len(chosen), progress))
        board.known(len(finished))
        for neuron in chosen:
            if neuron in finished:
                yield finished[neuron]
        rest = [neuron for neuron in chosen if neuron not in finished]
        if cluster is not None:
            from neuronscope.runs.shards import explain_on_ray

            settings = {"llm": llm, "base_url": base_url, "embeddings": embeddings, "simulator": simulator}
            results = explain_on_ray(cluster, rest, equipment, settings, board, folder, checkpoints, parallel)
        else:
            checkpointer = await _checkpointer(stack, checkpoints, folder)
            runner = Runner(equipment, board, folder=folder, checkpointer=checkpointer, parallel=parallel)
            results = runner.explain(rest)
        async with aclosing(results) as stream:
            async for result in stream:
                yield result


explain_neurons = blocking.blocking_iterator(aexplain_neurons)
"""`aexplain_neurons` for scripts and notebooks: it waits."""


async def arun(
    spec: RunSpec | str | Path, *, progress: bool | Callable[[ProgressEvent], None] | None = None
) -> AsyncGenerator[NeuronExplanation, None]:
    """Do, or go on with, a run that a YAML file describes (see `RunSpec`); yields results as they are finished.

    Raises:
        ConfigurationError: the description is wrong, or its folder belongs to a run with other settings.
        NeuronScopeError: something cannot be found, loaded or reached.
    """
    if not isinstance(spec, RunSpec):
        spec = RunSpec.load(spec)
    show = progress if isinstance(progress, bool) else None
    with stopping_threads():
        subject, store = await blocking.in_callers_thread(_load, spec, show)
    results = aexplain_neurons(
        spec.chosen(store),
        subject,
        store=store,
        llm=spec.llm,
        base_url=spec.base_url,
        budget=spec.budget,
        embeddings=spec.embeddings,
        simulator=spec.simulator,
        config=spec.settings(),
        out=spec.out,
        checkpoints=spec.checkpoints,
        parallel=spec.parallel,
        engine=spec.engine,
        progress=progress,
    )
    async with aclosing(results) as stream:
        async for result in stream:
            yield result


run = blocking.blocking_iterator(arun)
"""`arun` for scripts and notebooks: it waits."""


def _load(spec: RunSpec, progress: bool | None) -> tuple[Subject, Any]:
    """The model of a description, and the exemplars of all its layers; all else in it is looked at before."""
    ray_engine(spec.engine)
    with RunFolder(spec.out):  # it can be used, and nobody does
        named = resolve_names(
            spec.subject,
            spec.places,
            corpus=spec.corpus,
            store=None,
            llm=spec.llm,
            base_url=spec.base_url,
            budget=spec.budget,
            embeddings=spec.embeddings,
            simulator=spec.simulator,
            config=spec.settings(),
        )
    subject = as_subject(spec.subject)
    return subject, collect_for(subject, spec.layers, named.corpus, named.config, spec.cache_dir, progress)


def as_neuron(neuron: AnyNeuron) -> Neuron:
    """A neuron from the forms that people write.

    Raises:
        ConfigurationError: it is none of them.
    """
    if isinstance(neuron, Neuron):
        return neuron
    if isinstance(neuron, str):
        return Neuron.parse(neuron)
    reason, parts = "", _parts(neuron)
    if 2 <= len(parts) <= 4:
        try:
            return Neuron(*parts)
        except ConfigurationError as error:
            reason = f" {error}"
    raise ConfigurationError(
        f"{short(neuron)} is no neuron.{reason} Give ns.Neuron(9, 740), (9, 740), (9, 740, -1) or '9/740'."
    )


def as_neurons(neurons: Iterable[AnyNeuron]) -> list[Neuron]:
    """Each neuron once, in order; a table has columns "layer" and "neuron", and "sign" if it likes.

    Raises:
        ConfigurationError: one of them is no neuron.
    """
    given: Any = neurons
    if isinstance(given, (str, Neuron, Mapping)) or not isinstance(given, Iterable):
        given = [given]
    elif hasattr(given, "columns") and hasattr(given, "to_dict"):
        given = given.to_dict("records")
    return list(dict.fromkeys(map(as_neuron, given)))


def _parts(neuron: Any) -> Sequence[Any]:
    """Layer, index and perhaps sign of a row: of a table, by its columns' names; or of numbers, by their order."""
    for name in ("_asdict", "to_dict"):  # as `itertuples` and `iterrows` of pandas give them
        if callable(read := getattr(neuron, name, None)):
            named = read()
            return _parts(named) if "layer" in named else list(named.values())
    if isinstance(neuron, Mapping):
        index = neuron.get("neuron", neuron.get("index"))
        return [neuron.get("layer"), index, neuron.get("sign", 1), neuron.get("site", "mlp")]
    several = isinstance(neuron, Iterable) and dimensions(neuron) in (1, None)
    return list(neuron)[:5] if several else []


def _resume(folder: RunFolder, equipment: Equipment, neurons: Sequence[Neuron]) -> dict[Neuron, NeuronExplanation]:
    """What earlier calls have finished; what they have spent is spent."""
    from neuronscope.graphs.conclude import provenance

    folder.continue_as(provenance(equipment.shared))
    if equipment.budget is not None:
        for entry in folder.ledger.read():
            counted = entry.input_tokens + entry.output_tokens
            equipment.budget.spend(counted if entry.counted else None, entry.dollars)
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
