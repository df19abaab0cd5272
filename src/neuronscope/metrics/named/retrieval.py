"""Retrieval: does the sentence mean what the texts mean? After delphi's embedding score (EleutherAI)."""

from __future__ import annotations

import numpy as np

from neuronscope.llm.embeddings import unit_length
from neuronscope.metrics.auc import auc
from neuronscope.metrics.context import MetricContext, name_of
from neuronscope.metrics.data import EvaluationData
from neuronscope.metrics.registry import metric
from neuronscope.metrics.table import Measurement, measurement


@metric(
    "retrieval",
    results=["retrieval_auc"],
    question="does the sentence mean what the texts mean?",
    baseline="0.5",
    hard_negatives=True,
    order=50,
)
async def score_retrieval(data: EvaluationData, context: MetricContext) -> list[Measurement]:
    """AUC of the cosine similarity between the explanation's embedding and a sequence's: active against inactive."""
    if not data.explanations:
        return []
    results, name = [], name_of(context.embeddings)
    for negatives, sequences in data.with_negatives():
        vectors = unit_length(await context.embed([*data.explanations, *sequences.texts]))  # one call: one length
        sentences, texts = np.split(vectors, [len(data.explanations)])
        for explanation, similarity in zip(data.explanations, sentences @ texts.T, strict=True):
            found = auc(similarity[sequences.active], similarity[~sequences.active], data.resampling)
            n = len(sequences.exemplars)
            results.append(
                measurement("retrieval_auc", explanation, found, n=n, baseline=0.5, judge=name, negatives=negatives)
            )
    return results
