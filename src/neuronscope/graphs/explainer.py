"""Any `Explainer`, scored as the graph scores its modes: the same exemplars, the same scorer, the same numbers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from langgraph.runtime import Runtime

from neuronscope.errors import ConfigurationError
from neuronscope.graphs.conclude import conclude, usage_of
from neuronscope.graphs.observe import observe
from neuronscope.interfaces import Explained, Explainer
from neuronscope.metrics import pearson
from neuronscope.metrics.scorer import without_activations
from neuronscope.results import Attempt, Mode, NeuronExplanation, Usage, mean_of
from neuronscope.state import Instruments
from neuronscope.types import ExemplarIds, Neuron

if TYPE_CHECKING:
    from neuronscope.interfaces import Predict


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What an explainer got for one neuron. A score that could not be measured is None."""

    explainer: str
    """Its name."""
    neuron: Neuron
    explanation: NeuronExplanation | None
    """Its sentences as a result, each a mode; None where it gave predictions alone, or the neuron is dead."""
    score: float | None
    """Test score: the mean over its sentences, as `NeuronExplanation.score`; that of its predictions if it has none."""
    joint_score: float | None
    """Test score of its predictions; of all sentences together, each by its strength, where it gave none."""
    val_score: float | None
    """As `score`, on validation text."""
    usage: Usage
    """What it cost, scoring included."""


async def score_explainer(explainer: Explainer, neuron: Neuron, instruments: Instruments) -> Scored:
    """Have one neuron explained, and score that on the exemplars on which `explain_neuron` scores its modes.

    The explainer does not see which sequences are the test set. Of a neuron that is dead, or in train text never
    active, it is not asked.

    Args:
        explainer: a baseline, or a method of one's own.
        neuron: the neuron.
        instruments: of this neuron alone, if its costs are to be its own: see `Session.instruments`.

    Raises:
        ConfigurationError: it gave neither sentences nor predictions, or such as do not fit.
        NeuronScopeError: the explainer, the simulator or the store failed.
    """
    runtime = Runtime(context=instruments)
    ids = (await observe({"neuron": neuron}, runtime))["exemplars"]
    if not ids.train:
        return _scored(explainer, neuron, instruments, Explained(), None, None, None, None)
    found = await explainer.explain(neuron, ids.without("test"), instruments)
    sentences = list(dict.fromkeys(text for text in map(str.strip, found.sentences) if text))
    if not sentences and found.predict is None:
        raise ConfigurationError(
            f"The explainer {explainer.name!r} gave neither sentences nor predictions for {neuron}: return "
            "Explained(sentences=[...]), or Explained(predict=...)."
        )
    explanation, val_score = None, None
    if sentences:
        attempts = await _attempts(sentences, neuron, ids, instruments)
        modes = [Mode(each.explanation, val_score=each.val_score, history=[each]) for each in attempts]
        val_score = mean_of(each.val_score for each in attempts)
        ended = await conclude({"neuron": neuron, "exemplars": ids, "modes": modes}, runtime)
        provenance = ended["explanation"].provenance | {"explainer": explainer.name}
        explanation = replace(ended["explanation"], provenance=provenance)
    score, joint_score = (None, None) if explanation is None else (explanation.score, explanation.joint_score)
    if found.predict is not None:
        test = ids.of("test")
        joint_score = await _score_predictions(explainer, found.predict, neuron, test, instruments)
        if explanation is None:
            validation = ids.of("validation")
            val_score = await _score_predictions(explainer, found.predict, neuron, validation, instruments)
            score = joint_score
    return _scored(explainer, neuron, instruments, found, explanation, score, joint_score, val_score)


def _scored(
    explainer: Explainer,
    neuron: Neuron,
    instruments: Instruments,
    found: Explained,
    explanation: NeuronExplanation | None,
    score: float | None,
    joint_score: float | None,
    val_score: float | None,
) -> Scored:
    counted = usage_of(neuron, instruments) if explanation is None else explanation.usage
    instruments.scorer.forget(neuron)
    return Scored(
        explainer=explainer.name,
        neuron=neuron,
        explanation=explanation,
        score=score,
        joint_score=joint_score,
        val_score=val_score,
        usage=counted if found.usage is None else found.usage,
    )


async def _attempts(sentences: list[str], neuron: Neuron, ids: ExemplarIds, instruments: Instruments) -> list[Attempt]:
    """Each sentence with its validation score."""
    scores = await instruments.scorer.score(neuron, sentences, ids.of("validation"))
    return [Attempt(0, sentence, score.value) for sentence, score in zip(sentences, scores, strict=True)]


async def _score_predictions(
    explainer: Explainer, predict: Predict, neuron: Neuron, sequences: list[int], instruments: Instruments
) -> float | None:
    """Pearson's r of an explainer's own predictions over the pooled tokens; it sees the text, and no activation."""
    if not sequences:
        return None
    exemplars = await instruments.scorer.exemplars(neuron, sequences)
    shown = [without_activations(each) for each in exemplars]
    predicted = [np.asarray(row, dtype=np.float64) for row in await asyncio.to_thread(predict, shown)]
    if [row.shape for row in predicted] != [each.activations.shape for each in exemplars]:
        raise ConfigurationError(
            f"The explainer {explainer.name!r} predicted for {neuron} something other than one number a token: "
            "`predict` takes exemplars and returns an array of shape (tokens,) for each of them."
        )
    truth = await instruments.scorer.ground_truth(neuron, sequences)
    return pearson(np.concatenate(predicted), truth).value
