"""A graph behind a server: JSON comes in, and names become instruments where the work is done.

LangGraph's server passes input and context as JSON, and a model or a store cannot be JSON. So what is served is an
outer graph of one node, `explain`: it reads the input, opens what the context names, and runs the graph as its
subgraph, whose steps are streamed, checkpointed and interrupted as those of any subgraph.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar, get_type_hints

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from pydantic import TypeAdapter, ValidationError, create_model

from neuronscope.config import Setup
from neuronscope.errors import ConfigurationError, NeuronScopeError, first_problem
from neuronscope.graphs.checkpoints import knowing_our_types
from neuronscope.graphs.observe import observe
from neuronscope.graphs.threads import beginning_afresh
from neuronscope.neurons import as_neuron
from neuronscope.results import Mode
from neuronscope.state import Instruments
from neuronscope.types import Neuron

AnyGraph: TypeAlias = CompiledStateGraph[Any, Any, Any, Any]
"""A compiled graph over `NeuronState` or `RefinementState`, or a state that extends one of them."""

NamedSetup = TypeVar("NamedSetup", bound=Setup)


def served(
    graph: AnyGraph,
    form: type[Any],
    setup: NamedSetup,
    open_instruments: Callable[[NamedSetup, Neuron], Instruments],
) -> AnyGraph:
    """The outer graph. Errors of ours become a `ValueError`: a server hides the messages of all but Python's own.

    Args:
        graph: what is to be served.
        form: the input, a `TypedDict`; its keys are of the graph's state.
        setup: the context where none is given; its fields can be JSON.
        open_instruments: from a setup to instruments for one neuron; it is called in a worker thread.
    """
    types, returned = get_type_hints(graph.builder.state_schema), get_type_hints(graph.builder.output_schema)
    # Without reducers: what the graph returns is all there is. A model, since the state may be any kind of TypedDict.
    fields: dict[str, Any] = {key: (kind, None) for key, kind in returned.items()}
    output = create_model("Output", **fields)

    async def explain(state: dict[str, Any], runtime: Runtime[NamedSetup]) -> dict[str, Any]:
        try:
            given = read_state(state, types)
            instruments = await asyncio.to_thread(open_instruments, runtime.context or setup, given["neuron"])
            if refines(graph) and "exemplars" not in given:
                given["exemplars"] = await _exemplars(given, instruments)
            found = await graph.ainvoke(given, context=instruments)
        except NeuronScopeError as error:
            raise ValueError(str(error)) from error
        return {key: found.get(key) for key in returned}

    outer: StateGraph[Any, NamedSetup, Any, Any] = StateGraph(output, context_schema=type(setup), input_schema=form)
    outer.add_node("explain", explain, input_schema=form)
    outer.add_edge(START, "explain")
    outer.add_edge("explain", END)
    return beginning_afresh(outer.compile(checkpointer=knowing_our_types(graph.checkpointer), name=graph.name))


def refines(graph: AnyGraph) -> bool:
    """Whether a graph is a refinement loop, by its state."""
    return "proposals" in get_type_hints(graph.builder.state_schema)


def read_state(plain: Mapping[str, Any], types: Mapping[str, Any]) -> dict[str, Any]:
    """A state from JSON; what is empty is left out, and what has its type already stays as it is.

    A neuron may be its written name, `"9/740"`, or `"9/740/-"` for its negative side; a mode may be its sentence.

    Raises:
        ConfigurationError: there is no neuron, or a value does not fit the state.
    """
    state: dict[str, Any] = {}
    for key, value in plain.items():
        if key == "modes" and isinstance(value, list):
            value = [Mode(each) if isinstance(each, str) else each for each in value]
        if key == "neuron" and value:
            state[key] = as_neuron(value)
        elif value:
            try:
                state[key] = TypeAdapter(types[key]).validate_python(value)
            except ValidationError as error:
                raise ConfigurationError(f"{key} cannot be read: {first_problem(error)}.") from error
    if "neuron" not in state:
        raise ConfigurationError('The input has no neuron. Enter one, such as {"neuron": {"layer": 9, "index": 740}}.')
    return state


async def _exemplars(given: Mapping[str, Any], instruments: Instruments) -> Any:
    """What a refinement loop works on, as the whole graph's `observe` draws it."""
    if not given.get("modes") and not given.get("clusters"):
        raise ConfigurationError('The input has no modes. Enter the sentences to begin with: "modes": ["…"].')
    drawn = await observe({"neuron": given["neuron"]}, Runtime(context=instruments))
    return drawn["exemplars"].without("test")
