"""The front door: explain one neuron, from a model's name to the result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuronscope import blocking
from neuronscope.config import ExplainConfig
from neuronscope.events import ProgressEvent
from neuronscope.interfaces import ExemplarSource, Simulator
from neuronscope.results import NeuronExplanation
from neuronscope.runs.run import aexplain_neurons, explain_neurons
from neuronscope.session import equip
from neuronscope.stopping import stopping_threads
from neuronscope.types import Neuron

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from neuronscope.llm import Budget
    from neuronscope.session import AnySubject, LLMs
    from neuronscope.state import Instruments

__all__ = ["aexplain_neuron", "aexplain_neurons", "explain_neuron", "explain_neurons", "run_graph"]


async def aexplain_neuron(
    subject: AnySubject,
    *,
    layer: int,
    neuron: int,
    sign: int = 1,
    corpus: Any = "builtin",
    store: ExemplarSource | None = None,
    llm: LLMs = "auto",
    base_url: str | None = None,
    budget: str | Budget | None = None,
    embeddings: str | Embeddings = "auto",
    simulator: str | Simulator = "auto",
    config: ExplainConfig | None = None,
    cache_dir: str | Path | None = None,
    progress: bool | Callable[[ProgressEvent], object] | None = None,
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
        progress: whether to show what is going on; None shows it in a notebook and in a terminal. Or a function of
            your own: it is called with every `ProgressEvent`, in the event loop, so it should be quick. An exception
            that it raises ends the run.

    Raises:
        NeuronScopeError: something cannot be found, loaded or reached. An agent that fails on the way is no
            exception: the result has the status "partial" and says what happened.
    """
    unit = Neuron(layer, neuron, sign)
    with stopping_threads():
        equipment = await blocking.in_callers_thread(
            equip,
            subject,
            [unit],
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
        return await run_graph(unit, equipment.instruments(), progress)


explain_neuron = blocking.blocking(aexplain_neuron)
"""`aexplain_neuron` for scripts and notebooks: it waits."""


async def run_graph(
    neuron: Neuron, instruments: Instruments, progress: bool | Callable[[ProgressEvent], object] | None = None
) -> NeuronExplanation:
    """Run the default graph on one neuron, and show how it goes."""
    from neuronscope.display import watching
    from neuronscope.graphs import build_neuron_graph, stream_events

    with watching(progress, neuron) as listener:
        async for item in stream_events(build_neuron_graph(), neuron, instruments):
            if isinstance(item, NeuronExplanation):
                explanation = item  # the last item of every stream
            else:
                listener(item)
    return explanation
