"""A graph behind a server: JSON comes in, and names become instruments where the work is done.

LangGraph's server passes input and context as JSON, and objects such as a model or a store cannot be JSON. A
`ServedGraph` is the same graph with the same nodes; only its door differs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Self, cast, get_type_hints

from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from pydantic import BaseModel, TypeAdapter, ValidationError, create_model

from neuronscope.errors import ConfigurationError, NeuronScopeError, first_problem
from neuronscope.graphs.observe import observe
from neuronscope.graphs.threads import beginning_afresh
from neuronscope.state import Instruments
from neuronscope.types import Neuron

Equip = Callable[[Any, Neuron], Instruments]
"""Makes instruments of settings, for one neuron; it is called in a worker thread."""

NO_NEURON = 'The input has no neuron. Enter one, such as {"neuron": {"layer": 9, "index": 740}}.'


class ServedGraph(CompiledStateGraph[Any, Any, Any, Any]):
    """A compiled graph over `NeuronState` or `RefinementState` that takes JSON; made by `ServedGraph.of`."""

    def __init__(self, *, form: type[BaseModel], equip: Equip, **graph: Any) -> None:
        super().__init__(**graph)
        self.form = form
        self.equip = equip

    @classmethod
    def of(
        cls,
        graph: CompiledStateGraph[Any, Any, Any, Any],
        settings: type[BaseModel],
        form: type[BaseModel],
        equip: Equip,
    ) -> Self:
        """Serve a compiled graph.

        Args:
            graph: over `NeuronState` or `RefinementState`, or a state that extends one of them.
            settings: the context, as plain fields.
            form: the input, as plain fields.
            equip: makes instruments of the settings.
        """
        own = {"nodes": dict(graph.nodes), "context_schema": settings}
        return beginning_afresh(cls(form=form, equip=equip, **{**vars(graph), **own}))

    def get_input_jsonschema(self, config: Any = None) -> dict[str, Any]:
        """What to enter, as a JSON schema."""
        return self.form.model_json_schema()

    def get_output_jsonschema(self, config: Any = None) -> dict[str, Any]:
        """What comes out, as a JSON schema; pydantic makes none of the `TypedDict` itself before Python 3.12."""
        types = get_type_hints(self.builder.output_schema, include_extras=True)
        fields: dict[str, Any] = {key: (kind, None) for key, kind in types.items()}
        return TypeAdapter(create_model("Output", **fields)).json_schema()

    async def astream(
        self,
        input: Any,  # noqa: A002 - LangGraph's name
        config: Any = None,
        *,
        context: Any = None,
        **options: Any,
    ) -> AsyncIterator[Any]:
        """Stream as the graph does, from JSON: `{"neuron": {"layer": 9, "index": 740}}`, or `{"neuron": "9/740"}`.

        Args:
            input: the state to begin with; None or a command goes on with the thread's.
            config: LangGraph's.
            context: the settings; None is their defaults.
            options: LangGraph's.

        Raises:
            ValueError: the input or the settings cannot be read, or something cannot be loaded. A server shows the
                messages of Python's own errors only, so errors of ours become one.
        """
        try:
            begin, instruments = await self._prepare(input, config, context)
        except NeuronScopeError as error:
            raise ValueError(str(error)) from error
        parts = cast(AsyncGenerator[Any, None], super().astream(begin, config, context=instruments, **options))
        async with aclosing(parts):
            async for part in parts:
                yield part

    async def _prepare(self, given: Any, config: Any, context: Any) -> tuple[Any, Instruments]:
        """The input as the graph's nodes want it, and the instruments."""
        settings = read_settings(self.context_schema, context)
        if not isinstance(given, Mapping):
            neuron = await self._neuron_of_thread(config)
            return given, await asyncio.to_thread(self.equip, settings, neuron)
        state = self._read(given)
        if "neuron" not in state:
            raise ConfigurationError(NO_NEURON)
        instruments = await asyncio.to_thread(self.equip, settings, state["neuron"])
        return await self._complete(state, instruments), instruments

    async def aupdate_state(self, config: Any, values: Any, *arguments: Any, **options: Any) -> Any:
        """Change a thread's state as the graph does, from JSON."""
        values = self._read(values) if isinstance(values, Mapping) else values
        return await super().aupdate_state(config, values, *arguments, **options)

    def _read(self, plain: Mapping[str, Any]) -> dict[str, Any]:
        return read_state(plain, self._types())

    def _types(self) -> dict[str, Any]:
        return get_type_hints(self.builder.state_schema, include_extras=True)

    async def _neuron_of_thread(self, config: Any) -> Neuron:
        """The neuron of a run that goes on."""
        values = (await self.aget_state(config)).values if self.checkpointer and config else {}
        if "neuron" not in values:
            raise ConfigurationError(NO_NEURON)
        return read_neuron(values["neuron"])

    async def _complete(self, state: dict[str, Any], instruments: Instruments) -> dict[str, Any]:
        """Draw the exemplars that refinement needs, if it begins here and not behind `observe`."""
        if not refines_a_mode(self) or "exemplars" in state:
            return state
        if "mode" not in state:
            raise ConfigurationError('The input has no mode. Enter the sentence to begin with as "mode".')
        drawn = await observe({"neuron": state["neuron"]}, Runtime(context=instruments))
        return {**state, "exemplars": replace(drawn["exemplars"], test=[], test_random=[])}


def refines_a_mode(graph: CompiledStateGraph[Any, Any, Any, Any]) -> bool:
    """Whether a graph is a refinement loop, by its state; the whole graph only passes modes to one."""
    return "mode" in get_type_hints(graph.builder.state_schema)


def read_settings(kind: Any, context: Any) -> Any:
    """Settings from a context of plain fields.

    Raises:
        ConfigurationError: they do not fit.
    """
    if isinstance(context, kind):
        return context
    try:
        return kind.model_validate(context or {})
    except ValidationError as error:
        raise ConfigurationError(f"The settings cannot be read: {first_problem(error)}.") from error


def read_state(plain: Mapping[str, Any], types: Mapping[str, Any]) -> dict[str, Any]:
    """A state, or a part of one, from JSON; what has its type already stays as it is.

    A neuron may be its written name: `"9/740"`, or `"9/740/-"` for its negative side; a mode may be its sentence.

    Raises:
        ConfigurationError: a key or a value does not fit the state.
    """
    unknown = sorted(plain.keys() - types.keys())
    if unknown:
        raise ConfigurationError(f"The state has no {', '.join(unknown)}. It has {', '.join(types)}.")
    state = {}
    for key, value in plain.items():
        if key == "neuron":
            state[key] = read_neuron(value)
            continue
        if key == "mode" and isinstance(value, str):
            value = {"explanation": value}
        try:
            state[key] = TypeAdapter(types[key]).validate_python(value)
        except ValidationError as error:
            raise ConfigurationError(f"{key} cannot be read: {first_problem(error)}.") from error
    return state


def read_neuron(plain: Any) -> Neuron:
    """A neuron from `{"layer": 9, "index": 740, "sign": 1}` or its written name, such as `"9/740"`.

    Raises:
        ConfigurationError: it is none of these.
    """
    if isinstance(plain, str):
        return Neuron.parse(plain)
    try:
        return TypeAdapter(Neuron).validate_python(plain)
    except ValidationError as error:
        raise ConfigurationError(
            f'{plain!r} is no neuron: {first_problem(error)}. Write {{"layer": 9, "index": 740, "sign": 1}}, "9/740" '
            'or, for the negative side, "9/740/-".'
        ) from error
