"""What all commands share: the flags that mean the same everywhere, and JSON on standard output."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Any, TextIO

import typer

from neuronscope.errors import ConfigurationError, ResultError
from neuronscope.results import NeuronExplanation


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


def load_result(path: Path) -> NeuronExplanation:
    """A result that was saved before.

    Raises:
        ResultError: it is none; the message names the file, and what to give instead.
    """
    if path.is_dir():
        raise ResultError(f"Cannot read {path}: it is a folder. Name one of the results in it, such as results/….json.")
    try:
        return NeuronExplanation.load(path)
    except ResultError as error:
        message = str(error)
        raise ResultError(message if str(path) in message else f"{path}: {message}") from error


def _check_place(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}. Name another place.") from error


class _AboveBars(logging.StreamHandler[TextIO]):
    """Writes a line above a progress bar, if there is one, and not at its end."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        with tqdm.external_write_mode(self.stream):
            super().emit(record)


def prepare(*outputs: Path | None) -> None:
    """Before minutes of work: let the library say what it does, and make sure that its result can be written.

    Raises:
        ConfigurationError: it cannot.
    """
    for path in outputs:
        if path is not None:
            _check_place(path)
    logger = logging.getLogger("neuronscope")
    logger.handlers = [_AboveBars(sys.stderr)]
    logger.setLevel(logging.INFO)
