"""The command that measures explanations by many metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from neuronscope.cli.options import (
    LAYER,
    NEURON,
    SignOption,
    SubjectArgument,
)
from neuronscope.cli.output import DebugFlag, JsonFlag, load_result, prepare, print_json
from neuronscope.cli.settings import config_from, setup_from, with_setup


class EvaluateCommand(TyperCommand):
    """Names the metrics there are when help is asked for, and not before: to find them takes NumPy."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        from neuronscope.metrics.named import named_metrics

        for parameter in self.params:
            if parameter.name == "metrics":
                parameter.help = f"all, or some of {', '.join(named_metrics())}."  # type: ignore[attr-defined]
        super().format_help(ctx, formatter)


@with_setup
def evaluate(
    context: typer.Context,
    subject: SubjectArgument,
    explanation: Annotated[
        list[str] | None, typer.Option(help="An explanation to measure; give the option again for another one.")
    ] = None,
    result: Annotated[
        Path | None, typer.Option(help="Measure the modes of a result that `explain --out` saved.")
    ] = None,
    layer: Annotated[int | None, LAYER] = None,
    neuron: Annotated[int | None, NEURON] = None,
    sign: SignOption = 1,
    metrics: Annotated[str, typer.Option(help="all, or names with commas between.")] = "all",
    llm: Annotated[
        str, typer.Option(help='Who judges beside the simulator, such as "openai:gpt-4o"; "offline" for nobody.')
    ] = "offline",
    activation_threshold: Annotated[
        float, typer.Option(min=0, max=1, help="A token is active above this share of the neuron's largest activation.")
    ] = 0.25,
    n_bootstrap: Annotated[int, typer.Option(min=1, help="Draws behind each interval.")] = 1000,
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="Save the table as JSON.")] = None,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
    **settings: str | None,
) -> None:
    """Measure explanations of a neuron by many metrics (docs/metrics.md)."""
    import neuronscope as ns

    if (result is None) == (not explanation):
        raise typer.BadParameter("Give either --explanation, once or more, or --result.")
    if result is None and (layer is None or neuron is None):
        raise typer.BadParameter("--explanation needs --layer and --neuron.")
    config = config_from(settings)
    saved = None if result is None else load_result(result)
    prepare(out)
    table = ns.evaluate(
        saved if saved is not None else explanation,  # type: ignore[arg-type]  # checked above
        None if layer is None or neuron is None else ns.Neuron(layer, neuron, sign),
        "all" if metrics == "all" else [name.strip() for name in metrics.split(",")],
        subject=subject,
        llm=llm,
        config=config,
        activation_threshold=activation_threshold,
        n_bootstrap=n_bootstrap,
        seed=0 if config is None else config.seed,
        **setup_from(settings),
    )
    if out is not None:
        table.save(out)
        typer.echo(f"Saved {out}", err=True)
    if context.meta.get("as_json"):
        print_json(table.to_json())
        return
    from rich.console import Console

    Console().print(table)
