"""The saved form of results: JSON with a version, read back strictly, and refused in words where it does not fit."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from neuronscope.errors import NeuronScopeError, ResultError
from neuronscope.text import shortened

T = TypeVar("T")
logger = logging.getLogger(__name__)

SCHEMA_VERSION = 5
"""Version of every saved form; a file of another one is refused. 0.1 wrote form 1; 2 to 4 were never released."""
MAX_DEPTH = 64
"""How deeply lists and objects may be nested: what is saved has no more than ten levels."""
MAX_DIGITS = 40
"""How long an integer may be."""


class SavedForm(NamedTuple):
    """What a kind of result is called, and what to do about a file that cannot be read."""

    noun: str
    """Such as "explanation"."""
    again: str
    """What to do to get one of this version, such as "Explain the neuron again"."""

    def to_json(self, saved: Any) -> str:
        """An object as JSON text, with the version in front.

        Raises:
            ResultError: a number in it is not finite, which JSON cannot hold.
        """
        document = {"schema_version": SCHEMA_VERSION, **_plain(type(saved), saved)}
        for place, value in _leaves(document):
            if isinstance(value, float) and not math.isfinite(value):
                raise ResultError(
                    f"This {self.noun} cannot be saved: {place} is {value}, which is no number that JSON can hold. "
                    "What was not measured is None."
                )
        return json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False)

    def from_json(self, kind: type[T], text: str | bytes) -> T:
        """Read what `to_json` wrote of an object of this kind: every field, of its type and within its range.

        A default stands for no field that is missing: a score that was lost in a file is not one that was never
        measured.

        A field that the kind does not have, which a later version may, is ignored with a warning.

        Raises:
            ResultError: the text is not of this form and version; the message names the place.
        """
        document = self._parsed(text)
        read = self._read(kind, document)
        unknown = []
        for place, problem in _differences(document, _plain(kind, read)):
            if problem is not None:
                raise ResultError(f"The saved {self.noun} is damaged at {shortened(place, 120)}: {problem}.")
            unknown.append(place)
        if unknown:
            logger.warning(
                "The saved %s has fields that this version of neuronscope does not know, and ignores: %s.",
                self.noun,
                shortened(", ".join(unknown), 200),
            )
        return read

    def _parsed(self, text: str | bytes) -> dict[str, Any]:
        """The document without its version, which is this one."""
        try:
            document = json.loads(
                text.removeprefix("\ufeff") if isinstance(text, str) else text,
                object_pairs_hook=_object,
                parse_constant=_no_constant,
                parse_float=_finite,
                parse_int=_integer,
            )
        except RecursionError as error:
            raise ResultError(f"This is not a saved {self.noun}: it is nested too deeply.") from error
        except (ValueError, TypeError) as error:
            raise ResultError(
                f"This is not a saved {self.noun}: it is not JSON ({shortened(str(error), 120)})."
            ) from error
        if not isinstance(document, dict) or "schema_version" not in document:
            raise ResultError(f"This is not a saved {self.noun}: expected JSON with a `schema_version`.")
        version = document.pop("schema_version")
        if type(version) is not int or version != SCHEMA_VERSION:
            raise ResultError(
                f"This {self.noun} was saved in form {shortened(repr(version))}; this version of neuronscope reads "
                f"form {SCHEMA_VERSION}, in which what was not measured has no number. {self.again}, or use the "
                "version that saved it (form 1 is that of 0.1)."
            )
        if _is_deeper(document, MAX_DEPTH):
            raise ResultError(f"This is not a saved {self.noun}: it is nested more than {MAX_DEPTH} levels deep.")
        return document

    def _read(self, kind: type[T], document: dict[str, Any]) -> T:
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(kind).validate_python(document)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise ResultError(f"The saved {self.noun} is damaged at {place or 'the top'}: {first['msg']}.") from error
        except NeuronScopeError as error:  # what the object itself says when it is made
            raise ResultError(f"The saved {self.noun} is damaged: {error}") from error


def read_saved(path: str | Path, read: Callable[[bytes], T]) -> T:
    """What a saved file holds.

    Args:
        path: the file.
        read: makes an object of its content.

    Raises:
        ResultError: it cannot be read; the message names the file.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ResultError(f"Cannot read {path}: {error.strerror}.") from error
    try:
        return read(content)
    except ResultError as error:
        raise ResultError(f"{path}: {error}") from error


def _plain(kind: type[Any], saved: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind).dump_python(saved, mode="json")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, each of whose names stands once: of two values, which one was meant?"""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"an object has the name {max(names, key=names.count)!r} twice")
    return found


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no number in JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {shortened(text)} is out of range")
    return number


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"an integer of {len(text)} digits is out of range")
    return int(text)


def _is_deeper(document: Any, levels: int) -> bool:
    """Whether lists and objects are nested more than so many levels deep."""
    layer = [document]
    for _ in range(levels):
        layer = [part for each in layer for part in _parts(each) if isinstance(part, dict | list)]
        if not layer:
            return False
    return True


def _parts(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else list(value) if isinstance(value, list) else []


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every plain value with its place: `modes.0.score`."""
    if not isinstance(value, dict | list):
        yield place, value
        return
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _leaves(part, f"{place}.{key}" if place else str(key))


def _differences(given: Any, read: Any, place: str = "") -> Iterator[tuple[str, str | None]]:
    """Where a document is not what would be saved of the object read from it: a place, and what is wrong there.

    Nothing is wrong with a field that is not known (None); a field that is missing, or was converted to the type that
    belongs there, is wrong: nobody can say what was meant.
    """
    here = place or "the top"
    if isinstance(given, dict) and isinstance(read, dict):
        for key in read:
            below = f"{place}.{key}" if place else str(key)
            if key in given:
                yield from _differences(given[key], read[key], below)
            else:
                yield below, "it is missing"
        yield from ((f"{place}.{key}" if place else str(key), None) for key in sorted(given.keys() - read.keys()))
    elif isinstance(given, list) and isinstance(read, list) and len(given) == len(read):
        for number, (one, other) in enumerate(zip(given, read, strict=True)):
            yield from _differences(one, other, f"{place}.{number}" if place else str(number))
    elif isinstance(given, bool) is not isinstance(read, bool) or isinstance(given, str) is not isinstance(read, str):
        yield here, f"expected {_name(read)}, got {_name(given)}"
    elif given != read:
        yield here, f"expected {_name(read)}, got {shortened(repr(given))}"


def _name(value: Any) -> str:
    kinds = {bool: "true or false", str: "text", dict: "an object", list: "a list", type(None): "null"}
    return kinds.get(type(value), "a number")
