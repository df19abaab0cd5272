"""The paper's table 1: Score and Number with and without refinement, model by model and layer by layer.

    neuronscope experiment table1 --preset small --out results

Both rows of a layer come from the same results: without refinement is each mode's representative, so that all stages
before refinement are shared, as in the paper, and there is no second run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import typer

from neuronscope.experiments.folder import ExperimentFolder
from neuronscope.experiments.options import with_experiment
from neuronscope.experiments.paper import PaperRow, papers_row
from neuronscope.experiments.report import Report, estimate_data, estimated, markdown_table
from neuronscope.metrics.bootstrap import Estimate, Resampling
from neuronscope.metrics.paired import PairedDifference, mean_score, paired_difference
from neuronscope.results import Mode, NeuronExplanation, mean_of

app = typer.Typer(add_completion=False)

NOTES = (
    "Score is the mean of Pearson's r over a neuron's modes, then over neurons: on validation text as in the paper "
    "(appendix C), where it also selects, and on test text, by which nothing was selected. In brackets: 95 % bootstrap "
    "intervals over neurons. Gain is the mean difference of the two rows on test, neuron by neuron. Number is the mean "
    "number of modes; both rows have the same modes. Dead neurons, and those without a mode, count in no mean."
)


def validation_scores(result: NeuronExplanation) -> tuple[float | None, float | None]:
    """A neuron's mean validation score over modes, before and after refinement."""
    return mean_of(_first(mode) for mode in result.modes), mean_of(mode.val_score for mode in result.modes)


def _first(mode: Mode) -> float | None:
    return mode.history[0].val_score if mode.history else mode.val_score


def report(folder: ExperimentFolder) -> Report:
    """Make the table of what is saved."""
    resampling = Resampling(seed=folder.spec.setup.config.seed)
    data: list[dict[str, Any]] = []
    lines: list[tuple[str, ...]] = []
    for each, layer, results in folder.by_layer():
        found = [result for result in results if result.modes]
        validation = [validation_scores(result) for result in found]
        scores: dict[str, list[float | None]] = {
            "validation_unrefined": [before for before, _ in validation],
            "validation": [after for _, after in validation],
            "test_unrefined": [result.unrefined_score for result in found],
            "test": [result.score for result in found],
        }
        means = {name: mean_score(values, resampling) for name, values in scores.items()}
        number = mean_score([float(result.number) for result in found], resampling)
        gain = paired_difference(scores["test"], scores["test_unrefined"], resampling)
        paper = papers_row(each.subject.stands_for, each.subject.layers, layer)
        counts = {
            "neurons": len(results),
            "with_modes": len(found),
            "dead": sum(result.status == "dead" for result in results),
            "partial": sum(result.status == "partial" for result in results),
        }
        data.append(
            {
                "model": each.subject.label,
                "layer": layer,
                **counts,
                **{name: estimate_data(mean) for name, mean in means.items()},
                "number": estimate_data(number),
                "gain_on_test": _gain_data(gain),
                "paper": None if paper is None else paper._asdict(),
            }
        )
        lines += _lines(each.subject.label, layer, counts, means, number, gain, paper)
    head = ("model", "layer", "method", "Score, validation", "Score, test", "gain on test", "Number", "neurons", "dead")
    table = markdown_table((*head, "paper's model and layer", "paper's Score", "paper's Number"), lines)
    settings = folder.spec.setup
    with_what = f"Writer {settings.llm}, simulator {settings.simulator}, corpus {settings.corpus}"
    population = "most often active" if folder.spec.population == "frequent" else "random"
    of_each = ", ".join(f"{each.subject.label} {each.subject.n or folder.spec.n}" for each in folder.subjects)
    said = f"{with_what}; neurons of each layer, {population}: {of_each}."
    data_ = {"rows": data, "population": folder.spec.population, "n": folder.spec.n}
    return Report("table1", "Table 1: refinement", f"{table}\n\n{said}\n\n{NOTES}", data_)


def _lines(
    model: str,
    layer: int,
    counts: dict[str, int],
    means: dict[str, Estimate],
    number: Estimate,
    gain: PairedDifference,
    paper: PaperRow | None,
) -> Sequence[tuple[str, ...]]:
    """The two rows of a layer."""
    shown: Callable[[float | None, int], str] = lambda value, digits: "" if value is None else f"{value:.{digits}f}"  # noqa: E731 - shorter
    where = "" if paper is None else f"{paper.model}, {paper.layer}"
    both = (f"{counts['with_modes']} of {counts['neurons']}", str(counts["dead"]), where)
    papers_number = shown(None if paper is None else paper.number, 2)
    return [
        (
            model,
            str(layer),
            "w/o refinement",
            estimated(means["validation_unrefined"]),
            estimated(means["test_unrefined"]),
            "",
            estimated(number, 2),
            *both,
            shown(None if paper is None else paper.unrefined, 3),
            papers_number,
        ),
        (
            model,
            str(layer),
            "NeuronScope",
            estimated(means["validation"]),
            estimated(means["test"]),
            estimated(Estimate(gain.mean, gain.low, gain.high)),
            estimated(number, 2),
            *both,
            shown(None if paper is None else paper.refined, 3),
            papers_number,
        ),
    ]


def _gain_data(gain: PairedDifference) -> dict[str, Any]:
    return {
        "value": gain.mean,
        "low": gain.low,
        "high": gain.high,
        "n": gain.n,
        "wins": gain.wins,
        "losses": gain.losses,
        "p_value": gain.p_value,
    }


@app.command()
@with_experiment
def table1(folder: ExperimentFolder) -> Report:
    """The paper's table 1: Score and Number, with and without refinement."""
    return report(folder)
