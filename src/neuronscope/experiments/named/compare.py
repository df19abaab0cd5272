"""The paper's table 3 and its claims about methods: a baseline's sentence beside the modes, and scores side by side.

    neuronscope experiment compare --out results --methods neuronscope,unrefined,best_of_k:8,token_lookup

Neurons are those that are explained already: the first `compared` of each layer's population.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import typer

from neuronscope.baselines import resolve_baselines
from neuronscope.comparison import Comparison, MethodScore
from neuronscope.errors import ConfigurationError
from neuronscope.experiments.folder import ExperimentFolder, SubjectRun
from neuronscope.experiments.nearest import Part, mark, marked, nearest, split_parts
from neuronscope.experiments.options import with_experiment
from neuronscope.experiments.report import Report, cell, estimate_data, estimated, markdown_table
from neuronscope.metrics.bootstrap import Estimate, Resampling
from neuronscope.metrics.paired import PairedDifference
from neuronscope.results import NeuronExplanation
from neuronscope.types import Neuron

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings
    from matplotlib.figure import Figure

app = typer.Typer(add_completion=False)

OWN = "neuronscope"
SHOWN = 5
"""Neurons of each model whose sentences stand beside each other, as many as in the paper's table 3."""
BESIDE = ("best_of_k", "single_pass", "best_of_n", "clustered", "experimenter")
"""Whose sentence stands beside the modes, the first that is compared; the paper's baseline is a best of k."""
NOTES = (
    "Joint is the test score of all of a method's sentences together, Score their mean (the paper's): means over "
    "neurons with 95 % bootstrap intervals. Difference is NeuronScope's joint score minus the method's on the same "
    "neurons, p that of the sign test. What each method does is in docs/methods.md."
)
TABLE_3 = (
    "Each part of the baseline's sentence stands behind the square of the mode that it is nearest to (MiniLM, cosine). "
    "Shown are the first neurons of the population with two modes or more."
)


def chosen_neurons(each: SubjectRun, compared: int) -> list[Neuron]:
    """The first neurons of each layer's population that are explained and have a mode."""
    with_modes = [result.neuron for result in each.results() if result.modes]
    of_layers = ([one for one in with_modes if one.layer == layer][:compared] for layer in each.subject.layers)
    return [neuron for neurons in of_layers for neuron in neurons]


def scored(folder: ExperimentFolder, each: SubjectRun) -> Comparison:
    """The rows of one model: those that are saved, and the others now; a model is loaded only for these.

    Raises:
        NeuronScopeError: there is no such method, or the model cannot be loaded.
    """
    out, results = folder.path / "compare" / each.subject.folder, each.results()
    neurons = chosen_neurons(each, folder.spec.compared)
    known = {result.neuron: result for result in results}
    names = [method.name for method in resolve_baselines(folder.spec.methods, known)]
    saved = {(row.neuron, row.method): row for row in _saved(out / "scores")}
    if any((neuron, name) not in saved for neuron in neurons for name in names):
        with each.run.open(each.run.layers) as lab:
            rows = lab.compare(
                neurons, folder.spec.methods, explanations=results, out=out, parallel=each.run.parallel, progress=None
            )
            saved = {(row.neuron, row.method): row for row in rows}
    return Comparison(saved[neuron, name] for neuron in neurons for name in names)


def _saved(folder: Path) -> list[MethodScore]:
    return [MethodScore.load(file) for file in sorted(folder.glob("*/*.json"))]


def report(folder: ExperimentFolder) -> Report:
    """Score what is not scored yet, and make the tables and the picture.

    Raises:
        ConfigurationError: NeuronScope is not among the methods.
        NeuronScopeError: there is no such method, or a model cannot be loaded.
    """
    from neuronscope.llm.embeddings import resolve_embeddings

    if OWN not in [name.strip() for name in folder.spec.methods.split(",")]:
        raise ConfigurationError(f"What the others are compared with is missing: add {OWN} to --methods.")
    embeddings, resampling = resolve_embeddings("minilm"), Resampling(seed=folder.spec.setup.config.seed)
    data: list[dict[str, Any]] = []
    tables, beside = [], []
    figures: dict[str, Figure] = {}
    for each in folder.subjects:
        comparison = scored(folder, each)
        methods = [_method(comparison, name, resampling) for name in comparison.methods]
        pairs = _beside(each, comparison, embeddings)
        data.append(
            {
                "model": each.subject.label,
                "neurons": [str(neuron) for neuron in comparison.neurons],
                "methods": methods,
                "scores": [
                    {
                        "neuron": str(row.neuron),
                        "method": row.method,
                        "joint_score": row.joint_score,
                        "score": row.score,
                    }
                    | {"number": row.number, "sentences": row.sentences}
                    for row in comparison.rows
                ],
                "beside": [pair for pair, _ in pairs],
            }
        )
        tables.append(_table(each, comparison, resampling))
        beside += [line for _, line in pairs]
        asks = any(row.usage.llm_tokens for row in comparison.rows)
        figures[f"compare-{each.subject.folder}"] = comparison.plot_cost("llm" if asks else "simulated")
    head = ("model", "layer / neuron", "description by the baseline", "description by NeuronScope")
    table_3 = "\n".join(["| " + " | ".join(head) + " |", "| --- | --- | --- | --- |", *beside]) if beside else ""
    markdown = "\n\n".join([*tables, NOTES, *([table_3, TABLE_3] if beside else [])])
    return Report("compare", "Table 3 and methods compared", markdown, {"rows": data}, figures)


