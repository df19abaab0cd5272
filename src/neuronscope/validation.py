"""Settings that say in words what is wrong with them, all of it at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError, ValidationInfo, field_validator
from pydantic_core import CoreSchema, core_schema

from neuronscope.arguments import did_you_mean, plain, short
from neuronscope.errors import ConfigurationError

_WORDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "list": "a list",
    "dictionary": "a mapping",
    "boolean": "true or false",
}
_KINDS = re.compile(rf"a valid ({'|'.join(_WORDS)})( or instance of \w+)?")

Location = tuple[str | int, ...]
"""Where in a document something is: names of fields and numbers of list items, from the outside in."""


class Problem(NamedTuple):
    """One thing that is wrong."""

    location: Location
    message: str
    """In words, with the field's name."""


class Settings(BaseModel):
    """Frozen settings. Numbers may be numpy's or pandas'; a boolean is no number.

    Raises:
        ConfigurationError: some are wrong; the message names all of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    if not TYPE_CHECKING:  # type checkers derive a better signature from the fields

        def __init__(self, **settings: Any) -> None:
            try:
                super().__init__(**settings)
            except ValidationError as error:
                found = problems(error, partial(fields_at, type(self)))
                raise ConfigurationError(f"{type(self).__name__}: {together(found)}") from error

        __init__.__pydantic_base_init__ = True  # else validation of other models would call it, and lose the place

    @field_validator("*", mode="before")
    @classmethod
    def _numbers(cls, value: Any, info: ValidationInfo) -> Any:
        value = plain(value)
        if isinstance(value, bool) and info.field_name is not None:
            annotation = cls.model_fields[info.field_name].annotation
            kinds = {annotation, *get_args(annotation)}
            if bool not in kinds and kinds & {int, float}:
                raise ValueError("expected a number")
        return value


@dataclass(frozen=True, slots=True)
class NameOf:
    """Marks a field that takes a name where it is read from JSON, and in Python an object as well.

    Objects are taken as they are and looked at where they are used, so that their libraries need not be imported here.
    """

    names: Any
    """The type that the name has in JSON."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Pydantic's hook."""
        return core_schema.json_or_python_schema(
            json_schema=handler.generate_schema(self.names), python_schema=core_schema.any_schema()
        )


def fields_at(model: type[BaseModel], location: Location) -> Iterable[str]:
    """The fields that there are at a place of a model's settings: its own, or those of settings within it."""
    for name in location:
        inner = model.model_fields[name].annotation if name in model.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return ()
        model = inner
    return [field.alias or name for name, field in model.model_fields.items()]


def problems(
    error: ValidationError, fields: Callable[[Location], Iterable[str]], within: Location = ()
) -> list[Problem]:
    """What pydantic found, in words.

    Args:
        error: what it raised.
        fields: the names that are known at a place, for those that are misspelt.
        within: where in a document the settings are.
    """
    return [_problem(each, fields, within) for each in error.errors()]


def together(found: Iterable[Problem]) -> str:
    """Several problems in one line."""
    return as_sentence("; ".join(problem.message for problem in found))


def as_sentence(text: str) -> str:
    """With a full stop, unless it ends in a question."""
    return text if text.endswith(("?", ".")) else f"{text}."


def _problem(error: Any, fields: Callable[[Location], Iterable[str]], within: Location) -> Problem:
    inner = (part for part in error["loc"] if not (isinstance(part, str) and part.startswith("<")))  # tags of unions
    location: Location = (*within, *inner)
    place, name = ".".join(map(str, location)), location[-1] if location else ""
    if error["type"] == "extra_forbidden":
        return Problem(location, f"there is no field {place!r}{_nearest(name, fields(location[:-1]))}")
    if error["type"] == "missing":
        return Problem(location, f"{place!r} is missing")
    wanted = error["msg"].removeprefix("Value error, ").partition(", unable to parse")[0]
    for comparison in ("greater", "less"):
        wanted = wanted.replace(f"Input should be {comparison}", f"it must be {comparison}")
    wanted = _KINDS.sub(lambda found: _WORDS[found[1]], wanted.replace("Input should be", "expected"))
    if error["type"] == "string_type" and isinstance(error["input"], bool):
        wanted += ", in quotes if it is on, off, yes or no"
    if error["type"] == "literal_error":
        wanted += _nearest(error["input"], re.findall(r"'([^']+)'", error["ctx"]["expected"]))
    return Problem(location, f"{place or 'it'} is {short(error['input'])}: {wanted}")


def _nearest(word: object, known: Iterable[str]) -> str:
    hint = did_you_mean(word, known)
    return f".{hint}" if hint else ""
