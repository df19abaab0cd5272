"""Concepts: does a text written from the explanation activate the neuron? CoSy's and PRISM's scores."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from neuronscope.errors import ConfigurationError
from neuronscope.exemplars.texts import exemplars_of
from neuronscope.metrics.auc import Numbers, auc_of_pairs
from neuronscope.metrics.bootstrap import Estimate, Resampling, estimate
from neuronscope.metrics.context import MetricContext
from neuronscope.metrics.data import EvaluationData, PerSequence
from neuronscope.metrics.registry import metric
from neuronscope.metrics.table import Measurement, measurement

CONCEPT_TEXTS = 10
"""Texts that are written for an explanation (PRISM's number)."""

CONTROL_TEXTS = 50
"""Sequences of the corpus that written texts are compared with, where the store can draw them."""


@metric(
    "concept",
    results=["concept_auc", "concept_mad"],
    question="does a text written from the explanation activate the neuron?",
    baseline="0.5; 0",
    needs={"llm": "writes texts from an explanation", "subject": "runs texts through the subject"},
    order=70,
)
async def score_concept(data: EvaluationData, context: MetricContext) -> list[Measurement]:
    """CoSy's AUC and MAD: the judge writes, the subject reads, the neuron's mean activation on each text counts.

    Without sequences drawn from the whole split, the random test sequences are the control, none of which is a top one.
    """
    judge, subject = context.judge, context.subject
    if judge is None or subject is None:
        raise ConfigurationError("The metric concept needs a language model and the subject.")
    measure = partial(exemplars_of, subject=subject, neuron=context.neuron, n_tokens=context.config.seq_len)
    drawn = await asyncio.to_thread(_control, context)
    control = [row for row in (data.test.subset(~data.test.top).actual if drawn is None else drawn) if row.size]
    results = []
    for explanation in data.explanations:
        texts = (await judge.write(explanation, CONCEPT_TEXTS))[:CONCEPT_TEXTS]
        read = await asyncio.to_thread(measure, texts)
        compared = compare([each.activations for each in read if each.tokens], control)
        abstentions = CONCEPT_TEXTS - len(compared.written)
        results += _concept_results(data, explanation, compared, judge.name, abstentions)
    return results


@runtime_checkable
class SamplesSequences(Protocol):
    """A source that can draw sequences for no neuron in particular, as an `ExemplarStore` can."""

    def sample_ids(self, split: str, n: int, seed: int) -> list[int]:
        """Ids of sequences drawn from the whole split."""


class Compared(NamedTuple):
    """Written texts compared with control texts, each pair over as many first tokens as both have."""

    wins: NDArray[np.float64]
    """Shape `(written, control)`: 1 where the written text has the larger mean activation, 0.5 for a tie, else 0."""
    written: NDArray[np.float64]
    """Shape `(written,)`: each text's mean activation, averaged over its pairs."""
    control: NDArray[np.float64]
    """Shape `(control,)`: the same for the control texts."""


def compare(written: PerSequence, control: PerSequence) -> Compared:
    """Compare every written text with every control text, over as many first tokens as both have.

    Few tokens of a text activate a neuron. So the mean over the 64 tokens of a window is larger, more often than not,
    than that over the 25 of a sentence of the same kind, although their expectations are the same.
    """
    means = np.zeros((2, len(written), len(control)))
    for i, text in enumerate(written):
        for j, other in enumerate(control):
            length = min(len(text), len(other))
            means[:, i, j] = float(text[:length].mean()), float(other[:length].mean())
    wins = (means[0] > means[1]) + 0.5 * (means[0] == means[1])
    if not means.size:
        return Compared(wins, np.zeros(len(written)), np.zeros(len(control)))
    return Compared(wins, means[0].mean(axis=1), means[1].mean(axis=0))


def _control(context: MetricContext) -> PerSequence | None:
    """The neuron's activations on sequences of the test split, drawn from all of it; None if they cannot be had."""
    if not isinstance(context.store, SamplesSequences):
        return None
    ids = context.store.sample_ids("test", CONTROL_TEXTS, context.seed)
    return [exemplar.activations for exemplar in context.store.by_id(context.neuron, ids)]


def _concept_results(
    data: EvaluationData, explanation: str, compared: Compared, judge: str, abstentions: int
) -> list[Measurement]:
    """CoSy's two scores of the mean activations of written texts, compared with those of random sequences."""
    concept, control = compared.written, compared.control
    if not len(concept):
        why = "the model wrote no text that could be read"
    elif not len(control):
        why = "there are no random sequences to compare with"
    else:
        why = "the neuron does the same on all random sequences"
    scores = {
        "concept_auc": (auc_of_pairs(compared.wins, data.resampling, why), 0.5),
        "concept_mad": (mean_difference(concept, control, data.resampling, why), 0.0),
    }
    return [
        measurement(
            metric,
            explanation,
            found,
            n=len(concept) + len(control),
            baseline=baseline,
            judge=judge,
            negatives="random",
            abstentions=abstentions,
        )
        for metric, (found, baseline) in scores.items()
    ]


def mean_difference(concept: Numbers, control: Numbers, resampling: Resampling, why: str) -> Estimate:
    """CoSy's MAD: the difference of the means, in standard deviations of the control group (n - 1 below the line).

    Where the control group does not vary (there it is 0) nothing is measured.

    Args:
        concept: shape `(concept texts,)`.
        control: shape `(control texts,)`.
        resampling: how many draws, and their seed; the groups are drawn apart.
        why: the note where a group is missing, or the control group does not vary.
    """
    n_concept = len(concept)
    left, right = np.asarray(concept, dtype=np.float64), np.asarray(control, dtype=np.float64)
    scale = float(np.abs(right).max(initial=0.0)) or 1.0

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        if not len(left) or len(right) < 2:
            return np.full(len(weights), np.nan)
        drawn = weights[:, n_concept:]
        mean = drawn @ right / len(right)
        squares = (drawn * (right[None, :] - mean[:, None]) ** 2).sum(axis=1)
        spread = np.sqrt(squares / (len(right) - 1))
        varies = spread > 1e-9 * scale
        distance = weights[:, :n_concept] @ left / len(left) - mean
        return np.where(varies, distance / np.where(varies, spread, 1.0), np.nan)

    return estimate(statistic, np.repeat([0, 1], [len(left), len(right)]), 0.0, resampling, why)
