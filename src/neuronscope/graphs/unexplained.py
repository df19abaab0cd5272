"""The one edge that leads back: strong train exemplars that no mode explains are drafted from once more."""

from __future__ import annotations

from typing import Literal

import numpy as np
from langgraph.runtime import Runtime

from neuronscope.graphs.objective import strengths_of
from neuronscope.metrics.correlation import on_scale
from neuronscope.metrics.joint import joint_prediction
from neuronscope.state import Drafts, Instruments, NeuronState

STRONG = 2.5
"""An exemplar that asks for an explanation reaches this activation, of 10."""
EXPLAINED = 0.5
"""At an exemplar's strongest token the modes explain it if they predict this share of the activation."""
ENOUGH = 3
"""From fewer exemplars than this nothing is drafted again."""


async def unexplained(state: NeuronState, runtime: Runtime[Instruments]) -> NeuronState:
    """Write `unexplained`, the train exemplars to draft from once more; the first drafts move to `earlier`.

    With `objective="joint"` only: then a mode of the second drafts that adds nothing is dropped again.

    Raises:
        NeuronScopeError: the simulator or the store failed.
    """
    config, modes = runtime.context.config, state.get("modes", [])
    if not config.draft_again or config.objective != "joint" or state.get("earlier"):
        return {"unexplained": []}
    if not modes or any(mode.val_score is None for mode in modes):
        return {"unexplained": []}
    found = await _missed([mode.explanation for mode in modes], state, runtime.context)
    if len(found) < ENOUGH:
        return {"unexplained": []}
    first = drafts_of(state)
    wanted = found[: config.n_train_exemplars]
    return {"unexplained": wanted, "earlier": first, "hypotheses": [], "atoms": [], "clusters": []}


def drafts_of(state: NeuronState) -> Drafts:
    """What stands in the state now of hypotheses, atoms and clusters."""
    return Drafts(
        hypotheses=state.get("hypotheses", []), atoms=state.get("atoms", []), clusters=state.get("clusters", [])
    )


async def _missed(explanations: list[str], state: NeuronState, instruments: Instruments) -> list[int]:
    """Ids of the train exemplars whose strongest token the modes together predict too low, strongest first."""
    neuron, ids, scorer = state["neuron"], state["exemplars"], instruments.scorer
    sequences = [*ids.train, *ids.train_others]
    strengths = await strengths_of(explanations, neuron, ids, instruments)
    predicted = await scorer.predict(neuron, explanations, sequences)
    missed: dict[int, float] = {}
    for exemplar, rows in zip(await scorer.exemplars(neuron, sequences), predicted, strict=True):
        actual = on_scale(exemplar.activations, ids.maximum)
        place = int(np.argmax(actual))
        peak = float(actual[place])
        if peak >= STRONG and joint_prediction(rows, strengths)[place] < EXPLAINED * peak:
            missed[exemplar.sequence_id] = peak
    return sorted(missed, key=lambda number: -missed[number])


async def after_unexplained(state: NeuronState) -> Literal["hypothesis", "conclude"]:
    """Back to the drafts, or on to the result."""
    return "hypothesis" if state.get("unexplained") else "conclude"
