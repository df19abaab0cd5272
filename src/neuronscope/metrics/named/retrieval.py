"""Retrieval: does the sentence mean what the texts mean? After delphi's embedding score (EleutherAI)."""

from __future__ import annotations

import numpy as np

from neuronscope.llm.embeddings import unit_length
from neuronscope.metrics.auc import auc
from neuronscope.metrics.data import Material
from neuronscope.metrics.evaluator import Bench, name_of
from neuronscope.metrics.registry import metric
from neuronscope.metrics.table import Measurement, measurement


@metric(
    "retrieval",
    rows=["retrieval_auc"],
    tells="does the sentence mean what the texts mean?",
    chance="0.5",
    near_misses=True,
    place=50,
)
async def retrievals(material: Material, bench: Bench) -> list[Measurement]:
    """AUC of the cosine similarity between the explanation's embedding and a sequence's: firing against not."""
    if not material.explanations:
        return []
    rows, name = [], name_of(bench.embeddings)
    for negatives, held in material.against():
        vectors = unit_length(await bench.embed([*material.explanations, *held.texts]))  # one call: one length
        sentences, texts = np.split(vectors, [len(material.explanations)])
        for explanation, similarity in zip(material.explanations, sentences @ texts.T, strict=True):
            found = auc(similarity[held.fires], similarity[~held.fires], material.resampling)
            n = len(held.exemplars)
            rows.append(
                measurement("retrieval_auc", explanation, found, n=n, chance=0.5, judge=name, negatives=negatives)
            )
    return rows