def _method(comparison: Comparison, name: str, resampling: Resampling) -> dict[str, Any]:
    """One method's means, and the difference."""
    rows = [row for row in comparison.rows if row.method == name]
    pair = comparison.paired(OWN, name, resampling=resampling)
    return {
        "method": name,
        "joint_score": estimate_data(comparison.mean(name, resampling=resampling)),
        "score": estimate_data(comparison.mean(name, "score", resampling)),
        "number": _mean([row.number for row in rows]),
        "failed": sum(row.joint_score is None for row in rows),
        "difference": {
            "value": pair.mean,
            "low": pair.low,
            "high": pair.high,
            "n": pair.n,
            "wins": pair.wins,
            "losses": pair.losses,
            "p_value": pair.p_value,
        },
    }


def _table(each: SubjectRun, comparison: Comparison, resampling: Resampling) -> str:
    lines = []
    for name in comparison.methods:
        rows = [row for row in comparison.rows if row.method == name]
        number, pair = _mean([row.number for row in rows]), comparison.paired(OWN, name, resampling=resampling)
        lines.append(
            (
                name,
                estimated(comparison.mean(name, resampling=resampling)),
                estimated(comparison.mean(name, "score", resampling)),
                "–" if number is None else f"{number:.2f}",
                *(("", "", "") if name == OWN else _difference(pair)),
                f"{fmean(row.usage.llm_tokens for row in rows):,.0f}",
                f"{fmean(row.usage.simulated_tokens for row in rows):,.0f}",
            )
        )
    head = ("method", "joint", "Score", "Number", "difference", "wins : losses", "p", "LLM tokens", "simulated tokens")
    return f"**{cell(each.subject.label)}**, {len(comparison.neurons)} neurons\n\n{markdown_table(head, lines)}"


def _difference(pair: PairedDifference) -> tuple[str, str, str]:
    p = "–" if pair.p_value is None else f"{pair.p_value:.3f}"
    return estimated(Estimate(pair.mean, pair.low, pair.high)), f"{pair.wins} : {pair.losses}", p


def _mean(values: Sequence[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _beside(each: SubjectRun, comparison: Comparison, embeddings: Embeddings) -> list[tuple[dict[str, Any], str]]:
    """The lines of table 3: a baseline's sentence, its parts by meaning, and the modes."""
    by_kind = {name.partition(":")[0]: name for name in comparison.methods}
    baseline = next((by_kind[kind] for kind in BESIDE if kind in by_kind), None)
    known = {result.neuron: result for result in each.results()}
    lines: list[tuple[dict[str, Any], str]] = []
    for row in comparison.rows:
        result = known[row.neuron]
        if row.method == baseline and row.sentences and result.number > 1 and len(lines) < SHOWN:
            modes = [mode.explanation for mode in result.modes]
            lines.append(_line(each, result, nearest(split_parts(row.sentences[0]), modes, embeddings), baseline))
    return lines


def _line(each: SubjectRun, result: NeuronExplanation, parts: list[Part], baseline: str) -> tuple[dict[str, Any], str]:
    neuron = f"{result.neuron.layer} / {result.neuron.index}"
    modes = " ".join(f"{mark(place)} {cell(mode.explanation)}" for place, mode in enumerate(result.modes))
    data = {
        "neuron": str(result.neuron),
        "baseline": baseline,
        "parts": [part._asdict() for part in parts],
        "modes": [mode.explanation for mode in result.modes],
    }
    return data, f"| {cell(each.subject.label)} | {neuron} | {marked(parts)} | {modes} |"


@app.command()
@with_experiment
def compare(folder: ExperimentFolder) -> Report:
    """The paper's table 3: a baseline's sentence beside the modes; and methods compared, with their costs."""
    return report(folder)
