"""The saved form of results: JSON with a version, read back strictly, and refused in words where it does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from neuronscope.errors import ResultError

T = TypeVar("T")


class SavedForm(NamedTuple):
    """What a kind of result is called and which version of its form is read and written."""

    noun: str
    """Such as "explanation"."""
    version: int
    """A file of another version is refused."""
    again: str
    """What to do to get one of this version, such as "Explain the neuron again"."""

    def to_json(self, document: dict[str, Any]) -> str:
        """The document as JSON text, with its version in front."""
        return json.dumps({"schema_version": self.version, **document}, ensure_ascii=False, indent=1)

    def from_json(self, kind: type[T], text: str | bytes) -> T:
        """Read what `to_json` wrote of an object of this kind.

        Raises:
            ResultError: the text is not of this form and version.
        """
        from pydantic import TypeAdapter, ValidationError

        try:
            document = json.loads(text)
            version = document.pop("schema_version")
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise ResultError(f"This is not a saved {self.noun}: expected JSON with a `schema_version`.") from error
        if version != self.version:
            raise ResultError(
                f"This {self.noun} was saved in form {version!r}; this version of neuronscope reads form "
                f"{self.version}. {self.again}, or use the version that saved it."
            )
        try:
            return TypeAdapter(kind).validate_python(document)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise ResultError(f"The saved {self.noun} is damaged at {place or 'the top'}: {first['msg']}.") from error


def read_saved(path: str | Path) -> bytes:
    """A saved file's content.

    Raises:
        ResultError: it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ResultError(f"Cannot read {path}: {error.strerror}.") from error
