"""Options that several commands share, and how their values are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from neuronscope.arguments import did_you_mean
from neuronscope.cli.settings import option_help

SubjectArgument = Annotated[
    str, typer.Argument(help="The model: smollm2-135m, a Hugging Face id, a folder, or a .gguf file.")
]
CorpusOption = Annotated[str, typer.Option(help=option_help("corpus"))]
CacheOption = Annotated[Path | None, typer.Option(file_okay=False, help=option_help("cache_dir"))]
OutOption = Annotated[Path | None, typer.Option(dir_okay=False, help="Save the result as JSON.")]
HtmlOption = Annotated[Path | None, typer.Option(dir_okay=False, help="Write the result as a web page.")]


def one_index(text: str) -> int:
    """A layer or a neuron of one layer, counted from 0.

    Raises:
        typer.BadParameter: it is no such number, or several.
    """
    digits = text.strip()
    if digits.isdecimal() and len(digits) < 19:
        return int(digits)
    if digits.removeprefix("-").isdecimal():
        raise typer.BadParameter(f"{digits[:30]}: layers and neurons count from 0.")
    if any(sign in digits for sign in ",:;/- "):
        raise typer.BadParameter(
            f"{digits[:30]!r} is not one number: give --layer and --neuron. Several neurons, or one at another site, "
            "are explained by `neuronscope run FILE`, which lists them as layer/index; see docs/runs.md."
        )
    raise typer.BadParameter(f"{digits[:30]!r} is not a whole number.")


def one_of(*names: str) -> Callable[[str], str]:
    """A reader of an option that takes one of these; it offers the nearest for any other."""

    def read(text: str) -> str:
        if text not in names:
            raise typer.BadParameter(f"{text!r} is none of {', '.join(names)}.{did_you_mean(text, names)}")
        return text

    return read


LAYER = typer.Option(parser=one_index, metavar="INTEGER", help="The neuron's layer, counted from 0.")
NEURON = typer.Option(parser=one_index, metavar="INTEGER", help="The neuron's index within the layer, counted from 0.")
LayerOption = Annotated[int, LAYER]
NeuronOption = Annotated[int, NEURON]
SignOption = Annotated[int, typer.Option(help="1 for large positive values, -1 for large negative ones.")]
ENGINE = typer.Option(
    metavar="local|ray", help="local, or ray for the machines of a Ray cluster (RAY_ADDRESS says which)."
)
