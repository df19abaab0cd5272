"""A simulator of one's own beside the hybrid one and its untrained base, on neurons and documents it never saw.

    python -m train_simulator.compare runs/explanations --store <store> --checkpoint runs/simulator \
        --base smollm2-135m --plot loss.png

prints the table of `docs/results/trained-simulator.md`. The neurons are those that the training with the same share and
names held out; each is tested on its top and random sequences of the test split.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray

import neuronscope as ns
from neuronscope.errors import ConfigurationError
from neuronscope.interfaces import Simulator
from neuronscope.io import write_atomically
from neuronscope.metrics.correlation import pearson, varies
from train_simulator.data import ExplainedNeuron, is_held_out, read_results

Floats = NDArray[np.floating[Any]]
RESAMPLES = 10_000
"""Draws of the bootstrap."""


class Interval(NamedTuple):
    """A mean, and the middle 95 % of what it is over resampled neurons."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


def bootstrap(values: NDArray[np.float64], seed: int = 0) -> Interval:
    """The mean of values, one per neuron, with a 95 % interval from resampling the neurons."""
    drawn = np.random.default_rng(seed).integers(0, len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def predict(simulator: Simulator, neurons: Sequence[ExplainedNeuron]) -> list[Floats]:
    """Per neuron, what a simulator makes of the explanation on the unseen exemplars, one after the other."""
    return [
        np.concatenate([array[0] for array in simulator.simulate([neuron.explanation], neuron.unseen)])
        for neuron in neurons
    ]


def correlations(predictions: Sequence[Floats], neurons: Sequence[ExplainedNeuron]) -> NDArray[np.float64]:
    """Per neuron, the correlation of predicted and true activations over all tokens of its unseen exemplars.

    NaN for a neuron that does the same on all of them.
    """
    found = [pearson(p, true_activations(neuron)).value for p, neuron in zip(predictions, neurons, strict=True)]
    return np.array([np.nan if value is None else value for value in found])


def true_activations(neuron: ExplainedNeuron) -> NDArray[np.float32]:
    """Those on the unseen exemplars, one after the other."""
    return np.concatenate([exemplar.activations for exemplar in neuron.unseen])


def table(scores: dict[str, NDArray[np.float64]], reference: str) -> str:
    """Means per simulator, and the difference from a reference on the same neurons, as a Markdown table."""
    lines = [f"| simulator | correlation | difference from {reference} |", "|---|---|---|"]
    for name, values in scores.items():
        difference = "" if name == reference else str(bootstrap(values - scores[reference]))
        lines.append(f"| {name} | {bootstrap(values)} | {difference} |")
    return "\n".join(lines)


def plot_loss(checkpoint: Path, path: Path) -> None:
    """Draw the loss that a training reports, step by step and as a moving average.

    Raises:
        ConfigurationError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigurationError(
            "Plots need matplotlib, which is not installed: pip install 'neuronscope[report]'."
        ) from error
    lines = json.loads((checkpoint / "report.json").read_text("utf-8"))["losses"]
    steps = np.array([line["step"] for line in lines])
    losses = np.array([line["loss"] for line in lines])
    window = max(1, len(losses) // 10)
    figure = Figure(figsize=(6, 3), dpi=80, layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, losses, color="0.8", linewidth=1, label="step")
    smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
    axes.plot(steps[window - 1 :], smooth, label=f"mean of {window} steps")
    axes.set(xlabel="step", ylabel="cross-entropy", ylim=(0, None))
    axes.legend(frameon=False)
    figure.savefig(path)


def main(
    explanations: Annotated[Path, typer.Argument(exists=True, file_okay=False)],
    store: Annotated[Path, typer.Option(exists=True, file_okay=False)],
    checkpoint: Annotated[Path, typer.Option(exists=True, file_okay=False)],
    base: Annotated[str, typer.Option(help="What the checkpoint was trained from.")] = "smollm2-135m",
    heldout: Annotated[float, typer.Option(help="The share that the training held out.")] = 0.15,
    top: Annotated[int, typer.Option(help="Top test sequences of each neuron.")] = 20,
    random: Annotated[int, typer.Option(help="Random test sequences of each neuron.")] = 20,
    plot: Annotated[Path | None, typer.Option(help="Draw the loss into this file.")] = None,
    out: Annotated[Path | None, typer.Option(help="Keep every neuron's correlations as JSON.")] = None,
) -> None:
    """Compare the simulators and print the table of means."""
    from neuronscope.simulators.finetuned import FinetunedSimulator
    from neuronscope.simulators.hybrid import HybridSimulator

    held_out = [
        neuron
        for neuron in read_results(explanations, ns.open_store(store), top=top, random=random)
        if is_held_out(neuron.name, heldout) and neuron.unseen and varies(true_activations(neuron))
    ]
    simulators: dict[str, Simulator] = {
        "hybrid": HybridSimulator(),
        "trained": FinetunedSimulator(checkpoint),
        "untrained base": FinetunedSimulator(base),
    }
    predictions = {name: predict(simulator, held_out) for name, simulator in simulators.items()}
    predictions["mean of hybrid and trained"] = [
        (one + other) / 2 for one, other in zip(predictions["hybrid"], predictions["trained"], strict=True)
    ]
    scores = {name: correlations(predicted, held_out) for name, predicted in predictions.items()}
    typer.echo(f"{len(held_out)} neurons, {sum(len(true_activations(neuron)) for neuron in held_out):,} tokens\n")
    typer.echo(table(scores, "hybrid"))
    if out is not None:
        names = [neuron.name for neuron in held_out]
        rows = {name: dict(zip(names, values.tolist(), strict=True)) for name, values in scores.items()}
        write_atomically(out, json.dumps(rows, indent=1))
    if plot is not None:
        plot_loss(checkpoint, plot)


if __name__ == "__main__":
    typer.run(main)
