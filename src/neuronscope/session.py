"""From names to objects, once for all neurons of a call."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from neuronscope.config import ExplainConfig
from neuronscope.errors import ConfigurationError, SubjectError
from neuronscope.interfaces import CountedSimulator, ExemplarSource, Simulator, Subject
from neuronscope.io import cache_folder
from neuronscope.subject.sites import check_neuron, common_site
from neuronscope.types import MLP, Neuron

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings
    from langchain_core.language_models import BaseChatModel

    from neuronscope.llm import Budget, UsageTracker
    from neuronscope.llm.types import AnyLLM
    from neuronscope.llm.usage_log import Page
    from neuronscope.state import Instruments

    AnySubject = str | os.PathLike[str] | tuple[Any, Any] | Subject
    LLMs = str | BaseChatModel | Mapping[str, str | BaseChatModel]


@dataclass(kw_only=True)
class Equipment:
    """What the neurons of a call share."""

    shared: Instruments
    """Models, store and settings; each neuron's costs are counted apart."""
    budget: Budget | None = None
    """What all neurons together may cost."""

    def instruments(self, page: Page | None = None) -> Instruments:
        """The instruments for one neuron.

        Args:
            page: where the neuron's costs are written down, if anywhere.
        """
        return self.shared.counted_by(make_usage_tracker(self.shared.config, self.budget, page))

    @property
    def asks_models(self) -> bool:
        """Whether any agent or the simulator asks a language model."""
        llm = self.shared.llm
        models = list(llm.values()) if isinstance(llm, Mapping) else [llm]
        return any(model != "offline" for model in models) or isinstance(self.shared.simulator, CountedSimulator)


def equip(
    subject: AnySubject,
    neurons: Sequence[Neuron],
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
    progress: bool | None = None,
) -> Equipment:
    """Resolve every name, load the subject, and find or collect the exemplars; the arguments are `explain_neurons`'s.

    Raises:
        NeuronScopeError: something cannot be found, loaded or reached.
    """
    from neuronscope.simulators import resolve_simulator
    from neuronscope.state import Instruments

    named = resolve_names(
        subject,
        [neuron_place(neuron) for neuron in neurons],
        corpus=corpus,
        store=store,
        llm=llm,
        base_url=base_url,
        budget=budget,
        embeddings=embeddings,
        simulator=simulator,
        config=config,
    )
    simulates = resolve_simulator(simulator, llm=named.llm)
    loaded = as_subject(subject)
    for neuron in neurons:
        check_neuron(loaded, neuron)
    if store is None:
        layers, site = sorted({neuron.layer for neuron in neurons}), common_site(neurons)
        store = collect_for(loaded, layers, named.corpus, named.config, cache_dir, progress, site)
    elif hasattr(store, "bind"):
        store.bind(loaded)
    return Equipment(
        shared=Instruments(
            subject=loaded,
            store=store,
            simulator=simulates,
            embeddings=named.embeddings,
            llm=named.llm,
            config=named.config,
        ),
        budget=named.budget,
    )


class Named(NamedTuple):
    """What names stand for, as far as nothing is loaded for it."""

    config: ExplainConfig
    budget: Budget | None
    llm: AnyLLM | dict[str, AnyLLM]
    embeddings: Embeddings
    corpus: Any


def resolve_names(
    subject: AnySubject,
    places: Sequence[tuple[int, int]],
    *,
    corpus: Any,
    store: ExemplarSource | None,
    llm: LLMs,
    base_url: str | None,
    budget: str | Budget | None,
    embeddings: str | Embeddings,
    simulator: str | Simulator,
    config: ExplainConfig | None,
) -> Named:
    """Look at all arguments before anything is loaded or paid for, the quickest first.

    Args:
        subject: as for `explain_neurons`, as are the others.
        places: the neurons, by layer and index.
        corpus: opened if there is no store.
        store: exemplars collected before.
        llm: a name, a chat model, or one per agent.
        base_url: where a named model is.
        budget: what may be spent.
        embeddings: a name, or LangChain's.
        simulator: a name, or a simulator.
        config: the settings.

    Raises:
        NeuronScopeError: one of them makes no sense, or names something that does not exist.
    """
    from neuronscope.agents.refinement import NO_WRITER
    from neuronscope.corpus.sources import open_corpus
    from neuronscope.llm import Budget, check_reachable, resolve_llm
    from neuronscope.llm.embeddings import resolve_embeddings
    from neuronscope.simulators.registry import check_simulator

    config = checked_config(config)
    limit = None if budget is None else Budget.parse(budget)
    check_simulator(simulator)
    models = resolve_llm(llm, temperature=config.temperature, base_url=base_url, timeout=config.request_timeout)
    if config.probe_texts and _refines_offline(models):
        raise ConfigurationError(NO_WRITER)
    check_reachable(models)
    vectors = resolve_embeddings(embeddings, models)
    opened = open_corpus(corpus) if store is None else None
    check_before_loading(subject, places)
    return Named(config, limit, models, vectors, opened)


