"""The options that the paper's experiments share: which experiment, where, and every setting of its runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from neuronscope.cli.output import DebugFlag, JsonFlag, prepare, print_json
from neuronscope.cli.plan import PlanFlag, SampleOption
from neuronscope.cli.settings import with_setup
from neuronscope.config import ExplainConfig, Setup
from neuronscope.errors import ConfigurationError
from neuronscope.experiments.folder import ExperimentFolder, known_spec
from neuronscope.experiments.report import Report
from neuronscope.experiments.spec import ExperimentSpec, assembled, load_spec

OutOption = Annotated[
    Path, typer.Option(file_okay=False, help="The experiment's folder; what is there already is not done again.")
]
PresetOption = Annotated[
    str | None,
    typer.Option(metavar="small|paper", help="What the paper did; or the same in small, with nothing but PyPI."),
]
SpecOption = Annotated[
    Path | None, typer.Option("--spec", dir_okay=False, help="A YAML file with an experiment (docs/experiments.md).")
]
SubjectsOption = Annotated[
    list[str] | None,
    typer.Option("--subject", help="One more model, by path, at layers as deep as the paper's; may be repeated."),
]
NOption = Annotated[int | None, typer.Option("--n", min=1, help="Neurons of each layer.")]
PopulationOption = Annotated[
    str | None,
    typer.Option(metavar="frequent|random", help="The neurons that are most often active, or drawn at random."),
]
MethodsOption = Annotated[
    str | None, typer.Option(help="What `compare` compares, with commas between (docs/methods.md).")
]
ComparedOption = Annotated[int | None, typer.Option(min=1, help="Neurons of each layer that `compare` scores.")]
ParallelOption = Annotated[int | None, typer.Option(min=1, help="Neurons under way at once.")]
ShardOption = Annotated[
    str | None,
    typer.Option(metavar="I/N", help="Only explain the I-th of N parts, from 0; then the same without it reports."),
]


def with_experiment(command: Callable[..., Report | None]) -> Callable[..., None]:
    """Give a command the options of an experiment: it is called with the folder, once every neuron is explained.

    Its own parameters after the first stay options. What it returns is saved and printed.
    """
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

    def run(
        context: typer.Context,
        out: OutOption = Path("results"),
        preset: PresetOption = None,
        spec: SpecOption = None,
        subject: SubjectsOption = None,
        n: NOption = None,
        population: PopulationOption = None,
        methods: MethodsOption = None,
        compared: ComparedOption = None,
        parallel: ParallelOption = None,
        plan: PlanFlag = False,
        sample: SampleOption = 0,
        shard: ShardOption = None,
        as_json: JsonFlag = False,
        debug: DebugFlag = False,
        **settings: Any,
    ) -> None:
        others = {parameter.name: settings.pop(parameter.name) for parameter in own if parameter.name in settings}
        fields = {"n": n, "population": population, "methods": methods, "compared": compared, "parallel": parallel}
        changes = {name: value for name, value in {"preset": preset, **fields}.items() if value is not None}
        folder = ExperimentFolder(out, spec_from(out, spec, changes, settings, subject or []))
        prepare()
        if plan or sample:
            print_plans(context, folder, sample)
            return
        folder.explain(shard)
        if shard is not None:
            typer.echo(f"Shard {shard} is done. When all are, the same command without --shard goes on.", err=True)
            return
        if (report := command(folder, **others)) is None:
            return
        save_and_print(report, folder.path, context)

    run.__doc__ = command.__doc__
    run.__name__ = command.__name__
    signature = inspect.signature(run, eval_str=True)
    fixed = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    rest = [each for each in signature.parameters.values() if each.kind is each.VAR_KEYWORD]
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]  # how typer learns a command's options
        parameters=[*fixed, *own, *rest]
    )
    return with_setup(run)


def save_and_print(report: Report, folder: Path, context: typer.Context) -> None:
    """What every experiment's command ends with: its files, and its tables, or with --json its numbers."""
    report.save(folder)
    if context.meta.get("as_json"):
        print_json(dict(report.data))
    else:
        typer.echo(report.markdown)
    typer.echo(f"Saved {folder / report.name}.md", err=True)


def spec_from(
    out: Path, file: Path | None, changes: dict[str, Any], settings: dict[str, str | None], subjects: list[str]
) -> ExperimentSpec:
    """The experiment that options mean: a file's or a preset's, or else the one that is in the folder.

    Raises:
        ConfigurationError: a value makes no sense, or nothing says which experiment.
    """
    base = known_spec(out) if file is None and "preset" not in changes else None if file is None else load_spec(file)
    if base is None and "preset" not in changes:
        raise ConfigurationError(
            f"There is no experiment in {out} yet. Say which: --preset small, --preset paper, or --spec FILE."
        )
    given = {name: None if value == "none" else value for name, value in settings.items() if value is not None}
    setup: dict[str, Any] = {name: given[name] for name in Setup.model_fields if name in given}
    if config := {name: given[name] for name in ExplainConfig.model_fields if name in given}:
        setup["config"] = config
    return assembled(base, {**changes, **({"setup": setup} if setup else {})}, subjects)


def print_plans(context: typer.Context, folder: ExperimentFolder, sample: int) -> None:
    """Print what is left to pay for, model by model; with --json all of it."""
    from rich.console import Console

    from neuronscope.experiments.plan import plan_experiment, plan_markdown, total

    plans = plan_experiment(folder, sample)
    if context.meta.get("as_json"):
        print_json(
            {
                "total": asdict(total(plans)),
                "subjects": {
                    each.name: {
                        "left": each.left,
                        "expected": asdict(each.amounts),
                        "plan": None if each.plan is None else each.plan.to_dict(),
                        "why_by_settings_alone": each.why or None,
                    }
                    for each in plans
                },
            }
        )
        return
    for each in plans:
        if each.plan is not None:
            typer.echo(each.name)
            Console().print(each.plan)
    typer.echo(plan_markdown(plans))
