"""The corpus score: what a correlation over the whole test split would be, from a sample whose weights are known."""

from __future__ import annotations

import asyncio

from neuronscope.exemplars.sampling import strata_of_test
from neuronscope.metrics.bootstrap import not_measured
from neuronscope.metrics.context import MetricContext
from neuronscope.metrics.correlation import corpus_correlation
from neuronscope.metrics.data import EvaluationData
from neuronscope.metrics.registry import metric
from neuronscope.metrics.scorer import Scorer
from neuronscope.metrics.table import Measurement, measurement

NO_STRATA = (
    "no sample of the whole test split: the settings ask for none (corpus_ranked, corpus_random), the neuron is "
    "inactive in it, or the store cannot name the sequences"
)


@metric(
    "corpus_score",
    results=["corpus_score"],
    question="how well it predicts the whole test split, ordinary text included",
    baseline="0",
    order=25,
)
async def score_corpus(data: EvaluationData, context: MetricContext) -> list[Measurement]:
    """Pearson's r over the whole test split, estimated as `NeuronExplanation.corpus_score` is."""
    strata = (
        await asyncio.to_thread(strata_of_test, context.store, context.neuron, context.config)
        if data.test.top.any()
        else []
    )
    if not strata:
        found = [not_measured(NO_STRATA)] * len(data.explanations)
    else:
        ids, scorer = [number for part in strata for number in part.ids], Scorer(context.simulator, context.store)
        actual = [exemplar.activations for exemplar in await scorer.exemplars(context.neuron, ids)]
        known = {
            exemplar.sequence_id: rows for exemplar, rows in zip(data.test.exemplars, data.test.predicted, strict=True)
        }
        missing = [number for number in ids if number not in known]
        known |= dict(zip(missing, await scorer.predict(context.neuron, data.explanations, missing), strict=True))
        found = [
            corpus_correlation([known[number][explanation] for number in ids], actual, strata, data.resampling)
            for explanation in range(len(data.explanations))
        ]
    n = sum(len(part.ids) for part in strata)
    return [
        measurement("corpus_score", explanation, estimated, n=n, baseline=0.0, judge=data.simulator)
        for explanation, estimated in zip(data.explanations, found, strict=True)
    ]
