"""Methods on planted neurons, and the tables of what they have found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import neuronscope as ns
from neuronscope.comparison import MethodScore
from neuronscope.experiments.planted.known import Paper
from neuronscope.experiments.planted.meanings import FOUND, MeaningScores, score_meanings
from neuronscope.experiments.planted.units import FOUND as UNIT_FOUND
from neuronscope.experiments.planted.worlds import World
from neuronscope.experiments.report import Report, estimate_data, estimated, markdown_table
from neuronscope.interfaces import CountedSimulator
from neuronscope.io import write_atomically
from neuronscope.metrics.bootstrap import Estimate, Resampling
from neuronscope.metrics.paired import mean_score, paired_difference
from neuronscope.metrics.scorer import without_activations

OWN = "neuronscope"
PAPER = Paper.name
METHODS = f"{OWN},{PAPER},single_pass,clustered,token_lookup"
VALUES = ("F1", "error of K", "ARI", "joint")
NOTES = (
    "Means over neurons with 95 % bootstrap intervals. F1 is of meanings that are found (a mode's prediction on "
    f"held-out text correlates with the meaning's ground truth at {FOUND} or more, with a real unit's activations at "
    f"{UNIT_FOUND}; modes and meanings are matched one to one), error of K the mean of |modes − meanings|, ARI the "
    "adjusted Rand index between each sequence's strongest meaning and the mode that fits it best, over neurons with "
    "two meanings or more; joint is the test score of all sentences together. Difference is neuronscope's F1 less the "
    "method's on the same neurons."
)
CEILINGS = (
    "own_sentences are the concepts' authors' own: the ceiling of this simulator. exact_truth knows where each meaning "
    "holds, and its strength: the ceiling of any."
)


@dataclass(frozen=True)
class Found:
    """One method's row for one neuron, and what it has found of the neuron's meanings."""

    number: int
    """How many meanings the neuron has."""
    held_out: bool | None
    """Whether nothing was tuned on them; None for real units, which are no concepts."""
    row: MethodScore
    meanings: MeaningScores | None
    """None for a method that gives predictions alone."""


def compare(world: World, setup: ns.Setup, methods: str, out: Path, parallel: int = 8) -> list[Found]:
    """Have methods explain planted neurons, and compare what they found with what is there.

    Args:
        world: the neurons.
        setup: how they are explained; its subject and store are the world's.
        methods: names with commas between, as for `Session.compare`, or "paper" for `ExplainConfig.paper()`.
        out: the folder that keeps what is found.
        parallel: neurons under way at once.
    """
    names = [name.strip() for name in methods.split(",") if name.strip()]
    changes = {"subject": world.subject, "store": world.store}
    wanted: list[Any] = [name for name in names if name != PAPER]
    if PAPER in names:
        same = {name: getattr(setup.config, name) for name in ("n_tokens", "seq_len", "seed")}
        paper = setup.model_copy(update={**changes, "config": ns.ExplainConfig.paper().model_copy(update=same)})
        with paper.open() as lab:
            results = lab.explain_many(world.neurons, out=out / PAPER, parallel=parallel)
            wanted.append(Paper({each.neuron: each for each in results}))
    wanted += world.known
    with setup.model_copy(update=changes).open() as lab:
        rows = list(lab.compare(world.neurons, wanted, out=out / "methods", parallel=parallel))
        order = [*names, *(each.name for each in world.known)]
        rows.sort(key=lambda row: (row.neuron, order.index(row.method) if row.method in order else len(order)))
        return [
            found
            for neuron in world.neurons
            for found in _measured(world, lab, neuron, [row for row in rows if row.neuron == neuron], out)
        ]


def _measured(world: World, lab: ns.Session, neuron: ns.Neuron, rows: Sequence[MethodScore], out: Path) -> list[Found]:
    """Measure one neuron's rows; all sentences are read in one call, or what was measured is read back."""
    file = out / "meanings" / f"{neuron.file_name}.json"
    sentences = {row.method: row.sentences for row in rows if row.number is not None or row.joint_score is None}
    saved = json.loads(file.read_bytes()) if file.exists() else {}
    if saved.get("sentences") != sentences:
        held_out = world.held_out(neuron, lab.config.seed)
        simulator = lab.simulator
        if isinstance(simulator, CountedSimulator):
            simulator = simulator.counted_by(lab.resources.instruments().usage)
        texts = list(dict.fromkeys(text for each in sentences.values() for text in each))
        predicted = simulator.simulate(texts, [without_activations(each) for each in held_out.exemplars])
        scores = {
            method: score_meanings([array[[texts.index(text) for text in each]] for array in predicted], held_out)
            for method, each in sentences.items()
        }
        saved = {"sentences": sentences, "scores": {name: each.to_dict() for name, each in scores.items()}}
        write_atomically(file, json.dumps(saved, ensure_ascii=False, indent=1))
    return [
        Found(
            world.number(neuron),
            world.nothing_tuned_on(neuron),
            row,
            MeaningScores.from_dict(saved["scores"][row.method]) if row.method in sentences else None,
        )
        for row in rows
    ]


