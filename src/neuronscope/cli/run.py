"""The commands that explain many neurons, and put the shards of such a run together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neuronscope.cli.options import ENGINE
from neuronscope.cli.output import DebugFlag, JsonFlag, prepare, print_json
from neuronscope.cli.plan import PlanFlag, SampleOption, print_plan
from neuronscope.results import NeuronExplanation


def run(
    context: typer.Context,
    spec: Annotated[Path, typer.Argument(help="A YAML file: subject, neurons, llm, out, ... (docs/runs.md).")],
    out: Annotated[Path | None, typer.Option(file_okay=False, help="The run's folder, instead of the file's.")] = None,
    budget: Annotated[
        str | None,
        typer.Option(help='What the language models may cost, instead of what the file says: "5$".', metavar="AMOUNT"),
    ] = None,
    parallel: Annotated[int | None, typer.Option(min=1, help="Neurons under way at once.")] = None,
    engine: Annotated[str | None, ENGINE] = None,
    plan: PlanFlag = False,
    sample: SampleOption = 0,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Only the I-th of N parts of the neurons, from 0; see `neuronscope merge`."),
    ] = None,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Explain many neurons as a file describes; start it again to go on where it was interrupted."""
    import neuronscope as ns
    from neuronscope.runs.shard import Shard

    given = {"out": out, "budget": budget, "parallel": parallel, "engine": engine}
    changes = {name: value for name, value in given.items() if value is not None}
    chosen = ns.RunSpec.load(spec, **changes)
    prepare()
    if plan or sample:
        print_plan(context, ns.plan(chosen, sample=sample))
        return
    results = sorted(ns.run(chosen, shard=shard), key=lambda result: result.neuron)
    _show(context, chosen.out if shard is None else Shard.of(shard).folder(chosen.out), results)


def merge(
    context: typer.Context,
    out: Annotated[Path, typer.Argument(file_okay=False, help="The run's folder: what `out` is in the run's file.")],
    others: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders with more of its shards, copied from machines that share no disk."),
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Merge what is there, and only warn of what is missing.")
    ] = False,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Put the shards of a run together, after `neuronscope run SPEC --shard I/N` for each of them."""
    prepare()
    import neuronscope as ns

    _show(context, out, ns.merge_shards(out, *(others or ()), allow_missing=allow_missing))


def _show(context: typer.Context, out: Path, results: list[NeuronExplanation]) -> None:
    if context.meta.get("as_json"):
        print_json({"out": str(out), "neurons": [_summary(result) for result in results]})
        return
    from rich.console import Console

    from neuronscope.display.costs import Cost
    from neuronscope.display.run_table import RunTable

    costs = [str(Cost.of(result.usage)) if result.usage.requests else "" for result in results]
    Console().print(RunTable(results, costs))
    typer.echo(f"Results are in {out / 'results'}", err=True)


def _summary(result: NeuronExplanation) -> dict[str, object]:
    return {
        "neuron": str(result.neuron),
        "layer": result.neuron.layer,
        "index": result.neuron.index,
        "sign": result.neuron.sign,
        "site": result.neuron.site,
        "status": result.status,
        "number": result.number,
        "score": result.score,
        "unrefined_score": result.unrefined_score,
        "joint_score": result.joint_score,
        "interval": result.interval,
        "corpus_score": result.corpus_score,
        "corpus_interval": result.corpus_interval,
        "number_interval": result.number_interval,
        "separation": result.separation,
        "separation_interval": result.separation_interval,
        "null_score": result.null_score,
        "null_best": result.null_best,
        "explanations": [mode.explanation for mode in result.modes],
        "failures": [failure.message for failure in result.failures],
    }
