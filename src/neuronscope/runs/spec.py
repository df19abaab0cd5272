"""A run in a file: which neurons of which model, with what, and where to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

from pydantic import Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from neuronscope.arguments import short
from neuronscope.config import ExplainConfig, Setup
from neuronscope.errors import ConfigurationError
from neuronscope.interfaces import ExemplarSource
from neuronscope.llm.budget import Budget
from neuronscope.runs.yaml_file import read_yaml
from neuronscope.types import Neuron
from neuronscope.validation import Location, Problem, Settings, as_sentence, fields_at, problems

_MANUAL = "See docs/runs.md for the fields."


class Selection(Settings):
    """Neurons chosen by what they do: `n` of each layer (see `ExemplarStore.top_neurons`)."""

    layers: list[int] = Field(min_length=1)
    """Layer numbers, from 0."""
    n: int = Field(ge=1)
    """How many of each layer."""
    by: Literal["frequency", "max", "random"] = "frequency"
    """The most often active ones, as in the paper; those with the largest maximum; or drawn at random."""
    sign: Literal[1, -1] = 1
    """Of which sign."""
    seed: int = 0
    """For the random ones."""


@runtime_checkable
class RanksNeurons(Protocol):
    """A source that knows which of its neurons do most, as an `ExemplarStore` does."""

    def top_neurons(
        self,
        layer: int,
        n: int = 200,
        by: Literal["frequency", "max", "random"] = "frequency",
        sign: int = 1,
        seed: int = 0,
    ) -> list[Neuron]:
        """`n` neurons of a layer."""


def _one_or_many(value: Any) -> str:
    return "<many>" if isinstance(value, (list, tuple)) else "<selection>"


def _named_or_chosen(value: Any) -> str:
    return "<selection>" if isinstance(value, (dict, Selection)) else "<name>"


_Selection = Annotated[Selection, Tag("<selection>")]
_Each = Annotated[Annotated[str, Tag("<name>")] | _Selection, Discriminator(_named_or_chosen)]


class RunSpec(Setup):
    """A setup, and what is to be done with it: everything that `neuronscope run` reads from its file."""

    neurons: Annotated[_Selection | Annotated[list[_Each], Tag("<many>")], Discriminator(_one_or_many)]
    """A selection; or a list of neurons by their written names (9/740, 9/740/-, sae:9/740), and of selections; or one
    neuron."""
    papers_config: bool = Field(False, alias="paper", strict=True)
    """In a file `paper`: where `config` says nothing, what the paper says of the method counts, not the defaults."""
    out: Path
    """The run's folder, from the current one."""
    checkpoints: str | None = "auto"
    """Where the steps of neurons under way are kept: "auto" is a file in the run's folder; or a Postgres URL; or
    nothing."""
    parallel: int | None = Field(None, ge=1)
    """Neurons under way at once; None is 8, or 1,000 where a language model is asked in batches."""
    engine: Literal["local", "ray"] = "local"
    """This process, or the workers of a Ray cluster."""

    @model_validator(mode="before")
    @classmethod
    def _papers_settings(cls, given: Any) -> Any:
        """With `paper`, the paper's settings below those that are given."""
        config = given.get("config") if isinstance(given, dict) and given.get("paper") is True else ()
        if isinstance(config, ExplainConfig):
            config = config.model_dump(exclude_unset=True)
        if not isinstance(config, (dict, NoneType)):
            return given
        return {**given, "config": {**ExplainConfig.paper().model_dump(), **(config or {})}}

    @field_validator("neurons", mode="before")
    @classmethod
    def _several(cls, neurons: Any) -> Any:
        return _listed(neurons)

    @classmethod
    def load(cls, path: str | Path, **changes: Any) -> RunSpec:
        """Read a YAML file.

        Args:
            path: the file.
            changes: fields that count instead of the file's.

        Raises:
            ConfigurationError: it cannot be read, or something in it is wrong; the message names all of it, by line.
        """
        read = read_yaml(Path(path))
        if not isinstance(read.content, dict) and not read.problems:
            what = "is empty" if read.content is None else f"holds {short(read.content)}"
            raise ConfigurationError(f"{path} {what}: expected fields such as subject, neurons and out. {_MANUAL}")
        unread = {problem.location for problem in read.problems}
        spec, wrong = cls._checked(read.content | changes) if isinstance(read.content, dict) else (None, [])
        wrong = [*read.problems, *(problem for problem in wrong if problem.location not in unread)]
        if spec is None or wrong:
            raise ConfigurationError(_in_a_line(str(path), wrong, read.line))
        return spec

    @classmethod
    def of(cls, document: Any, name: str = "The run's description") -> RunSpec:
        """Check what stood in a file.

        Raises:
            ConfigurationError: something is wrong; the message names all of it.
        """
        spec, wrong = cls._checked(document)
        if spec is None or wrong:
            raise ConfigurationError(_in_a_line(name, wrong, lambda _: None))
        return spec

    @classmethod
    def _checked(cls, document: Any) -> tuple[RunSpec | None, list[Problem]]:
        """The description, if its fields fit; and everything that is wrong, of what they name also."""
        spec, wrong = None, []
        try:
            spec = cls.model_validate_json(json.dumps(document, default=str))  # as JSON, where a name is a name
        except ValidationError as error:
            wrong += problems(error, _fields)
        given = document if isinstance(document, dict) else {}
        neurons, budget = _listed(given.get("neurons")), given.get("budget")
        for number, each in enumerate(neurons if isinstance(neurons, list) else []):
            if isinstance(each, str) and (complaint := _complaint(Neuron.parse, each)):
                wrong.append(Problem(("neurons", number), complaint))
        if isinstance(budget, str) and (complaint := _complaint(Budget.parse, budget)):
            wrong.append(Problem(("budget",), complaint))
        return spec, wrong

    def _listed(self) -> list[str | Selection]:
        return [self.neurons] if isinstance(self.neurons, Selection) else list(self.neurons)

    @property
    def layers(self) -> list[int]:
        """Every layer that the neurons are in."""
        selections = [each for each in self._listed() if isinstance(each, Selection)]
        named = (neuron.layer for neuron in self.named)
        return sorted({*named, *(layer for each in selections for layer in each.layers)})

    @property
    def named(self) -> list[Neuron]:
        """The neurons that are named; those of selections are known once there is a store."""
        return [Neuron.parse(each) for each in self._listed() if isinstance(each, str)]

    def chosen(self, store: ExemplarSource) -> list[Neuron]:
        """The neurons, each once.

        Args:
            store: with all layers of the run, for selections.

        Raises:
            ConfigurationError: there is a selection, and the store has no order to select by.
        """
        return list(dict.fromkeys(neuron for each in self._listed() for neuron in _chosen(each, store)))


