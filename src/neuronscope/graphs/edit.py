"""The end of refinement: the agent writes a neuron's modes once more, as a whole, and validation says if that holds.

Sentences that were refined one by one are many, overlap, and cling to what they were made from. Who sees all of them
beside the evidence says the same in a few (`docs/results/strong-llm-agents.md`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from langgraph.runtime import Runtime
from numpy.typing import NDArray

from neuronscope.errors import NeuronScopeError
from neuronscope.graphs.objective import correlations, strengths_of
from neuronscope.graphs.reconcile import note_errors, selecting
from neuronscope.metrics.joint import joint_prediction
from neuronscope.results import Attempt, Failure, Mode
from neuronscope.state import Instruments, RefinementState
from neuronscope.text import same_sentence

LEAST_KEPT = 0.6
"""Share of the joint validation score that has to be left: a simulator reads less well than people do, so what it makes
less of may still be better said; what it makes next to nothing of is not."""

Floats = NDArray[np.float64]


class Editor:
    """Ask an agent for sentences in place of those of all modes, if it has a method `edit`."""

    def __init__(self, agent: Any) -> None:
        self.agent = agent

    async def __call__(self, state: RefinementState, runtime: Runtime[Instruments]) -> RefinementState:
        """Return the modes as they are told now; after an error of ours they stay as they were refined."""
        if not hasattr(self.agent, "edit") or any(mode.val_score is None for mode in state["modes"]):
            return {}
        shown: RefinementState = {**state, "exemplars": state["exemplars"].without("validation", "test")}
        try:
            written: RefinementState = await self.agent.edit(shown, runtime)
            sentences = [text for texts in written.get("proposals", {}).values() for text in texts]
            modes = await _edited(sentences, state, runtime.context)
        except NeuronScopeError as error:
            return {"failures": [Failure("refinement", f"The modes stay as they were refined one by one: {error}")]}
        return {"modes": modes, "failures": written.get("failures", [])}


async def _edited(sentences: Sequence[str], state: RefinementState, instruments: Instruments) -> list[Mode]:
    """Modes of these sentences, if they predict enough of what the modes' own do.

    A mode passes its atoms on to the sentence whose prediction is most like its own, and the one that is most like a
    sentence its history.
    """
    modes, neuron, ids, scorer = state["modes"], state["neuron"], state["exemplars"], instruments.scorer
    sequences = selecting(ids)
    if not sentences or not sequences:
        return modes
    truth = await scorer.ground_truth(neuron, sequences)

    async def predicted(texts: Sequence[str]) -> tuple[Floats, float | None]:
        rows = (await scorer.pooled(neuron, texts, sequences)).astype(np.float64)
        together = joint_prediction(rows, await strengths_of(texts, neuron, ids, instruments))
        return rows, correlations(together[None], truth)[0]

    before, reached = await predicted([mode.explanation for mode in modes])
    after, kept = await predicted(sentences)
    if kept is None or kept < LEAST_KEPT * (reached or 0.0):
        return modes
    scores = await scorer.score(neuron, sentences, ids.of("validation"))
    likeness = np.array([[value or 0.0 for value in correlations(after, row)] for row in before])
    nearest = np.where(likeness.max(axis=1) > 0, likeness.argmax(axis=1), -1)
    found = []
    for number, (sentence, score) in enumerate(zip(sentences, scores, strict=True)):
        own = sorted(np.flatnonzero(nearest == number), key=lambda index: -likeness[index, number])
        attempt = Attempt(state["iteration"], sentence, score.value, joint_score=kept)
        found.append(_told([modes[index] for index in own], attempt))
    return await note_errors(found, state, instruments) if instruments.config.feedback == "errors" else found


def _told(modes: Sequence[Mode], attempt: Attempt) -> Mode:
    """A mode whose explanation is this attempt's.

    Args:
        modes: those that it stands for, the most like it first; there may be none.
        attempt: the last one.
    """
    atoms = list(dict.fromkeys(atom for mode in modes for atom in mode.atoms))
    if not modes:
        return Mode(attempt.explanation, val_score=attempt.val_score, history=[replace(attempt, iteration=0)])
    first = modes[0]
    if same_sentence(first.explanation) == same_sentence(attempt.explanation):
        return replace(first, atoms=atoms)
    history = [*first.history, attempt]
    return replace(first, explanation=attempt.explanation, val_score=attempt.val_score, history=history, atoms=atoms)
