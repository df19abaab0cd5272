"""Write the published schemas anew: `python -m neuronscope.schemas.write`, after a saved form has changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from neuronscope.comparison import MethodScore
from neuronscope.exemplars.layout import FORMAT
from neuronscope.io import write_atomically
from neuronscope.metrics.table import Evaluation
from neuronscope.results import NeuronExplanation
from neuronscope.saved import SCHEMA_VERSION
from neuronscope.schemas.forms import RunFile, StoreDescription

FORMS: dict[str, tuple[Any, str, int]] = {
    "explanation": (NeuronExplanation, "schema_version", SCHEMA_VERSION),
    "evaluation": (Evaluation, "schema_version", SCHEMA_VERSION),
    "method_score": (MethodScore, "schema_version", SCHEMA_VERSION),
    "run": (RunFile, "schema_version", SCHEMA_VERSION),
    "store": (StoreDescription, "format", FORMAT),
}
"""By the name of the schema: what is saved, the key of its version, and the version."""


class _Saved(GenerateJsonSchema):
    """Every field of a result is written, those with a default too."""

    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,
    ) -> bool:
        return field["type"] == "dataclass-field" or super().field_is_required(field, total)

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> dict[str, Any]:
        return self.generate_inner(schema["schema"])  # what a file lacks has no default


def derive(name: str) -> dict[str, Any]:
    """The schema that follows from the types of what is saved."""
    kind, key, version = FORMS[name]
    derived = TypeAdapter(kind).json_schema(mode="serialization", schema_generator=_Saved)
    for part in _objects(derived):
        if part.get("additionalProperties") is False:  # a later version may have more fields
            del part["additionalProperties"]
    return {
        "$schema": _Saved.schema_dialect,
        **derived,
        "properties": {key: {"const": version}, **derived["properties"]},
        "required": [key, *derived["required"]],
    }


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _objects(part)


def main() -> None:
    """Write all of them."""
    for name in FORMS:
        document = json.dumps(derive(name), ensure_ascii=False, indent=1)
        write_atomically(Path(__file__).with_name(f"{name}.json"), document + "\n")


if __name__ == "__main__":
    main()