def _listed(neurons: Any) -> Any:
    return [neurons] if isinstance(neurons, str) else neurons


def _fields(location: Location) -> Iterable[str]:
    """The fields that there are at a place."""
    return Selection.model_fields if location[:1] == ("neurons",) else fields_at(RunSpec, location)


def _complaint(check: Callable[[str], object], text: str) -> str:
    try:
        check(text)
    except ConfigurationError as error:
        return str(error).rstrip(".")
    return ""


def _in_a_line(name: str, wrong: Sequence[Problem], line_of: Callable[[Location], int | None]) -> str:
    """All that is wrong with a description, in the order of its lines."""
    placed = sorted(((line_of(problem.location), problem.message) for problem in wrong), key=lambda each: each[0] or 0)
    if len(placed) == 1:
        line, message = placed[0]
        return f"{name}{f', line {line}' if line else ''}: {as_sentence(message)} {_MANUAL}"
    said = "; ".join(f"line {line}: {message}" if line else message for line, message in placed)
    return f"{name} has {len(placed)} faults: {as_sentence(said)} {_MANUAL}"


def _chosen(each: str | Selection, store: ExemplarSource) -> list[Neuron]:
    if isinstance(each, str):
        return [Neuron.parse(each)]
    if not isinstance(store, RanksNeurons):
        raise ConfigurationError(
            f"A {type(store).__name__} cannot select neurons: it has no top_neurons, as a store has. Name them."
        )
    return [
        neuron
        for layer in each.layers
        for neuron in store.top_neurons(layer, n=each.n, by=each.by, sign=each.sign, seed=each.seed)
    ]
