"""Baselines beside one explanation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from neuronscope.comparison import MethodScore
    from neuronscope.config import Setup
    from neuronscope.results import NeuronExplanation
    from neuronscope.types import Neuron

BaselinesOption = Annotated[
    str | None,
    typer.Option(help="What to compare it with, commas between: single_pass,best_of_k:8 (docs/methods.md)."),
]


def explain_and_compare(setup: Setup, neuron: Neuron, methods: str) -> tuple[NeuronExplanation, list[MethodScore]]:
    """Explain a neuron, and score it and some baselines on the same exemplars.

    Raises:
        NeuronScopeError: there is no such baseline, or explaining fails.
    """
    from neuronscope.baselines import resolve_baselines

    resolve_baselines(methods)
    with setup.open(layers=[neuron.layer], neurons=[neuron]) as lab:
        explanation = lab.explain(neuron)
        if not explanation.modes:
            return explanation, []
        own = [] if "neuronscope" in [name.strip() for name in methods.split(",")] else ["neuronscope"]
        wanted = [*own, *(name.strip() for name in methods.split(",") if name.strip())]
        return explanation, list(lab.compare([neuron], wanted, explanations=[explanation]))


def with_comparison(explanation: NeuronExplanation, rows: Sequence[MethodScore]) -> str | dict[str, Any]:
    """The result as JSON, with the rows as `comparison` if there are any."""
    if not rows:
        return explanation.to_json()
    from neuronscope.comparison import Comparison

    return {**json.loads(explanation.to_json()), "comparison": Comparison(rows).records()}
