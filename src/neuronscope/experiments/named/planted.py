"""How many planted meanings methods find: F1, error of the number, ARI, and joint score beside look-up and ceiling.

    neuronscope experiment planted --neurons 200 --meanings 1-5 --seed 0 --held-out --out runs/planted

Everything that is found is saved in `--out`, and not done again.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

import neuronscope as ns
from neuronscope.cli.output import DebugFlag, JsonFlag, prepare
from neuronscope.cli.settings import config_from, setup_from, with_setup
from neuronscope.errors import ConfigurationError
from neuronscope.experiments.options import save_and_print
from neuronscope.experiments.planted.comparison import METHODS, compare, report
from neuronscope.experiments.planted.worlds import TOKENS_OF, World, plant, plant_pairs
from neuronscope.io import write_atomically

app = typer.Typer(add_completion=False)


def _range(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"\s*(\d)\s*(?:-\s*(\d)\s*)?", text)
    if match is None:
        raise ConfigurationError(f"--meanings is a number or a range, such as 3 or 1-5, not {text!r}.")
    return int(match[1]), int(match[2] or match[1])


def _layers(text: str) -> list[int]:
    try:
        return sorted({int(each) for each in text.split(",")})
    except ValueError as error:
        raise ConfigurationError(f"--units are layers with commas between, such as 9,19, not {text!r}.") from error


@app.command()
@with_setup
def planted(
    context: typer.Context,
    neurons: Annotated[int, typer.Option(min=1, help="How many are planted.")] = 200,
    meanings: Annotated[str, typer.Option(help="How many meanings each has: from and up to.")] = "1-5",
    units: Annotated[
        str | None,
        typer.Option(help="Instead of concepts, pairs of real units of these layers of --subject, such as 9,19."),
    ] = None,
    held_out: Annotated[
        bool | None,
        typer.Option("--held-out/--tuned-on", help="Only concepts that nothing was tuned on, or only the others."),
    ] = None,
    methods: Annotated[str, typer.Option(help="What is compared (docs/methods.md), and paper.")] = METHODS,
    parallel: Annotated[int, typer.Option(min=1, help="Neurons under way at once.")] = 8,
    out: Annotated[Path, typer.Option(file_okay=False, help="Keeps what is found.")] = Path("runs/planted"),
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
    **settings: Any,
) -> None:
    """Plant neurons with known meanings on real text, and measure what methods find of them."""
    prepare(out / "planted.json")
    config = config_from(settings) or ns.ExplainConfig()
    given = {"llm": "offline"} | setup_from(settings)
    name, corpus = given.pop("subject", TOKENS_OF), given.pop("corpus", "builtin")
    setup = ns.Setup(subject=None, corpus=corpus, config=config, **given)
    same: dict[str, Any] = {"corpus": corpus, "config": config, "cache_dir": setup.cache_dir}
    world: World
    if units is not None:
        world = plant_pairs(neurons, _layers(units), subject=name, **same)
    else:
        world = plant(neurons, _range(meanings), held_out=held_out, tokens_of=name, **same)
    write_atomically(out / "neurons.json", json.dumps(world.describe(), ensure_ascii=False, indent=1))
    made = report(compare(world, setup, methods, out, parallel), config.seed)
    save_and_print(made, out, context)
