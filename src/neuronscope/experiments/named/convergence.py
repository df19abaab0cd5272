"""The paper's figure 2a: mean score by iteration and layer, and how many neurons still move.

    neuronscope experiment convergence --out results

It reads what `table1`, or any other of these experiments, has explained.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import typer

from neuronscope.experiments.folder import ExperimentFolder, SubjectRun
from neuronscope.experiments.options import with_experiment
from neuronscope.experiments.report import Report, estimate_data, estimated, markdown_table
from neuronscope.metrics.bootstrap import Estimate, Resampling
from neuronscope.metrics.paired import mean_score
from neuronscope.results import Mode, NeuronExplanation, mean_of, sortable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

app = typer.Typer(add_completion=False)

NOTES = (
    "A mode's score at an iteration is the best validation score that was accepted until then; a mode that has stopped "
    "keeps it. Shown is the mean over modes, then over neurons, with 95 % bootstrap intervals over neurons. A neuron "
    "moves where one of its modes gains at least `min_improvement` ({least:g}); it converged before the last iteration "
    "if it does not move in that one."
)


def trajectory(mode: Mode, iterations: int) -> list[float | None]:
    """The best accepted validation score at each iteration, from 0; None before one was measured."""
    found: list[float | None] = []
    best: float | None = None
    for iteration in range(iterations + 1):
        for attempt in mode.history:
            if attempt.iteration == iteration and attempt.accepted:
                best = max(best, attempt.val_score, key=sortable)
        found.append(best)
    return found


def moves(mode: Mode, iterations: int, least: float) -> list[bool]:
    """Whether a mode gains something at each iteration, from 1."""
    return [
        before is not None and after is not None and after > before and after - before >= least
        for before, after in pairwise(trajectory(mode, iterations))
    ]


def report(folder: ExperimentFolder) -> Report:
    """Make figure and table of what is saved."""
    config = folder.spec.setup.config
    iterations, least = config.max_iterations, config.min_improvement
    data: list[dict[str, Any]] = []
    lines: list[tuple[str, ...]] = []
    drawn: dict[str, list[tuple[int, list[Estimate]]]] = {}
    for each, layer, results in folder.by_layer():
        found = [result for result in results if any(mode.history for mode in result.modes)]
        means = _means(found, iterations, Resampling(seed=config.seed))
        moving = [_moving(result, iterations, least) for result in found]
        still = [sum(neuron[at] for neuron in moving) for at in range(iterations)]
        converged = None if not moving or not iterations else sum(not neuron[-1] for neuron in moving) / len(moving)
        data.append(
            {
                "model": each.subject.label,
                "layer": layer,
                "neurons": len(found),
                "score_by_iteration": [estimate_data(mean) for mean in means],
                "moving_by_iteration": still,
                "converged_before_last": converged,
            }
        )
        lines.append(
            (
                each.subject.label,
                str(layer),
                str(len(found)),
                *map(estimated, means),
                " ".join(map(str, still)),
                "–" if converged is None else f"{converged:.0%}",
            )
        )
        drawn.setdefault(each.subject.label, []).append((layer, means))
    head = ("model", "layer", "neurons", *(f"iteration {at}" for at in range(iterations + 1)))
    table = markdown_table((*head, f"still move, 1 to {iterations}", f"converged before {iterations}"), lines)
    figures = {f"convergence-{each.subject.folder}": _draw(each, drawn[each.subject.label]) for each in folder.subjects}
    data_ = {"rows": data, "iterations": iterations, "min_improvement": least}
    title = "Figure 2a: convergence of refinement"
    return Report("convergence", title, f"{table}\n\n{NOTES.format(least=least)}", data_, figures)


def _means(results: Sequence[NeuronExplanation], iterations: int, resampling: Resampling) -> list[Estimate]:
    """The mean score over neurons at each iteration."""
    of_neurons = [[trajectory(mode, iterations) for mode in result.modes] for result in results]
    return [
        mean_score([mean_of(mode[at] for mode in modes) for modes in of_neurons], resampling)
        for at in range(iterations + 1)
    ]


def _moving(result: NeuronExplanation, iterations: int, least: float) -> list[bool]:
    """Whether one of a neuron's modes moves, at each iteration from 1."""
    return [any(at) for at in zip(*(moves(mode, iterations, least) for mode in result.modes), strict=True)]


def _draw(each: SubjectRun, layers: Sequence[tuple[int, list[Estimate]]]) -> Figure:
    from neuronscope.display.plots import canvas, look, nothing

    figure, axes = canvas(f"Validation score by iteration\n{each.subject.label}")
    measured = [(layer, means) for layer, means in layers if all(mean.value is not None for mean in means)]
    for position, (layer, means) in enumerate(measured):
        colour, marker = look(position)
        at = list(range(len(means)))
        axes.plot(at, [mean.value or 0.0 for mean in means], marker=marker, color=colour, label=f"layer {layer}")
        ends = [mean.interval for mean in means]
        if None not in ends:
            low, high = zip(*(end for end in ends if end is not None), strict=True)
            axes.fill_between(at, low, high, color=colour, alpha=0.12, linewidth=0)
    if not measured:
        return nothing(figure, axes, "no score was measured")
    axes.set_xticks(range(max(len(means) for _, means in measured)))
    axes.set(xlabel="Refinement iteration", ylabel="Best validation score so far, mean over neurons")
    axes.legend(fontsize=8, frameon=False)
    return figure


@app.command()
@with_experiment
def convergence(folder: ExperimentFolder) -> Report:
    """The paper's figure 2a: score by iteration and layer, and how many neurons still move."""
    return report(folder)
