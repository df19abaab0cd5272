"""From a setup to what it names: models, exemplars and budget, opened once for all neurons of a session."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from neuronscope.arguments import integer
from neuronscope.config import AnySubject, ExplainConfig, Progress, Setup
from neuronscope.errors import ConfigurationError, SubjectError
from neuronscope.interfaces import CountedSimulator, ExemplarSource, Simulator, Subject
from neuronscope.io import cache_folder
from neuronscope.subject.sites import check_neuron, common_site
from neuronscope.types import MLP, Neuron

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from neuronscope.corpus.documents import Corpus
    from neuronscope.evidence import EvidenceSource
    from neuronscope.llm import Budget, UsageTracker
    from neuronscope.llm.types import AnyLLM
    from neuronscope.llm.usage_log import NeuronLog
    from neuronscope.metrics.scorer import Scorer
    from neuronscope.state import Instruments

AT_ONCE, AT_ONCE_IN_BATCHES = 8, 1000
"""Neurons under way at once where nobody says; where they wait for batches together, each of the paper's models has
all of its neurons under way."""

NO_SUBJECT = (
    "There is no subject: pass subject=..., or a store that is bound to one, store.bind(subject), to have a neuron "
    "explained."
)


@runtime_checkable
class BindsSubject(Protocol):
    """A source that can be given the subject that computes its activations, as an `ExemplarStore` can."""

    def bind(self, subject: Subject) -> object:
        """Compute with this subject from now on."""


@runtime_checkable
class HasSubject(Protocol):
    """A source that knows its subject, if it has one."""

    @property
    def subject(self) -> Subject | None:
        """The subject."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What was opened for a setup. Neurons share all of it, but each has its costs counted apart."""

    setup: Setup
    """What was asked for."""
    subject: Subject | None
    """The model; None where a store that knows all activations is all there is, which is enough to evaluate."""
    store: ExemplarSource
    simulator: Simulator
    embeddings: Embeddings
    llm: AnyLLM | Mapping[str, AnyLLM]
    budget: Budget | None
    """What all neurons together may cost."""
    scorer: Scorer | None
    """Where the requests of all neurons to the simulator meet; None if it is counted by the neuron, and not shared."""
    evidence: EvidenceSource | None = None
    """What agents are shown of all neurons; None is one for each neuron."""

    @property
    def config(self) -> ExplainConfig:
        """The settings."""
        return self.setup.config

    @property
    def asks_models(self) -> bool:
        """Whether any agent or the simulator asks a language model."""
        models = list(self.llm.values()) if isinstance(self.llm, Mapping) else [self.llm]
        return any(model != "offline" for model in models) or isinstance(self.simulator, CountedSimulator)

    @property
    def is_quick(self) -> bool:
        """Whether a neuron takes a second or two, and may as well begin again if the process is killed."""
        from neuronscope.simulators.hybrid import HybridSimulator
        from neuronscope.simulators.reader import ReaderSimulator

        return not self.asks_models and isinstance(self.simulator, (HybridSimulator, ReaderSimulator))

    @property
    def asks_in_batches(self) -> bool:
        """Whether an agent's language model is asked in batches."""
        from neuronscope.llm.backends import AsksInBatches

        models = self.llm.values() if isinstance(self.llm, Mapping) else [self.llm]
        return any(isinstance(model, AsksInBatches) for model in models)

    def at_once(self, parallel: int | None) -> int:
        """How many neurons are under way at once.

        Raises:
            ConfigurationError: it is no number above 0.
        """
        if parallel is None:
            return AT_ONCE_IN_BATCHES if self.asks_in_batches else AT_ONCE
        return integer(parallel, "parallel", least=1)

    def instruments(self, log: NeuronLog | None = None) -> Instruments:
        """The instruments for one neuron.

        Args:
            log: where the neuron's costs are written down, if anywhere.

        Raises:
            SubjectError: there is no subject.
        """
        from neuronscope.state import Instruments

        if self.subject is None:
            raise SubjectError(NO_SUBJECT)
        make = partial(
            Instruments,
            subject=self.subject,
            store=self.store,
            simulator=self.simulator,
            embeddings=self.embeddings,
            llm=self.llm,
            config=self.config,
            usage=self.usage_tracker(log),
        )
        if self.evidence is not None:
            make = partial(make, evidence=self.evidence)
        return make() if self.scorer is None else make(scorer=self.scorer)

    def usage_tracker(self, log: NeuronLog | None = None) -> UsageTracker:
        """What counts the requests of one neuron, with the settings' limits, the cache of answers and the budget."""
        from neuronscope.llm import UsageTracker, shared_cache

        config = self.config
        return UsageTracker(
            budget=self.budget,
            cache=shared_cache(cache_folder("answers")) if config.cache_answers else None,
            concurrency=config.max_concurrency,
            requests_per_second=config.requests_per_second,
            log=log,
        )


