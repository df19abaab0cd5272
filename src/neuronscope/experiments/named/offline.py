"""How well the built-in roles explain random neurons, layer by layer, compared with a token look-up table.

    neuronscope experiment offline smollm2-135m --layers 5,9,19,29 --neurons 20 --out runs/offline

prints the table of `docs/results/offline.md`. Every neuron's result is saved in `--out`, and read back from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

import neuronscope as ns
from neuronscope.baselines import TokenLookup
from neuronscope.results import mean_of

if TYPE_CHECKING:
    from neuronscope.exemplars.store import ExemplarStore
    from neuronscope.subject import LoadedSubject

app = typer.Typer(add_completion=False)

LOOKUP_EXEMPLARS = 100
"""Train exemplars that the look-up tables are made of: the same that the built-in roles read."""
LIMITED = 10
"""Tokens of the limited look-up table: what fits into a sentence."""


@dataclass(frozen=True, slots=True)
class Row:
    """One neuron's explanation and the look-up tables, on the same test set."""

    explanation: ns.NeuronExplanation
    ten_tokens: float | None
    lookup: float | None


def random_neurons(width: int, layer: int, n: int, seed: int) -> list[ns.Neuron]:
    """Draw `n` neurons of a layer without regard to what they do."""
    chosen = np.random.default_rng([seed, layer]).choice(width, size=n, replace=False)
    return [ns.Neuron(layer, int(index)) for index in chosen]


def draw(
    name: str, layers: str, n: int, seed: int, n_tokens: int
) -> tuple[LoadedSubject, ExemplarStore, list[ns.Neuron]]:
    """A model, its exemplars of some layers (such as "5,9"), and `n` random neurons of each of these."""
    subject = ns.load_subject(name)
    numbers = [int(layer) for layer in layers.split(",")]
    store = ns.collect_exemplars(subject, layers=numbers, n_tokens=n_tokens)
    return subject, store, [each for layer in numbers for each in random_neurons(subject.width(layer), layer, n, seed)]


def explain_and_compare(lab: ns.Session, neuron: ns.Neuron, out: Path) -> Row:
    """Explain one neuron, or read its saved result, and score the look-up tables on the same test set."""
    path = out / f"{neuron.file_name}.json"
    if path.exists():
        explanation = ns.NeuronExplanation.load(path)
    else:
        explanation = lab.explain(neuron, progress=False)
        explanation.save(path)
    limited, unlimited = TokenLookup(LIMITED, LOOKUP_EXEMPLARS), TokenLookup(None, LOOKUP_EXEMPLARS)
    return Row(
        explanation,
        lab.score_explainer(limited, neuron).score,
        lab.score_explainer(unlimited, neuron).score,
    )


def table(rows: Sequence[Row]) -> str:
    """The means per layer, of what was measured, as a Markdown table."""
    lines = [
        "| layer | neurons | score before refinement | score | joint score | modes | ten tokens | look-up table |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for layer in sorted({row.explanation.neuron.layer for row in rows}):
        here = [row for row in rows if row.explanation.neuron.layer == layer]
        found = [row.explanation for row in here]
        figures = [
            mean_of(x.unrefined_score for x in found),
            mean_of(x.score for x in found),
            mean_of(x.joint_score for x in found),
        ]
        baselines = [mean_of(row.ten_tokens for row in here), mean_of(row.lookup for row in here)]
        cells = [*map(_cell, figures), f"{mean(x.number for x in found):.2f}", *map(_cell, baselines)]
        lines.append(f"| {layer} | {len(here)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"


@app.command()
def offline(
    subject: str,
    layers: Annotated[str, typer.Option()] = "5,9,19,29",
    neurons: Annotated[int, typer.Option(min=1)] = 20,
    seed: Annotated[int, typer.Option()] = 0,
    n_tokens: Annotated[int, typer.Option(min=1)] = 250_000,
    simulator: Annotated[str, typer.Option(help="As in `simulator=`.")] = "reader",
    out: Annotated[Path, typer.Option(file_okay=False)] = Path("runs/offline"),
) -> None:
    """Explain random neurons of some layers without an LLM and print the table of means."""
    from rich.console import Console
    from rich.progress import track

    loaded, store, chosen = draw(subject, layers, neurons, seed, n_tokens)
    setup = ns.Setup(
        subject=loaded,
        store=store,
        llm="offline",
        embeddings="minilm",
        simulator=simulator,
        config=ns.ExplainConfig(n_tokens=n_tokens),
    )
    shown = track(chosen, description="Explaining", console=Console(stderr=True))
    with setup.open() as lab:
        typer.echo(table([explain_and_compare(lab, neuron, out) for neuron in shown]))
