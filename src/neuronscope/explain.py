"""The entry points: one call each, which opens a session, uses it and closes it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from neuronscope import blocking
from neuronscope.config import ACTIVATION_THRESHOLD, ExplainConfig, Progress, Setup
from neuronscope.errors import ConfigurationError
from neuronscope.neurons import AnyNeuron, as_neurons, one_neuron
from neuronscope.results import NeuronExplanation
from neuronscope.stopping import stopping_threads

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver

    from neuronscope.cluster import RayEngine
    from neuronscope.config import AnyBudget, AnyCorpus, AnyEmbeddings, AnySimulator, AnyStore, AnySubject, LLMs
    from neuronscope.evaluation import Explanations
    from neuronscope.metrics.registry import AnyMetrics
    from neuronscope.metrics.table import Evaluation
    from neuronscope.neurons import Index
    from neuronscope.planning.plan import Plan
    from neuronscope.runs.shard import AnyShard
    from neuronscope.runs.spec import RunSpec

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def explain_neuron(
    subject: AnySubject,
    *,
    layer: Index | None = None,
    neuron: Index | AnyNeuron,
    sign: int = 1,
    corpus: AnyCorpus = "builtin",
    store: AnyStore | None = None,
    llm: LLMs = "auto",
    base_url: str | None = None,
    budget: AnyBudget | None = None,
    embeddings: AnyEmbeddings = "auto",
    simulator: AnySimulator = "auto",
    cache_dir: str | Path | None = None,
    config: ExplainConfig | None = ExplainConfig(),
    progress: Progress = None,
) -> NeuronExplanation:
    """Find what one neuron responds to: every meaning, each with a held-out score.

    `explain_neuron` waits, in scripts and inside a running event loop (Jupyter) alike; `aexplain_neuron` is awaited.
    For several neurons of a model open a session once: `Setup(...).open(layers=[9])`.

    Args:
        subject: the model: anything `load_subject` takes, or a subject.
        layer: layer number, from 0.
        neuron: the neuron's index within the layer, from 0; or the neuron itself, `ns.Neuron(9, 740)` or `"9/740"`,
            without `layer`.
        sign: 1 for what its large values mean, -1 for its large negative values.
        corpus: the text to look at, if no store is given: anything `collect_exemplars` takes.
        store: exemplars collected before, or the folder of a store.
        llm: a name that LangChain's `init_chat_model` knows, `"llamacpp:<file>"`, a chat model, a mapping from agent to
            these, "offline" for none, or "auto": `openai:gpt-4o` if an OpenAI key is set, else "offline".
        base_url: address of an OpenAI-compatible server, such as `http://127.0.0.1:8080/v1`, that has the model.
        budget: what the language model may cost: `"5$"`, `"200k tokens"`, or a `Budget` that several neurons share.
            When it is spent the result is partial; the same call with a larger one goes on from there.
        embeddings: for the clustering: a name, LangChain embeddings, or "auto".
        simulator: what predicts activations from explanations: "transluce", "prompted:<model>", "chat", "hybrid",
            "auto" (see `resolve_simulator`), or a simulator.
        cache_dir: where collected exemplars are stored; None is the user's cache folder.
        config: every other setting; None is `ExplainConfig()`.
        progress: whether to show what is going on; None shows it in a notebook and in a terminal. Or a function of
            your own: it is called with every `ProgressEvent`, in the event loop, so it should be quick. An exception
            that it raises ends the run.

    Raises:
        NeuronScopeError: something cannot be found, loaded or reached. An agent that fails on the way is no
            exception: the result has the status "partial" and says what happened.
    """
    unit = one_neuron(layer, neuron, sign)
    setup = Setup(
        subject=subject,
        corpus=corpus,
        store=store,
        llm=llm,
        base_url=base_url,
        budget=budget,
        embeddings=embeddings,
        simulator=simulator,
        cache_dir=cache_dir,
        config=config,
    )
    with setup.open(neurons=[unit], progress=progress) as session:
        return session.explain(unit, progress=progress)


def _awaited(function: Callable[P, T]) -> Callable[[Callable[..., Awaitable[T]]], Callable[P, Awaitable[T]]]:
    """Give a coroutine the arguments of the function that waits, for type checkers and for notebooks."""

    def same(coroutine: Callable[..., Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        coroutine.__signature__ = signature(function)  # type: ignore[attr-defined]  # what `inspect` looks for
        return coroutine

    return same


def _takes_setup(function: F) -> F:
    """Show the fields of a `Setup` in a function's signature, as `explain_neuron` has them, in place of `**setup`."""
    shown = signature(function)
    own = [each for each in shown.parameters.values() if each.kind is not each.VAR_KEYWORD]
    fields = [
        each
        for name, each in signature(explain_neuron).parameters.items()
        if name in Setup.model_fields and name not in shown.parameters
    ]
    function.__signature__ = shown.replace(parameters=[*own, *fields])  # type: ignore[attr-defined]  # as above
    return function


