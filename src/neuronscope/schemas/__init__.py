"""JSON schemas of the files that are promised to stay readable, beside this module: `docs/stability.md` lists them."""

import json
from importlib.resources import files
from typing import Any


def schema(name: str) -> dict[str, Any]:
    """A published schema, by the name of its file: explanation, evaluation, method_score, run or store."""
    document: dict[str, Any] = json.loads(files(__name__).joinpath(f"{name}.json").read_text("utf-8"))
    return document
