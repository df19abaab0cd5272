"""The front door: explain one neuron, from a model's name to the result."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from neuronscope.config import ExplainConfig
from neuronscope.engine import local
from neuronscope.errors import SubjectError
from neuronscope.files import cache_folder
from neuronscope.protocols import ExemplarSource, Simulator, Subject
from neuronscope.result import NeuronExplanation
from neuronscope.units import Neuron

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings
    from langchain_core.language_models import BaseChatModel

    from neuronscope.llm import Budget, Meter
    from neuronscope.state import Instruments

DEFAULT_TOP_K = 100
"""Top sequences that a store keeps per neuron and split, unless the settings ask for more."""


async def aexplain_neuron(
    subject: str | os.PathLike[str] | tuple[Any, Any] | Subject,
    *,
    layer: int,
    neuron: int,
    sign: int = 1,
    corpus: Any = "builtin",
    store: ExemplarSource | None = None,
    llm: str | BaseChatModel | Mapping[str, str | BaseChatModel] = "auto",
    base_url: str | None = None,
    budget: str | Budget | None = None,
    embeddings: str | Embeddings = "auto",
    simulator: str | Simulator = "auto",
    config: ExplainConfig | None = None,
    cache_dir: str | Path | None = None,
    progress: bool | None = None,
) -> NeuronExplanation:
    """Find what one neuron responds to: every meaning, each with a held-out score.

    `aexplain_neuron` is awaited; `explain_neuron` waits, in scripts and inside a running event loop (Jupyter) alike.

    Args:
        subject: the model: anything `load_subject` takes, or a subject.
        layer: layer number, from 0.
        neuron: the neuron's number within the layer, from 0.
        sign: 1 for what its large values mean, -1 for its large negative values.
        corpus: the text to look at, if no store is given: anything `collect_exemplars` takes.
        store: exemplars collected before.
        llm: a name that LangChain's `init_chat_model` knows, `"llamacpp:<file>"`, a chat model, a mapping from agent to
            these, "offline" for none, or "auto": `openai:gpt-4o` if an OpenAI key is set, else "offline".
        base_url: address of an OpenAI-compatible server, such as `http://127.0.0.1:8080/v1`, that has the model.
        budget: what the language model may cost: `"5$"`, `"200k tokens"`, or a `Budget` that several neurons share.
            When it is spent the result is partial; the same call with a larger one goes on from there.
        embeddings: for the clustering: a name, LangChain embeddings, or "auto".
        simulator: what predicts activations from explanations: "transluce", "prompted:<model>", "chat", "hybrid",
            "auto" (see `resolve_simulator`), or a simulator.
        config: every other setting; None is `ExplainConfig()`.
        cache_dir: where collected exemplars are kept; None is the user's cache folder.
        progress: whether to show what is going on; None shows it in a terminal.

    Raises:
        NeuronScopeError: something cannot be found, loaded or reached. An agent that fails on the way is no
            exception: the result has the status "partial" and says what happened.
    """
    unit = Neuron(layer, neuron, sign)
    instruments = await asyncio.to_thread(
        make_instruments,
        subject,
        unit,
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
    return await run_graph(unit, instruments, progress)


explain_neuron = local.blocking(aexplain_neuron)
"""`aexplain_neuron` for scripts and notebooks: it waits."""


def make_instruments(
    subject: str | os.PathLike[str] | tuple[Any, Any] | Subject,
    neuron: Neuron,
    *,
    corpus: Any = "builtin",
    store: ExemplarSource | None = None,
    llm: str | BaseChatModel | Mapping[str, str | BaseChatModel] = "auto",
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
    from neuronscope.embeddings import resolve_embeddings
    from neuronscope.llm import check_reachable, resolve_llm
    from neuronscope.simulators import resolve_simulator
    from neuronscope.state import Instruments

    config = config or ExplainConfig()
    meter = make_meter(config, budget)
    models = resolve_llm(llm, temperature=config.temperature, base_url=base_url, timeout=config.request_timeout)
    check_reachable(models)
    vectors = resolve_embeddings(embeddings, models)
    simulates = resolve_simulator(simulator, llm=models)
    loaded = as_subject(subject)
    check_neuron(loaded, neuron)
    if store is None:
        store = collect_for(loaded, neuron.layer, corpus, config, cache_dir, progress)
    elif hasattr(store, "bind"):
        store.bind(loaded)
    return Instruments(
        subject=loaded,
        store=store,
        simulator=simulates,
        embeddings=vectors,
        llm=models,
        config=config,
        meter=meter,
    )


def make_meter(config: ExplainConfig, budget: str | Budget | None = None) -> Meter:
    """What counts one run's requests, with the settings' limits, cache and budget."""
    from neuronscope.llm import Budget, Meter, shared_cache

    return Meter(
        budget=None if budget is None else Budget.parse(budget),
        cache=shared_cache(cache_folder("answers")) if config.cache_answers else None,
        concurrency=config.max_concurrency,
        requests_per_second=config.requests_per_second,
    )


async def run_graph(neuron: Neuron, instruments: Instruments, progress: bool | None = None) -> NeuronExplanation:
    """Run the default graph on one neuron, and show how it goes."""
    from neuronscope.graphs import build_neuron_graph
    from neuronscope.progress import GraphProgress

    explanation: NeuronExplanation | None = None
    with GraphProgress(str(neuron), progress) as shown:
        events = build_neuron_graph().astream(
            {"neuron": neuron}, context=instruments, stream_mode=["tasks", "updates"], subgraphs=True
        )
        stream = cast(AsyncIterator[tuple[tuple[str, ...], str, dict[str, Any]]], events)
        async for namespace, kind, event in stream:
            shown.update(namespace, kind, event)
            if kind == "updates" and not namespace and "conclude" in event:
                explanation = event["conclude"]["explanation"]
    if explanation is None:
        raise RuntimeError("The graph ended without its last node, conclude.")
    return explanation


def check_neuron(subject: Subject, neuron: Neuron) -> None:
    """Say in words which neurons there are, if this is none of them.

    Raises:
        SubjectError: the layer or the neuron does not exist.
    """
    name = getattr(subject, "name", type(subject).__name__)
    if neuron.layer >= subject.n_layers:
        raise SubjectError(
            f"{name} has layers 0 to {subject.n_layers - 1}; there is no layer {neuron.layer}. Choose one of these."
        )
    width = subject.width(neuron.layer)
    if neuron.index >= width:
        raise SubjectError(
            f"Layer {neuron.layer} of {name} has neurons 0 to {width - 1}; there is no neuron {neuron.index}. Choose "
            "one of these."
        )


def as_subject(subject: str | os.PathLike[str] | tuple[Any, Any] | Subject) -> Subject:
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
    layer: int,
    corpus: Any,
    config: ExplainConfig,
    cache_dir: str | Path | None,
    progress: bool | None,
) -> ExemplarSource:
    """The exemplars of a layer as the settings want them: collected now, or before."""
    from neuronscope.exemplars.collector import collect_exemplars

    return collect_exemplars(
        subject,
        corpus=corpus,
        layers=[layer],
        seq_len=config.seq_len,
        top_k=max(DEFAULT_TOP_K, config.n_train_exemplars, config.heldout_top),
        n_tokens=config.n_tokens,
        cache_dir=cache_dir,
        progress=progress,
    )