def checked_config(config: ExplainConfig | None) -> ExplainConfig:
    """The settings; None is the defaults.

    Raises:
        ConfigurationError: it is something else.
    """
    if config is None or isinstance(config, ExplainConfig):
        return config or ExplainConfig()
    raise ConfigurationError(f"config is a {type(config).__name__}: give ns.ExplainConfig(n_tokens=100_000, ...).")


def neuron_place(neuron: Neuron) -> tuple[int, int]:
    """Layer and index, as far as a configuration knows them: of another site than the MLP only the layer."""
    return neuron.layer, neuron.index if neuron.site == MLP else 0


def check_before_loading(subject: Any, places: Sequence[tuple[int, int]]) -> None:
    """Refuse a layer or a neuron that a model of this name does not have, without loading its weights.

    Raises:
        SubjectError: the layer or the neuron does not exist.
    """
    if not isinstance(subject, (str, os.PathLike)) or not places:
        return
    from neuronscope.subject.shape import shape_beyond

    if (shape := shape_beyond(subject, places)) is not None:
        for layer, index in places:
            check_neuron(shape, Neuron(layer, index))


def make_instruments(
    subject: AnySubject,
    neuron: Neuron,
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
    progress: bool | None = None,
) -> Instruments:
    """Turn names into what a graph works with: `graph.ainvoke({"neuron": neuron}, context=make_instruments(...))`.

    It loads, and collects exemplars, which takes a while: call it in a thread where an event loop must go on. The
    arguments are those of `explain_neuron`.

    Raises:
        NeuronScopeError: something cannot be found, loaded or reached.
    """
    equipment = equip(
        subject,
        [neuron],
        corpus=corpus,
        store=store,
        llm=llm,
        base_url=base_url,
        budget=budget,
        embeddings=embeddings,
        simulator=simulator,
        config=config,
        cache_dir=cache_dir,
        progress=progress,
    )
    return equipment.instruments()


def make_usage_tracker(
    config: ExplainConfig, budget: str | Budget | None = None, page: Page | None = None
) -> UsageTracker:
    """What counts one run's requests, with the settings' limits, cache and budget.

    Args:
        config: the limits, and whether answers are kept.
        budget: what may be spent.
        page: where the costs are written down, if anywhere.
    """
    from neuronscope.llm import Budget, UsageTracker, shared_cache

    return UsageTracker(
        budget=None if budget is None else Budget.parse(budget),
        cache=shared_cache(cache_folder("answers")) if config.cache_answers else None,
        concurrency=config.max_concurrency,
        requests_per_second=config.requests_per_second,
        page=page,
    )


def as_subject(subject: AnySubject) -> Subject:
    """Load what `load_subject` takes; a subject is taken as it is.

    Raises:
        SubjectError: it is neither, or cannot be loaded.
    """
    if isinstance(subject, (str, os.PathLike, tuple)):
        from neuronscope.subject.loading import load_subject

        return load_subject(subject)
    if isinstance(subject, Subject):
        return subject
    raise SubjectError(
        f"A {type(subject).__name__} is no subject: give a name, a folder, a (model, tokenizer) pair, or an object "
        "with tokenizer, n_layers, width and activations."
    )


def collect_for(
    subject: Subject,
    layers: Sequence[int],
    corpus: Any,
    config: ExplainConfig,
    cache_dir: str | Path | None,
    progress: bool | None,
    site: str = MLP,
) -> ExemplarSource:
    """The exemplars of some layers as the settings want them: collected now, or before."""
    from neuronscope.exemplars.collect import collect_exemplars
    from neuronscope.exemplars.sampling import at_least

    return collect_exemplars(
        subject,
        corpus=corpus,
        layers=layers,
        seq_len=config.seq_len,
        top_k=at_least(config.n_train_exemplars, config.heldout_top),
        n_tokens=config.n_tokens,
        cache_dir=cache_dir,
        progress=progress,
        site=site,
    )


def _refines_offline(models: AnyLLM | Mapping[str, AnyLLM]) -> bool:
    return (models["refinement"] if isinstance(models, Mapping) else models) == "offline"
