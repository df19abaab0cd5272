"""A session: what a setup names, opened once, and everything that one can ask of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from neuronscope import blocking
from neuronscope.arguments import integers
from neuronscope.config import ACTIVATION_THRESHOLD, ExplainConfig, Progress, Setup
from neuronscope.errors import ConfigurationError, SubjectError
from neuronscope.interfaces import ExemplarSource, Simulator, Subject
from neuronscope.neurons import AnyNeuron, as_neurons, one_neuron
from neuronscope.resources import NO_SUBJECT, Resources, open_resources
from neuronscope.results import NeuronExplanation
from neuronscope.stopping import stopping_threads
from neuronscope.subject.sites import check_neuron
from neuronscope.types import Neuron

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings
    from langgraph.checkpoint.base import BaseCheckpointSaver

    from neuronscope.baselines.registry import AnyBaselines
    from neuronscope.cluster import RayEngine
    from neuronscope.comparison import MethodScore
    from neuronscope.evaluation import Explanations
    from neuronscope.graphs.explainer import Scored
    from neuronscope.interfaces import Explainer
    from neuronscope.llm import Budget
    from neuronscope.metrics.registry import AnyMetrics
    from neuronscope.metrics.table import Evaluation
    from neuronscope.neurons import Index
    from neuronscope.planning.plan import Plan
    from neuronscope.runs.shard import AnyShard
    from neuronscope.state import Instruments


@runtime_checkable
class HasLayers(Protocol):
    """A source that holds the neurons of some layers, and knows which."""

    @property
    def layers(self) -> Sequence[int]:
        """The layers."""


class Session:
    """The models, exemplars and budget of a setup, loaded once; made by `Setup.open`.

    It ends with `close()`, or as a context manager, `with` or `async with`. What was given to the setup as an object
    stays open. Threads may share a session.
    """

    def __init__(self, resources: Resources) -> None:
        self._open: Resources | None = resources
        store = resources.store
        self.layers: tuple[int, ...] | None = tuple(store.layers) if isinstance(store, HasLayers) else None
        """The layers whose neurons it has; None if its source does not say."""

    @classmethod
    def open(
        cls,
        setup: Setup,
        layers: Iterable[int] | int | None = None,
        *,
        neurons: Iterable[AnyNeuron] = (),
        progress: Progress = None,
    ) -> Session:
        """See `Setup.open`."""
        return blocking.run(partial(cls.aopen, setup, layers, neurons=neurons, progress=progress))

    @classmethod
    async def aopen(
        cls,
        setup: Setup,
        layers: Iterable[int] | int | None = None,
        *,
        neurons: Iterable[AnyNeuron] = (),
        progress: Progress = None,
    ) -> Session:
        """See `Setup.aopen`."""
        known = as_neurons(neurons)
        wanted = sorted({*([] if layers is None else integers(layers, "layers")), *(each.layer for each in known)})
        if not wanted and setup.store is None:
            raise ConfigurationError("Name the layers whose neurons are to be explained: open(layers=[5, 9]).")
        with stopping_threads():
            resources = await blocking.in_callers_thread(open_resources, setup, wanted, known, progress)
        session = cls(resources)
        for layer in wanted:
            session._check_layer(layer)
        return session

    def close(self) -> None:
        """Let go of the models and the exemplars; a second time changes nothing."""
        self._open = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._open is None:
            return "Session(closed)"
        subject = self._open.subject
        name = getattr(subject, "name", type(subject).__name__)
        return f"Session({name!r}{'' if self.layers is None else f', layers {list(self.layers)}'})"

    # What it has

    @property
    def resources(self) -> Resources:
        """All of it together, for what is built on a session.

        Raises:
            ConfigurationError: the session is closed.
        """
        if self._open is None:
            raise ConfigurationError("This session is closed. Open another one: setup.open(layers=...).")
        return self._open

    @property
    def setup(self) -> Setup:
        """What it was opened for."""
        return self.resources.setup

    @property
    def config(self) -> ExplainConfig:
        """The settings."""
        return self.resources.config

    @property
    def subject(self) -> Subject:
        """The model.

        Raises:
            SubjectError: there is none, but only a store.
        """
        if (subject := self.resources.subject) is None:
            raise SubjectError(NO_SUBJECT)
        return subject

    @property
    def store(self) -> ExemplarSource:
        """The exemplars."""
        return self.resources.store

    @property
    def simulator(self) -> Simulator:
        """What predicts activations from explanations."""
        return self.resources.simulator

    @property
    def embeddings(self) -> Embeddings:
        """What compares texts."""
        return self.resources.embeddings

    @property
    def budget(self) -> Budget | None:
        """What all its neurons together may cost, and have cost."""
        return self.resources.budget

    def instruments(
        self, layer: Index | AnyNeuron | None = None, neuron: Index | AnyNeuron | None = None, *, sign: int = 1
    ) -> Instruments:
        """What a graph of one's own works with: `graph.ainvoke({"neuron": neuron}, context=lab.instruments(neuron))`.

        Each call counts its usage from zero; the scorer is the one that all neurons of the session share.

        Args:
            layer: the neuron, or its layer: as for `explain`.
            neuron: the index within the layer.
            sign: of the index.

        Raises:
            NeuronScopeError: there is no such neuron, or the session does not have its layer.
        """
        self.neuron(layer, neuron, sign)
        return self.resources.instruments()

    # What it does

    async def aexplain(
        self,
        layer: Index | AnyNeuron | None = None,
        neuron: Index | AnyNeuron | None = None,
        *,
        sign: int = 1,
        progress: Progress = None,
    ) -> NeuronExplanation:
        """Find what one neuron responds to: `explain(9, 740)`, or `explain(ns.Neuron(9, 740))`.

        `explain` waits, in scripts and inside a running event loop (Jupyter) alike; `aexplain` is awaited.

        Args:
            layer: the layer, from 0; or the whole neuron: `ns.Neuron(9, 740)`, `(9, 740)`, `"9/740"`.
            neuron: the index within the layer, from 0.
            sign: 1 for what its large values mean, -1 for its large negative values; a whole neuron has its own.
            progress: whether to show what is going on; None shows it in a notebook and in a terminal. Or a function
                that is called with every `ProgressEvent`.

        Raises:
            NeuronScopeError: there is no such neuron, or the session does not have its layer. An agent that fails is no
                exception: the result has the status "partial" and says what happened.
        """
        from neuronscope.runs.runner import run_graph

        unit = self.neuron(layer, neuron, sign)
        with stopping_threads():
            return await run_graph(unit, self.resources.instruments(), progress)

    explain = blocking.blocking(aexplain)
    """`aexplain` for scripts and notebooks: it waits."""

    async def ascore_explainer(
        self,
        explainer: Explainer,
        layer: Index | AnyNeuron | None = None,
        neuron: Index | AnyNeuron | None = None,
        *,
        sign: int = 1,
    ) -> Scored:
        """Have a baseline, or a method of your own, explain one neuron, and score it as `explain` scores its modes.

        The exemplars, the simulator and the scores are those of `explain` with the same settings.

        Args:
            explainer: one of `neuronscope.baselines`, or anything with a `name` and `explain` (`interfaces.Explainer`).
            layer: the neuron, or its layer: as for `explain`.
            neuron: the index within the layer.
            sign: of the index.

        Raises:
            NeuronScopeError: there is no such neuron, or the explainer, its model or the simulator failed.
        """
        from neuronscope.graphs.explainer import score_explainer

        unit = self.neuron(layer, neuron, sign)
        with stopping_threads():
            return await score_explainer(explainer, unit, self.resources.instruments())

    score_explainer = blocking.blocking(ascore_explainer)
    """`ascore_explainer` for scripts and notebooks: it waits."""

    async def aexplain_many(
        self,
        neurons: Iterable[AnyNeuron],
        *,
        out: str | Path | None = None,
        checkpoints: str | Path | BaseCheckpointSaver[Any] | None = "auto",
        parallel: int | None = None,
        engine: str | RayEngine = "local",
        shard: AnyShard | None = None,
        progress: Progress = None,
    ) -> AsyncGenerator[NeuronExplanation, None]:
        """Explain many neurons, several at a time, and yield each result as it is finished.

        `aexplain_many` is iterated with `async for`, `explain_many` with `for`, also inside a running event loop. With
        `out`, an equal call goes on where this one was stopped: see `explain_neurons`.

        Args:
            neurons: which: `Neuron` objects, `(layer, index)`, `(layer, index, sign)`, or text such as `"9/740"`; also
                rows of arrays and tables, with the columns "layer" and "neuron".
            out: the run's folder, made if it is missing; None keeps nothing.
            checkpoints: where the steps of neurons under way are stored: "auto" is a file in `out`, or nowhere if
                neither agents nor simulator run a language model; a file; the URL of a Postgres database; a LangGraph
                checkpointer; or None.
            parallel: neurons under way at once; None is 8, or 1,000 where they wait for batches (docs/backends.md).
            engine: `"local"`, or `"ray"` for the workers of a Ray cluster.
            shard: one of n parts of the neurons only, `(i, n)`: as for `explain_neurons`.
            progress: whether to show what is going on; or a function that gets every `ProgressEvent`.

        Raises:
            ConfigurationError: an argument makes no sense, or `out` belongs to a run with other settings.
            NeuronScopeError: there is no such neuron. What fails for one neuron is no exception: its result is partial.
        """
        from neuronscope.runs.run import explain_many

        chosen = [self.neuron(each) for each in as_neurons(neurons)]
        results = explain_many(
            self.resources,
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

    explain_many = blocking.blocking_iterator(aexplain_many)
    """`aexplain_many` for scripts and notebooks: it waits."""

    async def acompare(
        self,
        neurons: Iterable[AnyNeuron],
        methods: AnyBaselines | None = None,
        *,
        explanations: Iterable[NeuronExplanation] = (),
        out: str | Path | None = None,
        parallel: int | None = None,
        progress: Progress = None,
    ) -> AsyncGenerator[MethodScore, None]:
        """Score several methods on the same neurons, exemplars and simulator, and yield a row for each of both.

        `ns.Comparison(lab.compare(neurons))` has the statistics. Neurons are explained first, as by `explain_many`,
        where a method is made from that; `docs/methods.md` says what each method does. A method that fails for a
        neuron has a row without scores, which says why.

        Args:
            neurons: which, as for `explain_many`; nulls need several.
            methods: names with commas between, or a list of names and explainers; None is all that have a name.
            explanations: results of `explain` with the same settings: these neurons are not explained again, and others
                than `neurons` serve as nulls.
            out: a folder, which keeps explanations and rows: an equal call goes on where this one was stopped.
            parallel: neurons under way at once; None is 8, or 1,000 where they wait for batches (docs/backends.md).
            progress: whether to show how the neurons are explained.

        Raises:
            ConfigurationError: there is no such method, or `out` belongs to something else.
            BudgetExceededError: the budget is spent.
        """
        from neuronscope.runs.compare import METHODS, compare

        chosen = [self.neuron(each) for each in as_neurons(neurons)]
        wanted = METHODS if methods is None else methods
        rows = compare(self.resources, chosen, wanted, out, progress, explanations, parallel)
        async with aclosing(rows) as stream:
            async for row in stream:
                yield row

    compare = blocking.blocking_iterator(acompare)
    """`acompare` for scripts and notebooks: it waits."""

    async def aplan(
        self,
        neurons: Iterable[AnyNeuron],
        *,
        out: str | Path | None = None,
        parallel: int | None = None,
        sample: int = 0,
    ) -> Plan:
        """Say what `explain_many` with these arguments will take: requests, tokens, dollars, time, disk and memory.

        Without a sample no language model is asked: requests and tokens follow from the settings and stated constants,
        time from the speed of this machine, which is measured on a few sequences. With one, that many neurons are
        explained as the run would, and counted. With `out` their results stay there, without it their answers in the
        cache: the run does not pay for them again. Neurons that `out` has finished already are counted, too.

        Args:
            neurons: which, as for `explain_many`.
            out: the run's folder; what it has finished is not left to do. Without a sample it is not made.
            parallel: neurons under way at once; None is 8, or 1,000 where they wait for batches (docs/backends.md).
            sample: how many neurons to explain for the plan; 1 brings it near what the run takes.

        Raises:
            ConfigurationError: an argument makes no sense, or `out` belongs to a run with other settings.
            NeuronScopeError: there is no such neuron; or the subject or the simulator failed.
        """
        from neuronscope.planning.make import make_plan

        chosen = [self.neuron(each) for each in as_neurons(neurons)]
        with stopping_threads():
            return await make_plan(self.resources, chosen, out=out, parallel=parallel, sample=sample)

    plan = blocking.blocking(aplan)
    """`aplan` for scripts and notebooks: it waits."""

    async def aevaluate(
        self,
        explanations: Explanations,
        neuron: AnyNeuron | None = None,
        metrics: AnyMetrics = "all",
        *,
        config: ExplainConfig | None = None,
        activation_threshold: float = ACTIVATION_THRESHOLD,
        n_bootstrap: int = 1000,
        seed: int = 0,
    ) -> Evaluation:
        """Measure explanations of one neuron by many metrics, on the same held-out sequences: see `ns.evaluate`.

        Beside the simulator and the embeddings the session's language model judges, if it has one: of a mapping the
        one of "judge", or else of "default".

        Args:
            explanations: a sentence, several, a mode, or a whole result with its modes.
            neuron: the neuron; None is the result's own.
            metrics: names of metrics and metrics of your own, or "all" named ones that can be had here.
            config: sizes and seed of the held-out sets; None is the result's own, or else the session's.
            activation_threshold: a token is active above this share of the neuron's largest activation, 0 to 1.
            n_bootstrap: draws behind each interval.
            seed: seeds the draws.

        Raises:
            ConfigurationError: an argument makes no sense, or a metric that was named cannot be had.
            NeuronScopeError: there is no such neuron, or the session does not have its layer.
        """
        from neuronscope.evaluation import Request, measure

        request = Request.of(
            explanations,
            neuron,
            metrics,
            config=config,
            activation_threshold=activation_threshold,
            n_bootstrap=n_bootstrap,
            seed=seed,
        )
        self.neuron(request.neuron)
        with stopping_threads():
            return await measure(request, self.resources)

    evaluate = blocking.blocking(aevaluate)
    """`aevaluate` for scripts and notebooks: it waits."""

    def neuron(self, layer: Index | AnyNeuron | None, neuron: Index | AnyNeuron | None = None, sign: int = 1) -> Neuron:
        """The neuron that people mean by `(9, 740)`, `ns.Neuron(9, 740)` or `"9/740"`.

        Raises:
            NeuronScopeError: there is no such neuron, or the session does not have its layer.
        """
        unit, subject = one_neuron(layer, neuron, sign), self.resources.subject
        self._check_layer(unit.layer)
        if subject is not None:
            check_neuron(subject, unit)
        return unit

    def _check_layer(self, layer: int) -> None:
        if self.layers is not None and layer not in self.layers:
            has = f"layer{'s' if len(self.layers) > 1 else ''} {', '.join(map(str, self.layers))}"
            if self._open and self._open.setup.store is not None:
                raise ConfigurationError(
                    f"The store has {has}, not layer {layer}. Give one that has it: collect_exemplars(..., "
                    f"layers=[{layer}])."
                )
            raise ConfigurationError(
                f"This session has {has}, not layer {layer}. Open one that has it: open(layers=[{layer}])."
            )
