"""The graphs for LangGraph's development server and Studio: `langgraph.json` at the repository's root names them.

`langgraph dev` starts the server (extra `[studio]`). The input is JSON such as `{"neuron": {"layer": 9, "index":
740}}`, the context a `Setup` of names; `serve` does the same for a graph of your own.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from neuronscope.config import Setup
from neuronscope.errors import ConfigurationError
from neuronscope.locks import Lock
from neuronscope.types import Neuron

if TYPE_CHECKING:
    from neuronscope.graphs.server import AnyGraph
    from neuronscope.interfaces import Subject
    from neuronscope.session import Session
    from neuronscope.state import Instruments


class ServedSetup(Setup):
    """A `Setup` to be filled in, in a form: there is a subject to begin with, and `budget` is that of one run.

    Raises:
        ValueError: something is wrong with it; a server hides the messages of our own errors.
    """

    subject: str | None = "smollm2-135m"
    """The model: an alias such as smollm2-135m, a Hugging Face id, a folder or a .gguf file."""

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ConfigurationError as error:
            raise ValueError(str(error)) from error


class NeuronForm(TypedDict):
    """The input of the neuron graph."""

    neuron: Neuron | str


class RefinementForm(TypedDict):
    """The input of the refinement graph."""

    neuron: Neuron | str
    modes: Annotated[list[str], Field(description="The sentences to begin with, one for each mode.")]


@cache
def neuron_graph() -> AnyGraph:
    """The whole graph: from a neuron to its modes."""
    from neuronscope.graphs import build_neuron_graph

    return serve(build_neuron_graph())


@cache
def refinement_graph() -> AnyGraph:
    """The loop that refines modes: from a neuron and sentences to better sentences."""
    from neuronscope.graphs import build_refinement_graph

    return serve(build_refinement_graph())


def serve(graph: AnyGraph, form: type[Any] | None = None) -> AnyGraph:
    """A graph of your own, over `NeuronState` or `RefinementState`, for LangGraph's server.

    Name it in your `langgraph.json`: `"mine": "./my_graph.py:served"`, with `served = serve(my_graph)`.

    Args:
        graph: a compiled graph.
        form: the input, a `TypedDict` of `typing_extensions`, where it has more keys than a neuron, or than a neuron
            and its modes.
    """
    from neuronscope.graphs.server import refines, served

    return served(graph, form or (RefinementForm if refines(graph) else NeuronForm), ServedSetup(), open_instruments)


def open_instruments(setup: Setup, neuron: Neuron) -> Instruments:
    """The instruments of one run: loaded once in this process, with costs counted anew.

    Raises:
        NeuronScopeError: something cannot be found, loaded or reached.
    """
    from neuronscope.llm import Budget

    with _LOADING:
        session = _session(setup.model_dump_json(), neuron.layer)
    session.neuron(neuron)
    budget = None if setup.budget is None else Budget.parse(setup.budget)
    return replace(session.resources, budget=budget).instruments()


_LOADING = Lock()
"""Two runs that begin together load once."""


@lru_cache(maxsize=8)
def _session(setup_json: str, layer: int) -> Session:
    setup = ServedSetup.model_validate_json(setup_json)
    if setup.subject is not None:
        setup = setup.model_copy(update={"subject": _subject(setup.subject)})
    return setup.open(layers=[layer], progress=False)


@lru_cache(maxsize=1)
def _subject(name: str) -> Subject:
    from neuronscope.resources import as_subject

    return as_subject(name)
