"""What all commands share: the flags that mean the same everywhere, and JSON on standard output."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer


def remember(context: typer.Context, parameter: typer.CallbackParam, value: bool) -> bool:
    """Flags mean the same before and after the command's name; all contexts share `meta`."""
    if value and parameter.name:
        context.meta[parameter.name] = True
    return value


JsonFlag = Annotated[
    bool, typer.Option("--json", callback=remember, help="Print the result as JSON, and nothing else.")
]
DebugFlag = Annotated[bool, typer.Option("--debug", callback=remember, help="Show the traceback of an error.")]


def print_json(document: str | dict[str, Any] | list[Any]) -> None:
    """JSON is UTF-8 wherever it goes; a lone surrogate becomes the escape that JSON has for it."""
    text = document if isinstance(document, str) else json.dumps(document, ensure_ascii=False, indent=1)
    typer.echo(text.encode("utf-8", "backslashreplace"))


def prepare(*outputs: Path | None) -> None:
    """Before minutes of work: let the library say what it does, and make sure that there is room for its result."""
    for path in outputs:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
    logger = logging.getLogger("neuronscope")
    logger.handlers = [logging.StreamHandler(sys.stderr)]
    logger.setLevel(logging.INFO)
