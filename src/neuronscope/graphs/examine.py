"""What the modes score on test text: alone, together, on the whole split, and beside other neurons' explanations."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from neuronscope.config import ACTIVATION_THRESHOLD
from neuronscope.errors import NeuronScopeError
from neuronscope.graphs.objective import own_sequences, strengths_of
from neuronscope.llm.embeddings import aembed
from neuronscope.metrics import Estimate, Resampling, assign_exemplars, pearson
from neuronscope.metrics.bootstrap import not_measured
from neuronscope.metrics.correlation import corpus_correlation, correlation
from neuronscope.metrics.joint import joint_prediction
from neuronscope.metrics.nulls import other_explanations
from neuronscope.metrics.separation import contexts_of, likeness, separation
from neuronscope.metrics.support import SUPPORTING, number_interval, own_active_sequences
from neuronscope.offline.english import phrase
from neuronscope.offline.sentences import conditions_in
from neuronscope.results import Excerpt, Failure, Mode
from neuronscope.state import Instruments
from neuronscope.types import Exemplar, ExemplarIds, Neuron, normalise

logger = logging.getLogger(__name__)

EXCERPTS = 5
"""Test exemplars that a mode shows."""

Rows = list[NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Examined:
    """The modes with their test scores, and what all of them get together."""

    modes: list[Mode]
    joint: Estimate
    corpus: Estimate
    failures: list[Failure]
    separation: Estimate
    number_interval: tuple[int, int] | None = None
    nulls: Sequence[float] = ()
    """Scores of other neurons' explanations."""


async def examine(instruments: Instruments, neuron: Neuron, ids: ExemplarIds, modes: Sequence[Mode]) -> Examined:
    """Predict every mode, and its representative, on the test set, and score what could be predicted.

    Modes alone are predicted on the sequences that stand for the whole test split, in the same calls.
    """
    scorer, sequences, in_strata = instruments.scorer, ids.of("test"), ids.in_strata()
    nothing = Examined(list(modes), not_measured(""), not_measured(""), [], not_measured(""))
    if not modes or not sequences:
        return nothing
    answers, nulls = await asyncio.gather(
        asyncio.gather(
            *(scorer.predict(neuron, [mode.explanation, mode.representative], sequences) for mode in modes),
            *(scorer.predict(neuron, [mode.explanation], in_strata) for mode in modes),
            return_exceptions=True,
        ),
        _nulls(neuron, ids, instruments),
    )
    predicted, failures = _answered(modes, answers[: len(modes)], "has no test score")
    if not predicted:
        return replace(nothing, failures=failures)
    texts = [modes[number].explanation for number in predicted]
    strengths = dict(zip(predicted, await strengths_of(texts, neuron, ids, instruments), strict=True))
    resampling = Resampling(seed=instruments.config.seed)
    test = _Test(await scorer.exemplars(neuron, sequences), ids, strengths, resampling)
    scored, joint = _score(modes, predicted, test)
    everywhere, missing = _answered(modes, answers[len(modes) :], "is missing in the corpus score, so there is none")
    corpus, more = not_measured(""), _Test([], ids, strengths, resampling)
    if in_strata and everywhere.keys() >= predicted.keys():
        more = replace(more, exemplars=await scorer.exemplars(neuron, in_strata))
        whole = [joint_prediction(rows, test.factors) for rows in _finals(everywhere, more)]
        corpus = corpus_correlation(whole, more.actual, ids.test_strata, resampling)
    every = _Predicted.of(predicted, test, everywhere, more)
    own = own_active_sequences(every.rows, every.actual, ACTIVATION_THRESHOLD * ids.maximum)
    number = None
    if joint.value is not None:
        number = number_interval(own, every.rows[: len(sequences)], test.actual, every.strata(ids), resampling)
    failures += [] if failures else missing
    return Examined(
        [_with_support(scored, own).get(number, mode) for number, mode in enumerate(modes)],
        joint,
        corpus,
        failures,
        await _separation(every, ids, instruments) if more.exemplars else not_measured(""),
        number,
        nulls,
    )


def _answered(
    modes: Sequence[Mode], answers: Sequence[Rows | BaseException], what: str
) -> tuple[dict[int, Rows], list[Failure]]:
    """The predictions by the mode's number, and which modes the simulator failed on; a bug surfaces."""
    failures: list[Failure] = []
    predicted: dict[int, Rows] = {}
    for number, answer in enumerate(answers):
        if not isinstance(answer, BaseException):
            predicted[number] = answer
        elif isinstance(answer, NeuronScopeError):
            failures.append(Failure("conclude", f'{answer} (mode "{modes[number].explanation}" {what})'))
        else:
            raise answer
    return predicted, failures


@dataclass(frozen=True, slots=True)
class _Test:
    """Test sequences, and what they are scored with."""

    exemplars: list[Exemplar]
    ids: ExemplarIds
    strengths: dict[int, float]
    """By the mode's number, of those that could be predicted."""
    resampling: Resampling

    @property
    def actual(self) -> list[NDArray[np.float32]]:
        """Per sequence the activations, shape `(tokens,)`."""
        return [exemplar.activations for exemplar in self.exemplars]

    @property
    def factors(self) -> list[float]:
        """The strengths, in the order of the modes."""
        return list(self.strengths.values())


def _finals(predicted: dict[int, Rows], test: _Test) -> list[NDArray[np.float32]]:
    """Per sequence what the modes' explanations predict: shape `(modes, tokens)`, of those that have a strength."""
    return [
        np.stack([predicted[number][index][0] for number in test.strengths]) for index in range(len(test.exemplars))
    ]


