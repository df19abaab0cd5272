"""Any `Explainer`, scored as the graph scores its modes: the same exemplars, the same scorer, the same numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from langgraph.runtime import Runtime
from numpy.typing import NDArray

from neuronscope.errors import ConfigurationError
from neuronscope.graphs.conclude import conclude, usage_of
from neuronscope.graphs.objective import strengths_of
from neuronscope.graphs.observe import observe
from neuronscope.interfaces import Explained, Explainer
from neuronscope.metrics import Resampling, pearson
from neuronscope.metrics.correlation import corpus_correlation
from neuronscope.metrics.joint import joint_prediction
from neuronscope.metrics.scorer import without_activations
from neuronscope.results import Attempt, Failure, Mode, NeuronExplanation, Usage, mean_of
from neuronscope.state import Instruments, NeuronState
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
    val_joint_score: float | None
    """As `joint_score`, on validation text."""
    corpus_score: float | None
    """What `joint_score` would be on the whole test split, estimated as `NeuronExplanation.corpus_score`."""
    usage: Usage
    """What it cost, scoring included."""
    failures: Sequence[Failure] = ()
    """What went wrong on the way."""

    @property
    def number(self) -> int | None:
        """How many sentences; None where it gave predictions alone."""
        return None if self.explanation is None else self.explanation.number


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
        return _scored(explainer, neuron, instruments, Explained(), None, _Scores())
    found = await explainer.explain(neuron, ids.without("test"), instruments)
    sentences = list(dict.fromkeys(text for text in map(str.strip, found.sentences) if text))
    if not sentences and found.predict is None:
        raise ConfigurationError(
            f"The explainer {explainer.name!r} gave neither sentences nor predictions for {neuron}: return "
            "Explained(sentences=[...]), or Explained(predict=...)."
        )
    explanation, scores = None, _Scores()
    if sentences:
        attempts = await _attempts(sentences, neuron, ids, instruments)
        modes = [Mode(each.explanation, val_score=each.val_score, history=[each]) for each in attempts]
        val_joint = await _joint_on_validation(sentences, neuron, ids, instruments)
        state: NeuronState = {"neuron": neuron, "exemplars": ids, "modes": modes, "failures": [*found.failures]}
        ended = await conclude(state, runtime)
        provenance = ended["explanation"].provenance | {"explainer": explainer.name}
        explanation = replace(ended["explanation"], provenance=provenance)
        scores = _Scores(
            score=explanation.score,
            joint=explanation.joint_score,
            val=mean_of(each.val_score for each in attempts),
            val_joint=val_joint,
            corpus=explanation.corpus_score,
        )
    if found.predict is not None:
        own = await _scores_of_predictions(explainer, found.predict, neuron, ids, instruments)
        scores = own if explanation is None else replace(own, score=scores.score, val=scores.val)
    return _scored(explainer, neuron, instruments, found, explanation, scores)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scores:
    """The scores of `Scored`."""

    score: float | None = None
    joint: float | None = None
    val: float | None = None
    val_joint: float | None = None
    corpus: float | None = None


def _scored(
    explainer: Explainer,
    neuron: Neuron,
    instruments: Instruments,
    found: Explained,
    explanation: NeuronExplanation | None,
    scores: _Scores,
) -> Scored:
    counted = usage_of(neuron, instruments) if explanation is None else explanation.usage
    if found.earlier_usage is not None:
        counted = found.earlier_usage + counted
    instruments.forget(neuron)
    return Scored(
        explainer=explainer.name,
        neuron=neuron,
        explanation=explanation,
        score=scores.score,
        joint_score=scores.joint,
        val_score=scores.val,
        val_joint_score=scores.val_joint,
        corpus_score=scores.corpus,
        usage=counted if found.usage is None else found.usage,
        failures=tuple(found.failures) if explanation is None else tuple(explanation.failures),
    )


async def _attempts(sentences: list[str], neuron: Neuron, ids: ExemplarIds, instruments: Instruments) -> list[Attempt]:
    """Each sentence with its validation score."""
    scores = await instruments.scorer.score(neuron, sentences, ids.of("validation"))
    return [Attempt(0, sentence, score.value) for sentence, score in zip(sentences, scores, strict=True)]


async def _joint_on_validation(
    sentences: Sequence[str], neuron: Neuron, ids: ExemplarIds, instruments: Instruments
) -> float | None:
    """Pearson's r, on validation text, of all sentences together, each by its strength."""
    sequences = ids.of("validation")
    if not sequences:
        return None
    strengths = await strengths_of(sentences, neuron, ids, instruments)
    rows = await instruments.scorer.pooled(neuron, sentences, sequences)
    truth = await instruments.scorer.ground_truth(neuron, sequences)
    return pearson(joint_prediction(rows, strengths), truth).value


async def _scores_of_predictions(
    explainer: Explainer, predict: Predict, neuron: Neuron, ids: ExemplarIds, instruments: Instruments
) -> _Scores:
    """Pearson's r of an explainer's own predictions, over the pooled tokens of each set."""

    async def score(sequences: list[int]) -> float | None:
        if not sequences:
            return None
        predicted = await _predicted(explainer, predict, neuron, sequences, instruments)
        return pearson(np.concatenate(predicted), await instruments.scorer.ground_truth(neuron, sequences)).value

    test, validation, corpus = await score(ids.of("test")), await score(ids.of("validation")), None
    if in_strata := ids.in_strata():
        predicted = await _predicted(explainer, predict, neuron, in_strata, instruments)
        actual = [each.activations for each in await instruments.scorer.exemplars(neuron, in_strata)]
        resampling = Resampling(seed=instruments.config.seed)
        corpus = corpus_correlation(predicted, actual, ids.test_strata, resampling).value
    return _Scores(score=test, joint=test, val=validation, val_joint=validation, corpus=corpus)


async def _predicted(
    explainer: Explainer, predict: Predict, neuron: Neuron, sequences: list[int], instruments: Instruments
) -> list[NDArray[np.float64]]:
    """An explainer's own predictions, shape `(tokens,)` per sequence; it sees the text, and no activation."""
    exemplars = await instruments.scorer.exemplars(neuron, sequences)
    shown = [without_activations(each) for each in exemplars]
    predicted = [np.asarray(row, dtype=np.float64) for row in await asyncio.to_thread(predict, shown)]
    if [row.shape for row in predicted] != [each.activations.shape for each in exemplars]:
        raise ConfigurationError(
            f"The explainer {explainer.name!r} predicted for {neuron} something other than one number a token: "
            "`predict` takes exemplars and returns an array of shape (tokens,) for each of them."
        )
    return predicted