@_awaited(explain_neuron)
async def aexplain_neuron(
    subject: AnySubject,
    *,
    layer: Index | None = None,
    neuron: Index | AnyNeuron,
    sign: int = 1,
    progress: Progress = None,
    **setup: Any,
) -> NeuronExplanation:
    """`explain_neuron` for `await`, with the same arguments."""
    unit = one_neuron(layer, neuron, sign)
    async with await Setup(subject=subject, **setup).aopen(neurons=[unit], progress=progress) as session:
        return await session.aexplain(unit, progress=progress)


@_takes_setup
async def aexplain_neurons(
    neurons: Iterable[AnyNeuron],
    subject: AnySubject,
    *,
    out: str | Path | None = None,
    checkpoints: str | Path | BaseCheckpointSaver[Any] | None = "auto",
    parallel: int | None = None,
    engine: str | RayEngine = "local",
    shard: AnyShard | None = None,
    progress: Progress = None,
    **setup: Any,
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
        out: the run's folder, made if it is missing; None keeps nothing.
        checkpoints: where the steps of neurons under way are stored: "auto" is a file in `out`, or nowhere if neither
            agents nor simulator run a language model, since a neuron then takes a second; a file; the URL of a Postgres
            database; a LangGraph checkpointer; or None. Without it a neuron that was under way starts again, from the
            cached answers.
        parallel: neurons under way at once; None is 8, or 1,000 where they wait for batches (docs/backends.md).
        engine: `"local"`, or `"ray"` for the workers of a Ray cluster, each of which needs the store's folder and
            explains `parallel` neurons at once.
        shard: explain only one part of the neurons: `(i, n)`, or `"i/n"`, is the i-th of n, counted from 0. Its results
            go to a folder of its own in `out`, it may spend an n-th of the budget, and `merge_shards(out)` puts all
            together: see `docs/scale.md`.
        progress: whether to show what is going on; None shows it in a terminal; or a function that gets every
            `ProgressEvent`.
        setup: the other arguments of `explain_neuron`: corpus, store, llm, base_url, budget, embeddings, simulator,
            cache_dir, config. Exemplars of all layers are collected in one pass. The budget is for all neurons
            together, with `out` over all calls: when it is spent, no further neuron is begun, and those under way end
            partial. One simulator serves all neurons, and batches their requests.

    Raises:
        ConfigurationError: an argument makes no sense, or `out` belongs to a run with other settings.
        NeuronScopeError: something cannot be found, loaded or reached. What fails for one neuron is no exception: its
            result is partial and says what happened.
    """
    from neuronscope.runs.run import check_run

    chosen, made = as_neurons(neurons), Setup(subject=subject, **setup)
    check_run(out, parallel, engine, shard)
    if not chosen:
        return
    async with await made.aopen(neurons=chosen, progress=progress) as session:
        results = session.aexplain_many(
            chosen,
            out=out,
            checkpoints=checkpoints,
            parallel=parallel,
            engine=engine,
            shard=shard,
            progress=progress,
        )
        async with aclosing(results) as stream:
            async for result in stream:
                yield result


explain_neurons = blocking.blocking_iterator(aexplain_neurons)
"""`aexplain_neurons` for scripts and notebooks: it waits."""


async def arun(
    spec: RunSpec | str | Path, *, shard: AnyShard | None = None, progress: Progress = None
) -> AsyncGenerator[NeuronExplanation, None]:
    """Do, or go on with, a run that a YAML file describes (see `RunSpec`); yields results as they are finished.

    Args:
        spec: the description, or its file.
        shard: one part of its neurons only: as for `explain_neurons`.
        progress: whether to show what is going on: as for `explain_neurons`.

    Raises:
        ConfigurationError: the description is wrong, or its folder belongs to a run with other settings.
        NeuronScopeError: something cannot be found, loaded or reached.
    """
    from neuronscope.runs.run import check_run
    from neuronscope.runs.spec import RunSpec

    if not isinstance(spec, RunSpec):
        spec = RunSpec.load(spec)
    check_run(spec.out, spec.parallel, spec.engine, shard)
    async with await spec.aopen(spec.layers, neurons=spec.named, progress=progress) as session:
        results = session.aexplain_many(
            spec.chosen(session.store),
            out=spec.out,
            checkpoints=spec.checkpoints,
            parallel=spec.parallel,
            engine=spec.engine,
            shard=shard,
            progress=progress,
        )
        async with aclosing(results) as stream:
            async for result in stream:
                yield result


run = blocking.blocking_iterator(arun)
"""`arun` for scripts and notebooks: it waits."""


async def aplan(
    spec: RunSpec | Setup | str | Path,
    neurons: Iterable[AnyNeuron] | None = None,
    *,
    sample: int = 0,
    progress: Progress = None,
) -> Plan:
    """Say what a run will take before it is paid for: requests, tokens, dollars, simulator tokens, time, disk, memory.

    The models are loaded, and their speed is measured. Without a sample no language model is asked, and nothing is
    collected but from a little text; with one, exemplars are collected as the run would, and so many neurons are
    explained: both are kept, and the run goes on from there. See `Session.aplan`.

    Args:
        spec: the run, or the YAML file that describes it; or a setup, with the neurons.
        neurons: which, for a setup.
        sample: how many neurons to explain for the plan; 1 brings it near what the run takes.
        progress: whether to show the collection that a sample needs.

    Raises:
        ConfigurationError: the description is wrong, or its folder belongs to a run with other settings.
        NeuronScopeError: something cannot be found, loaded or reached.
    """
    from neuronscope.planning.ahead import plan_ahead
    from neuronscope.runs.spec import RunSpec

    if not isinstance(spec, Setup):
        spec = RunSpec.load(spec)
    if isinstance(spec, RunSpec) and neurons is None:
        return await plan_ahead(
            spec,
            spec.layers,
            spec.named,
            spec.chosen,
            out=spec.out,
            parallel=spec.parallel,
            sample=sample,
            progress=progress,
        )
    if neurons is None:
        raise ConfigurationError("A setup does not say which neurons: plan(setup, neurons).")
    known = as_neurons(neurons)
    layers = sorted({each.layer for each in known})
    return await plan_ahead(
        spec, layers, known, lambda store: known, out=None, parallel=None, sample=sample, progress=progress
    )


plan = blocking.blocking(aplan)
"""`aplan` for scripts and notebooks: it waits."""


@_takes_setup
async def aevaluate(
    explanations: Explanations,
    neuron: AnyNeuron | None = None,
    metrics: AnyMetrics = "all",
    *,
    subject: AnySubject | None = None,
    llm: LLMs = "offline",
    config: ExplainConfig | None = None,
    activation_threshold: float = ACTIVATION_THRESHOLD,
    n_bootstrap: int = 1000,
    seed: int = 0,
    **setup: Any,
) -> Evaluation:
    """Measure explanations of one neuron by many metrics, each with a bootstrap interval.

    The sequences are those on which `explain_neuron` with the same settings reports its test scores; thresholds and
    calibrations are fitted on its validation sequences.

    Args:
        explanations: a sentence, several, a mode, or a whole result with its modes.
        neuron: the neuron, or `(layer, index)`, or text such as `"9/740"`; None is the result's own.
        metrics: names of metrics (`docs/metrics.md` has them all and what each means), and metrics of your own; or
            "all" that have a name: those that cannot be had here are then listed in the table's `unavailable`, with the
            reason.
        subject: the model: anything `load_subject` takes, or a subject. It may be left out if the store has one bound,
            or knows all activations itself.
        llm: who judges detection, fuzzing and intruders beside the simulator and the embeddings, and writes the texts
            of "concept"; "offline" is nobody.
        config: sizes and seed of the held-out sets; None is the result's own, or else `ExplainConfig()`.
        activation_threshold: a token is active above this share of the neuron's largest activation, 0 to 1.
        n_bootstrap: draws behind each interval.
        seed: seeds the draws, the hard negatives, the marks of "fuzzing" and the rounds of "intruder".
        setup: the other arguments of `explain_neuron`: corpus, store, base_url, budget, embeddings, simulator,
            cache_dir.

    Raises:
        ConfigurationError: an argument is missing or makes no sense, or a metric that was named cannot be had.
        NeuronScopeError: something cannot be found, loaded or reached.
    """
    from neuronscope.evaluation import Request, check_request, measure

    asked = Request.of(
        explanations,
        neuron,
        metrics,
        config=config,
        activation_threshold=activation_threshold,
        n_bootstrap=n_bootstrap,
        seed=seed,
    )
    made = Setup(subject=subject, llm=llm, config=asked.config, **setup)
    check_request(asked, made)
    async with await made.aopen(neurons=[asked.neuron]) as session:
        with stopping_threads():
            return await measure(asked, session.resources)


evaluate = blocking.blocking(aevaluate)
"""`aevaluate` for scripts and notebooks: it waits."""
