"""The commands about simulators."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from neuronscope.cli.output import DebugFlag, JsonFlag, prepare, print_json
from neuronscope.cli.settings import settings_from, with_settings_of
from neuronscope.simulators.training.settings import TrainingSettings

simulator_app = typer.Typer(name="simulator", help="Train a simulator of your own.", no_args_is_help=True)


@simulator_app.command()
@with_settings_of(TrainingSettings)
def train(
    context: typer.Context,
    explanations: Annotated[
        Path,
        typer.Argument(
            help="A folder of results that `explain --out` saved, or a JSONL file with an explanation, tokens and "
            "activations per line.",
            exists=True,
        ),
    ],
    out: Annotated[Path, typer.Option(file_okay=False, help="The checkpoint's folder; an interrupted one goes on.")],
    store: Annotated[
        Path | None, typer.Option(file_okay=False, help="The exemplar store of the saved results' neurons.")
    ] = None,
    subject: Annotated[
        str | None, typer.Option(help="The store's model, if activations are missing in it: they are computed.")
    ] = None,
    base: Annotated[
        str, typer.Option(help="The language model to start from: smollm2-135m, a Hugging Face id, or a folder.")
    ] = "smollm2-135m",
    device: Annotated[str, typer.Option(help='Where to train: "auto", "cpu", "cuda".')] = "auto",
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
    **settings: str | None,
) -> None:
    """Fine-tune a language model to simulate neurons, and report on neurons and documents it never saw."""
    chosen = settings_from(TrainingSettings(), settings)
    prepare(out / "report.json")
    import neuronscope as ns
    from neuronscope.simulators import train_simulator

    opened = None if store is None else ns.open_store(store)
    if opened is not None and subject is not None:
        opened.bind(ns.load_subject(subject))
    report = train_simulator(explanations, out, base=base, store=opened, settings=chosen, device=device)
    if context.meta.get("as_json"):
        print_json(report.to_json())
        return
    for line in _lines(report):
        typer.echo(line)


def _lines(report: Any) -> list[str]:
    learnt = f"{report.neurons:,} neurons, {report.exemplars:,} exemplars"
    measured = [each for each in report.heldout if each.correlation is not None]
    heldout = "not measured: none of the held-out neurons changes" if report.heldout else "no neuron was held out"
    if report.correlation is not None:
        heldout = f"{report.correlation:.3f}, mean of {len(measured):,} neurons on documents that it never saw"
    return [
        f"Learnt        {learnt}, {report.steps:,} steps, {report.tokens:,} tokens, {report.seconds / 60:,.1f} minutes",
        f"Correlation   {heldout}",
        report.path,
    ]
