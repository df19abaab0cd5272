"""What successive halving saves and costs: rounds of candidates, recorded once and replayed against exhaustive scoring.

    neuronscope experiment halving record smollm2-135m --neurons 20 --out runs/halving/hybrid
    neuronscope experiment halving replay runs/halving/hybrid

The second command prints the table of `docs/results/halving.md`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from numpy.typing import NDArray

import neuronscope as ns
from neuronscope.experiments.candidate_sets import CandidateSet, Recorder
from neuronscope.experiments.named.offline import draw
from neuronscope.io import write_atomically
from neuronscope.metrics import successive_halving

if TYPE_CHECKING:
    from neuronscope.state import Instruments

RESAMPLES = 10_000
"""Draws of the bootstrap, which resamples neurons: rounds of one neuron resemble each other."""
SAME = 1e-9
"""A smaller regret is rounding."""

app = typer.Typer(
    help="Record rounds of candidates, and replay them with and without halving.",
    no_args_is_help=True,
    add_completion=False,
)


@dataclass(frozen=True, slots=True)
class Replay:
    """One recorded round, scored by successive halving."""

    neuron: str
    regret: float
    """What the chosen candidate lacks of the best one's score, both on the whole validation set."""
    lost: float
    """What the mode lacks for it: less, since a candidate that does not beat the best attempt replaces nothing."""
    blind_regret: float
    """The same, expected of the best of half of the candidates, drawn at random."""
    tokens: int
    """Explanation-token pairs that successive halving simulates."""
    all_tokens: int
    """Explanation-token pairs of exhaustive scoring."""


async def replay_set(recorded: CandidateSet) -> Replay:
    """Score the candidates of one recorded round by successive halving, and compare with exhaustive scoring."""
    before, *scores = recorded.scores()
    rows = {text: number for number, text in enumerate(recorded.candidates, start=1)}
    simulated: set[tuple[str, int]] = set()

    async def predict(texts: Sequence[str], indices: Sequence[int]) -> list[NDArray[np.float32]]:
        simulated.update((text, index) for text in texts for index in indices)
        chosen = [rows[text] for text in texts]
        return [recorded.predictions[index][chosen] for index in indices]

    reference = [prediction[0] for prediction in recorded.predictions]
    results = await successive_halving(predict, recorded.candidates, recorded.truth, reference)
    chosen = max(score for score, result in zip(scores, results, strict=True) if result.score is not None)
    lengths = [len(row) for row in recorded.truth]
    return Replay(
        neuron=recorded.name.rpartition("-")[0],
        regret=max(scores) - chosen,
        lost=max(*scores, before) - max(chosen, before),
        blind_regret=max(scores) - expected_best(scores, -(-len(scores) // 2)),
        tokens=sum(lengths[index] for _, index in simulated),
        all_tokens=len(scores) * sum(lengths),
    )


def expected_best(scores: Sequence[float], n: int) -> float:
    """The best score among `n` candidates drawn at random, on average."""
    ascending = sorted(scores)
    return sum(score * comb(index, n - 1) for index, score in enumerate(ascending)) / comb(len(scores), n)


def interval(replays: Sequence[Replay], seed: int = 0) -> tuple[float, float]:
    """A 95 % bootstrap interval of the mean regret, with neurons drawn as wholes."""
    neurons = sorted({replay.neuron for replay in replays})
    sums = np.array([sum(r.regret for r in replays if r.neuron == neuron) for neuron in neurons])
    counts = np.array([sum(r.neuron == neuron for r in replays) for neuron in neurons])
    drawn = np.random.default_rng(seed).integers(len(neurons), size=(RESAMPLES, len(neurons)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), [0.025, 0.975])
    return float(low), float(high)


def table(replays: dict[str, list[Replay]]) -> str:
    """One line per folder of recordings, as a Markdown table."""
    lines = [
        "| recordings | sets | simulated tokens | mean regret | 95 % interval | 95th percentile | largest | best found "
        "| lost to the mode | half at random |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, found in replays.items():
        regrets = [replay.regret for replay in found]
        low, high = interval(found)
        cells = [
            name,
            str(len(found)),
            f"{sum(replay.tokens for replay in found) / sum(replay.all_tokens for replay in found):.1%}",
            f"{mean(regrets):.4f}",
            f"{low:.4f} to {high:.4f}",
            f"{np.quantile(regrets, 0.95):.4f}",
            f"{max(regrets):.4f}",
            f"{mean(regret < SAME for regret in regrets):.0%}",
            f"{mean(replay.lost for replay in found):.4f}",
            f"{mean(replay.blind_regret for replay in found):.4f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


async def record_neuron(neuron: ns.Neuron, instruments: Instruments, out: Path) -> None:
    """Explain one neuron and save its rounds; a neuron whose rounds are all there is left alone."""
    from neuronscope.agents import RefinementAgent
    from neuronscope.graphs import build_neuron_graph

    done = out / f"{neuron.file_name}.done"
    if done.exists():
        return
    recorder = Recorder(RefinementAgent())
    await build_neuron_graph(refinement=recorder).ainvoke({"neuron": neuron}, context=instruments)
    for recorded in recorder.sets:
        recorded.save(out)
    write_atomically(done, f"{len(recorder.sets)}\n")


@app.command()
def record(
    subject: str,
    layers: Annotated[str, typer.Option()] = "5,9,19,29",
    neurons: Annotated[int, typer.Option(min=1)] = 20,
    seed: Annotated[int, typer.Option()] = 0,
    n_tokens: Annotated[int, typer.Option(min=1)] = 250_000,
    simulator: Annotated[str, typer.Option()] = "hybrid",
    out: Annotated[Path, typer.Option(file_okay=False)] = Path("runs/halving/hybrid"),
) -> None:
    """Explain random neurons of some layers offline; save each round's candidates and all their predictions."""
    from rich.console import Console
    from rich.progress import track

    from neuronscope.llm.embeddings import resolve_embeddings
    from neuronscope.simulators import resolve_simulator
    from neuronscope.state import Instruments

    loaded, store, chosen = draw(subject, layers, neurons, seed, n_tokens)
    instruments = Instruments(
        subject=loaded,
        store=store,
        simulator=resolve_simulator(simulator),
        embeddings=resolve_embeddings("minilm"),
        config=ns.ExplainConfig(n_tokens=n_tokens, halving=False),
    )
    for neuron in track(chosen, description="Recording", console=Console(stderr=True)):
        asyncio.run(record_neuron(neuron, instruments, out))


@app.command()
def replay(folders: list[Path]) -> None:
    """Replay every recorded round and print the table, a line per folder."""
    replays = {}
    for folder in folders:
        paths = sorted(folder.glob("*.npz"))
        if not paths:
            raise typer.BadParameter(f"{folder} holds no recorded rounds; make some with the command `record`.")
        replays[folder.name] = [asyncio.run(replay_set(CandidateSet.load(path))) for path in paths]
    typer.echo(table(replays))
