"""How well simulators read: planted concepts, real sentences beside a strong reader's, rankings, and cost.

    neuronscope experiment simulators --readings reader.jsonl --out runs/simulators

prints the tables of `docs/results/simulators.md`. All simulators get the same sentences and texts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import neuronscope as ns
from neuronscope.cli.output import prepare
from neuronscope.errors import NeuronScopeError, SimulatorError
from neuronscope.experiments.comparison import Comparison, Measured
from neuronscope.experiments.concept_reading import EACH, ConceptSample, read_concepts, sample_concepts
from neuronscope.experiments.concepts import KINDS, Concept, load_concepts
from neuronscope.experiments.cost import TEXTS, measure_cost
from neuronscope.experiments.readings import ReadNeuron, load_readings, read_neurons
from neuronscope.experiments.texts import load_tokenizer_of, read_split
from neuronscope.interfaces import Simulator
from neuronscope.llm.models import resolve_llm
from neuronscope.simulators.registry import check_simulator, resolve_simulator

DEFAULT = "hybrid,reader,prompted:smollm2-135m,transluce,chat"

SEQ_LEN = 64
"""Tokens of a sequence."""

app = typer.Typer(add_completion=False)


@app.command()
def simulators(
    simulators: Annotated[
        str, typer.Option(help="Names as in `simulator=`, with commas between; what cannot run here is said so.")
    ] = DEFAULT,
    readings: Annotated[
        Path | None, typer.Option(help="Real sentences with a strong reader's predictions, JSONL (docs/simulators.md).")
    ] = None,
    concepts: Annotated[Path | None, typer.Option(help="Planted concepts, JSON; else the package's.")] = None,
    wordings: Annotated[
        Path | None,
        typer.Option(help="More wordings by strangers: JSON, from a concept's name to a list of sentences."),
    ] = None,
    llm: Annotated[str, typer.Option(help='Who simulates as "chat", such as "openai:gpt-4o".')] = "offline",
    subject: Annotated[str, typer.Option(help="Whose tokens the texts of planted concepts have.")] = "smollm2-135m",
    corpus: Annotated[str, typer.Option(help="Text for planted concepts; its test split is read.")] = "builtin",
    per_kind: Annotated[int | None, typer.Option(min=1, help="Concepts of each kind, drawn; else all.")] = None,
    sequences: Annotated[int, typer.Option(min=1, help="Sequences with a concept, and as many without.")] = EACH,
    neurons: Annotated[int | None, typer.Option(min=1, help="Neurons of the readings, drawn; else all.")] = None,
    texts: Annotated[
        int | None, typer.Option(min=1, help="Texts of each of these, drawn, and for the cost; else all, and 20.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 0,
    out: Annotated[Path | None, typer.Option(file_okay=False, help="Write the tables and all figures here.")] = None,
) -> None:
    """Compare simulators: planted concepts, real sentences, how they rank explanations, and cost."""
    from rich.console import Console

    console = Console(stderr=True)
    names = list(dict.fromkeys(each.strip() for each in simulators.split(",")))
    for name in names:
        check_simulator(name)
    if out is not None:
        prepare(out / "simulators.json")
    chosen = _drawn(load_concepts(concepts, wordings), per_kind, seed)
    read = [] if readings is None else load_readings(readings, neurons, texts, seed)
    exemplars = read_split(load_tokenizer_of(subject), corpus, "test", SEQ_LEN)
    planted = list(sample_concepts(chosen, exemplars, seed, sequences))
    used = {exemplar.sequence_id for each in planted for exemplar in each.exemplars}
    unused = [each for each in exemplars if each.sequence_id not in used and len(each.tokens) == SEQ_LEN]
    fresh = unused[: min(texts or TEXTS, TEXTS) + 1]
    comparison = Comparison(
        _settings(
            simulators=simulators,
            readings=None if readings is None else readings.name,
            concepts="the package's" if concepts is None else concepts.name,
            wordings=None if wordings is None else wordings.name,
            llm=llm,
            subject=subject,
            corpus=corpus,
            sequences=sequences,
            seed=seed,
            planted=len(planted),
            too_rare=sorted({concept.name for concept in chosen} - {each.concept.name for each in planted}),
            neurons=len(read),
            texts=texts,
        )
    )
    for name in names:
        began = time.perf_counter()
        with console.status(f"Measuring {name}"):
            try:
                comparison.measured[name] = measure(_resolved(name, llm), planted, read, fresh)
            except NeuronScopeError as error:
                comparison.not_measured[name] = " ".join(str(error).split())
        comparison.settings["seconds"][name] = round(time.perf_counter() - began, 1)
        if out is not None:
            comparison.save(out)
    typer.echo(comparison.markdown())
    if out is not None:
        console.print(f"Saved {out}", soft_wrap=True, highlight=False, markup=False)


def measure(
    simulator: Simulator, planted: Sequence[ConceptSample], read: Sequence[ReadNeuron], fresh: Sequence[ns.Exemplar]
) -> Measured:
    """Measure one simulator: what it costs first, while all is new to it."""
    cost = measure_cost(simulator, fresh) if len(fresh) > 1 else None
    found = list(read_neurons(simulator, read))
    return Measured(
        planted=list(read_concepts(simulator, planted)),
        readings=[score for scores, _ in found for score in scores],
        rankings=[ranking for _, ranking in found],
        cost=cost,
    )


def _drawn(concepts: Sequence[Concept], per_kind: int | None, seed: int) -> list[Concept]:
    order = np.random.default_rng(seed).permutation(len(concepts))
    chosen = {
        number for kind in KINDS for number in list(islice((n for n in order if concepts[n].kind == kind), per_kind))
    }
    return [concept for number, concept in enumerate(concepts) if number in chosen]


def _resolved(name: str, llm: str) -> Simulator:
    """The simulator; Transluce's own is not fetched for a machine that it would take days on."""
    import torch

    if name == "transluce" and not torch.cuda.is_available():
        raise SimulatorError("It needs a GPU with at least 20 GB, and there is none here.")
    return resolve_simulator(name, llm=resolve_llm(llm, temperature=0.0))


def _settings(**options: Any) -> dict[str, Any]:
    """What was asked for, and with which versions."""
    packages = ("neuronscope", "numpy", "torch", "transformers", "sentence-transformers")
    return options | {"versions": {name: version(name) for name in packages}, "seconds": {}}