def open_resources(
    setup: Setup, layers: Sequence[int], neurons: Sequence[Neuron] = (), progress: Progress = None
) -> Resources:
    """Resolve every name, load the models, and find or collect the exemplars.

    Args:
        setup: what to open.
        layers: whose neurons; without a store there must be one.
        neurons: known to be asked for: checked before the loading.
        progress: whether to show the collection.

    Raises:
        NeuronScopeError: something makes no sense, or cannot be found, loaded or reached.
    """
    from neuronscope.evidence import EvidenceSource
    from neuronscope.metrics.scorer import Scorer
    from neuronscope.simulators import resolve_simulator

    named = resolve_names(setup, layers, neurons)
    simulator = resolve_simulator(setup.simulator, llm=named.llm)
    store, site = named.store, common_site(neurons)
    subject = subject_of(store) if setup.subject is None else as_subject(setup.subject)
    if subject is not None:
        for neuron in [*(Neuron(layer, 0, site=site) for layer in layers), *neurons]:
            check_neuron(subject, neuron)
    if store is None:
        if subject is None or named.corpus is None:
            raise SubjectError(NO_SUBJECT)
        store = _collected(subject, layers, named.corpus, setup, progress, site)
    elif subject is not None and isinstance(store, BindsSubject):
        store.bind(subject)
    return Resources(
        setup=setup,
        subject=subject,
        store=store,
        simulator=simulator,
        embeddings=named.embeddings,
        llm=named.llm,
        budget=named.budget,
        scorer=None if isinstance(simulator, CountedSimulator) else Scorer(simulator, store),
        evidence=EvidenceSource(subject, store, setup.config),
    )


class Resolved(NamedTuple):
    """What names stand for, as far as nothing is loaded for it."""

    budget: Budget | None
    llm: AnyLLM | dict[str, AnyLLM]
    embeddings: Embeddings
    store: ExemplarSource | None
    corpus: Corpus | None


def resolve_names(setup: Setup, layers: Sequence[int], neurons: Sequence[Neuron] = ()) -> Resolved:
    """Look at everything that a setup names before anything is loaded or paid for, the quickest first.

    Raises:
        NeuronScopeError: something makes no sense, or does not exist.
    """
    from neuronscope.agents.refinement import NO_WRITER
    from neuronscope.corpus.sources import open_corpus
    from neuronscope.llm import Budget, check_reachable, resolve_llm
    from neuronscope.llm.embeddings import resolve_embeddings
    from neuronscope.simulators.registry import check_simulator

    config = setup.config
    budget = None if setup.budget is None else Budget.parse(setup.budget)
    check_simulator(setup.simulator)
    llm = resolve_llm(
        setup.llm, temperature=config.temperature, base_url=setup.base_url, timeout=config.request_timeout
    )
    if config.probe_texts and (llm["refinement"] if isinstance(llm, Mapping) else llm) == "offline":
        raise ConfigurationError(NO_WRITER)
    check_reachable(llm)
    embeddings = resolve_embeddings(setup.embeddings, llm)
    store = _opened(setup)
    corpus = open_corpus(setup.corpus) if store is None else None
    check_before_loading(setup.subject, [*((layer, 0) for layer in layers), *map(neuron_place, neurons)])
    return Resolved(budget, llm, embeddings, store, corpus)


def _opened(setup: Setup) -> ExemplarSource | None:
    """The store, if one was given."""
    store = setup.store
    if isinstance(store, (str, os.PathLike)):
        from neuronscope.exemplars.store import open_store

        return open_store(Path(store))
    if store is None or isinstance(store, ExemplarSource):
        return store
    raise ConfigurationError(
        f"A {type(store).__name__} is no store: give what collect_exemplars returns, the folder of one, or an object "
        "with exemplars, random_sequences and by_id."
    )


def subject_of(store: object) -> Subject | None:
    """The subject that a store is bound to."""
    return store.subject if isinstance(store, HasSubject) else None


def _collected(
    subject: Subject, layers: Sequence[int], corpus: Corpus, setup: Setup, progress: Progress, site: str
) -> ExemplarSource:
    """The exemplars of some layers as the settings want them: collected now, or before.

    Of sessions that open at once on a shared disk, such as the shards of a run, one collects and the others wait.
    """
    from neuronscope.exemplars.collect import collect_exemplars
    from neuronscope.exemplars.identity import folder_name, identify
    from neuronscope.exemplars.partial_store import taking_turns

    config = setup.config
    root = cache_folder("stores") if setup.cache_dir is None else setup.cache_dir.expanduser()
    same = [identify(subject)["fingerprint"], corpus.key(), [*layers], config.seq_len, config.n_tokens, site]
    with taking_turns(root / f"{folder_name({'same': same})}.lock"):
        return collect_exemplars(
            subject,
            layers=layers,
            progress=progress if isinstance(progress, bool) else None,
            **collection_arguments(setup, corpus, site),
        )


def collection_arguments(setup: Setup, corpus: Corpus, site: str) -> dict[str, Any]:
    """What `collect_exemplars` is given beside the subject and the layers."""
    from neuronscope.exemplars.sampling import at_least

    config = setup.config
    return {
        "corpus": corpus,
        "seq_len": config.seq_len,
        "top_k": at_least(config.n_train_exemplars, config.heldout_top),
        "n_tokens": config.n_tokens,
        "cache_dir": setup.cache_dir,
        "site": site,
    }


def neuron_place(neuron: Neuron) -> tuple[int, int]:
    """Layer and index, as far as a configuration knows them: of another site than the MLP only the layer."""
    return neuron.layer, neuron.index if neuron.site == MLP else 0


def check_before_loading(subject: AnySubject | None, places: Sequence[tuple[int, int]]) -> None:
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
