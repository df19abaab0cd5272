"""The graphs for LangGraph's development server and Studio: `langgraph.json` at the repository's root names them.

`langgraph dev` starts the server (extra `[studio]`). The input is JSON such as `{"neuron": {"layer": 9, "index":
740}}`, the context the fields of `ServingSettings`; `serve` does the same for a graph of your own.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from neuronscope.config import ExplainConfig
from neuronscope.locks import Lock
from neuronscope.session import as_subject, make_instruments, make_usage_tracker
from neuronscope.subject.sites import check_neuron
from neuronscope.types import Neuron

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

    from neuronscope.graphs.server import ServedGraph
    from neuronscope.interfaces import Subject
    from neuronscope.state import Instruments


class ServingSettings(BaseModel):
    """What `explain_neuron` takes, as far as it can be written in a form."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    subject: str = "smollm2-135m"
    """The model: an alias, a Hugging Face id, a folder or a GGUF file."""
    corpus: str = "builtin"
    """The text to look at: "builtin", "paper", "hf:…", a file or a folder."""
    llm: str | dict[str, str] = "auto"
    """A name that LangChain's init_chat_model knows, one per agent, "offline" for none, or "auto"."""
    base_url: str | None = None
    """Address of an OpenAI-compatible server that has the model."""
    budget: str | None = None
    """What the language model may cost per run: "5$", "200k tokens"."""
    embeddings: str = "auto"
    """For the clustering: "minilm", "openai:text-embedding-3-small", or "auto"."""
    simulator: str = "auto"
    """What predicts activations: "hybrid", "transluce", "prompted:…", "chat", or "auto"."""
    cache_dir: str | None = None
    """Where collected exemplars are kept; none is the user's cache folder."""
    config: ExplainConfig = ExplainConfig()
    """Every other setting."""


class NeuronForm(BaseModel):
    """The input of the neuron graph."""

    neuron: Neuron


class RefinementForm(BaseModel):
    """The input of the refinement graph."""

    neuron: Neuron
    mode: str = Field(description="The sentence to begin with.")


@cache
def neuron_graph() -> ServedGraph:
    """The whole graph: from a neuron to its modes."""
    from neuronscope.graphs import build_neuron_graph

    return serve(build_neuron_graph())


@cache
def refinement_graph() -> ServedGraph:
    """The loop that refines one mode: from a neuron and a sentence to a better sentence."""
    from neuronscope.graphs import build_refinement_graph

    return serve(build_refinement_graph())


def serve(graph: CompiledStateGraph[Any, Any, Any, Any]) -> ServedGraph:
    """A graph of your own, over `NeuronState` or `RefinementState`, for LangGraph's server.

    Name it in your `langgraph.json`: `"mine": "./my_graph.py:served"`, with `served = serve(my_graph)`.
    """
    from neuronscope.graphs.server import ServedGraph, refines_a_mode

    form = RefinementForm if refines_a_mode(graph) else NeuronForm
    return ServedGraph.of(graph, ServingSettings, form, equip)


def equip(settings: ServingSettings, neuron: Neuron) -> Instruments:
    """The instruments of one run: loaded once in this process, with costs counted anew.

    Raises:
        NeuronScopeError: something cannot be found, loaded or reached.
    """
    with _LOADING:
        loaded = _loaded(settings.model_dump_json(), neuron.layer)
        check_neuron(loaded.subject, neuron)
    return loaded.counted_by(make_usage_tracker(settings.config, settings.budget))


_LOADING = Lock()
"""Two runs that begin together load once."""


@lru_cache(maxsize=8)
def _loaded(settings_json: str, layer: int) -> Instruments:
    settings = ServingSettings.model_validate_json(settings_json)
    fields = {name: getattr(settings, name) for name in type(settings).model_fields if name != "subject"}
    return make_instruments(_subject(settings.subject), Neuron(layer, 0), progress=False, **fields)


@lru_cache(maxsize=1)
def _subject(name: str) -> Subject:
    return as_subject(name)
