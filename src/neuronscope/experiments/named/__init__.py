"""The experiments, a module each: `neuronscope experiment halving` is `halving.app`.

A new one is a new module here, and nothing else: its file's name, with hyphens for underscores, is the experiment's,
and its `app`, a Typer application of one command or several, is what the command line runs. Modules are imported when
they are asked for, and for the list of all.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Protocol, cast

import typer


class NamedExperiment(Protocol):
    """What a module of this package has."""

    app: typer.Typer
    """Its command, or its commands."""


def experiment_names() -> list[str]:
    """Every experiment that has a name; none is imported for it."""
    return sorted(found.name.replace("_", "-") for found in iter_modules(__path__))


def named_experiment(name: str) -> NamedExperiment:
    """One of `experiment_names`."""
    return cast("NamedExperiment", import_module(f"{__name__}.{name.replace('-', '_')}"))