def report(found: Sequence[Found], seed: int = 0) -> Report:
    """The tables: all neurons, those of concepts that nothing was tuned on and the others, and by the number."""
    resampling = Resampling(seed=seed)
    held_out = [each for each in found if each.held_out]
    tuned_on = [each for each in found if each.held_out is False]
    units = [each for each in found if each.held_out is None]
    parts = {"All neurons": list(found)}
    if held_out and tuned_on:
        parts = parts | {"Concepts that nothing was tuned on": held_out, "Other concepts": tuned_on}
    elif held_out:
        parts = {"Concepts that nothing was tuned on": held_out}
    elif units:
        parts = {"Pairs of real units": units}
    tables = [f"**{title}**, {_count(part)} neurons\n\n{_table(part, resampling)}" for title, part in parts.items()]
    numbers = sorted({each.number for each in found})
    by_number = {k: [each for each in found if each.number == k] for k in numbers}
    if len(numbers) > 1:
        tables += [_by_number(by_number, name, resampling) for name in ("F1", "error of K", "ARI", "joint")]
    notes = NOTES if units else f"{NOTES} {CEILINGS}"
    data = {
        "parts": {title: _data(part, resampling) for title, part in parts.items()},
        "by_number": {str(k): _data(part, resampling) for k, part in by_number.items()},
        "rows": [
            {
                "neuron": str(each.row.neuron),
                "method": each.row.method,
                "held_out": each.held_out,
                "joint": each.row.joint_score,
                "sentences": each.row.sentences,
                "meanings": None if each.meanings is None else each.meanings.to_dict(),
            }
            for each in found
        ],
    }
    return Report("planted", "Planted meanings", "\n\n".join([*tables, notes]), data)


def value_of(found: Found, name: str) -> float | None:
    """One of `VALUES`."""
    if name == "joint":
        return found.row.joint_score
    if found.meanings is None:
        return None
    return {"F1": found.meanings.f1, "error of K": found.meanings.number_error, "ARI": found.meanings.ari}[name]


def _methods(found: Sequence[Found]) -> dict[str, list[Found]]:
    names = dict.fromkeys(each.row.method for each in found)
    return {name: [each for each in found if each.row.method == name] for name in names}


def _count(found: Sequence[Found]) -> int:
    return len({each.row.neuron for each in found})


def _table(found: Sequence[Found], resampling: Resampling) -> str:
    lines = []
    methods = _methods(found)
    for name, rows in methods.items():
        modes = [each.meanings.modes for each in rows if each.meanings is not None]
        means = [estimated(mean_score([value_of(each, value) for each in rows], resampling), 2) for value in VALUES]
        difference = "–"
        if name != OWN and OWN in methods:
            pair = paired_difference(
                [value_of(each, "F1") for each in methods[OWN]], [value_of(each, "F1") for each in rows], resampling
            )
            difference = "–" if pair.mean is None else estimated(Estimate(pair.mean, pair.low, pair.high), 2)
        lines.append((name, *means, f"{sum(modes) / len(modes):.2f}" if modes else "–", difference))
    return markdown_table(("method", *VALUES, "modes", "difference in F1"), lines)


def _by_number(by_number: dict[int, list[Found]], value: str, resampling: Resampling) -> str:
    names = list(_methods([each for part in by_number.values() for each in part]))
    lines = []
    for name in names:
        cells = [
            estimated(mean_score([value_of(each, value) for each in part if each.row.method == name], resampling), 2)
            for part in by_number.values()
        ]
        lines.append((name, *cells))
    head = (f"{value}, by meanings", *(f"{k} ({_count(part)} neurons)" for k, part in by_number.items()))
    return markdown_table(head, lines)


def _data(found: Sequence[Found], resampling: Resampling) -> dict[str, Any]:
    return {
        name: {
            value: estimate_data(mean_score([value_of(each, value) for each in rows], resampling)) for value in VALUES
        }
        for name, rows in _methods(found).items()
    }