def _score(modes: Sequence[Mode], predicted: dict[int, Rows], test: _Test) -> tuple[dict[int, Mode], Estimate]:
    """Score modes from predictions of shape `(2, tokens)` per exemplar: the explanation, then the representative."""
    exemplars, ids, actual = test.exemplars, test.ids, test.actual
    finals = _finals(predicted, test)
    belongs = assign_exemplars(finals, actual)
    contested = belongs.sum(axis=0) > 1
    truth = np.concatenate(actual)
    is_top = np.arange(len(exemplars)) < len(ids.test)
    index_of = {exemplar.sequence_id: index for index, exemplar in enumerate(exemplars)}
    scored: dict[int, Mode] = {}
    for order, (number, rows) in enumerate(predicted.items()):
        pooled = np.concatenate(rows, axis=1)
        whole = correlation([row[0] for row in rows], actual, is_top, test.resampling)
        subset = [index_of[sequence] for sequence in own_sequences(ids.test, ids.test_random, belongs[order])]
        own = [index for index in range(len(ids.test)) if belongs[order, index] and not contested[index]]
        scored[number] = replace(
            modes[number],
            strength=round(test.strengths[number], 2),
            conditions=[phrase(each) for each in conditions_in(modes[number].explanation)],
            score=whole.value,
            interval=whole.interval,
            constant=whole.value is not None and pearson(pooled[0], truth).constant,
            unrefined_score=pearson(pooled[1], truth).value,
            subset_score=pearson(
                np.concatenate([rows[index][0] for index in subset]),
                np.concatenate([actual[index] for index in subset]),
            ).value,
            excerpts=[_excerpt(exemplars[index], rows[index][0], ids.maximum) for index in own[:EXCERPTS]],
        )
    joint = [joint_prediction(rows, test.factors) for rows in finals]
    return scored, correlation(joint, actual, is_top, test.resampling)


def _excerpt(exemplar: Exemplar, predicted: NDArray[np.float32], maximum: float) -> Excerpt:
    return Excerpt(
        tokens=list(exemplar.tokens),
        activations=normalise(exemplar.activations, maximum).round(2).tolist(),
        predicted=predicted.astype(float).round(2).tolist(),
        sequence_id=exemplar.sequence_id,
        source=exemplar.source,
    )


@dataclass(frozen=True, slots=True)
class _Predicted:
    """All test sequences on which every mode was predicted: the test set, then what else the corpus score has."""

    exemplars: list[Exemplar]
    rows: list[NDArray[np.float32]]
    """Per sequence, shape `(modes, tokens)`."""

    @classmethod
    def of(cls, predicted: dict[int, Rows], test: _Test, everywhere: dict[int, Rows], more: _Test) -> _Predicted:
        known = {exemplar.sequence_id for exemplar in test.exemplars}
        new = [index for index, exemplar in enumerate(more.exemplars) if exemplar.sequence_id not in known]
        others = _finals(everywhere, more)
        return cls(
            [*test.exemplars, *(more.exemplars[index] for index in new)],
            [*_finals(predicted, test), *(others[index] for index in new)],
        )

    @property
    def actual(self) -> list[NDArray[np.float32]]:
        return [exemplar.activations for exemplar in self.exemplars]

    def strata(self, ids: ExemplarIds) -> NDArray[np.int64]:
        """The part of the test split that each sequence is of; without parts, whether it is a top one."""
        part_of = {number: part for part, stratum in enumerate(ids.test_strata) for number in stratum.ids}
        part_of |= dict.fromkeys(ids.test, 0)
        last = max(1, len(ids.test_strata) - 1)
        return np.array([part_of.get(exemplar.sequence_id, last) for exemplar in self.exemplars], dtype=np.int64)


def _with_support(scored: dict[int, Mode], own: NDArray[np.bool_]) -> dict[int, Mode]:
    """Say which modes have evidence, from which sequences speak for which."""
    return {
        number: mode
        if mode.interval is None
        else replace(mode, supported=bool(mode.interval[0] > 0 and n >= SUPPORTING))
        for (number, mode), n in zip(scored.items(), own.sum(axis=1), strict=True)
    }


async def _separation(every: _Predicted, ids: ExemplarIds, instruments: Instruments) -> Estimate:
    """How well the modes tell apart what the neuron is active on; not measured where the embeddings fail."""
    seed = instruments.config.seed
    contexts = await asyncio.to_thread(contexts_of, every.exemplars, ids.maximum, seed)
    try:
        vectors = await aembed(instruments.embeddings, contexts.words, "separation")
    except NeuronScopeError as error:
        logger.warning("There is no separation score: %s", error)
        return not_measured(str(error))
    alike = await asyncio.to_thread(likeness, contexts, vectors)
    return await asyncio.to_thread(
        separation, every.rows, every.exemplars, contexts, alike, every.strata(ids), Resampling(seed=seed)
    )


async def _nulls(neuron: Neuron, ids: ExemplarIds, instruments: Instruments) -> list[float]:
    """What explanations of other neurons score on the test set; nothing where the simulator fails on them."""
    config, scorer, sequences = instruments.config, instruments.scorer, ids.of("test")
    others = other_explanations(neuron, config.null_explanations, config.seed)
    try:
        scores = await scorer.score(neuron, others, sequences) if others else []
    except NeuronScopeError as error:
        logger.warning("There is no null score: %s", error)
        return []
    return [score.value for score in scores if score.value is not None]
