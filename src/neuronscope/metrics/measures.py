"""The metrics that need no language model: each a function from the material to rows of the table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from neuronscope.llm.embeddings import unit_length
from neuronscope.metrics.agreement import correlation, fit_line, quantiles, variance_explained
from neuronscope.metrics.classification import fit_threshold
from neuronscope.metrics.correlation import SCALE, assign_exemplars
from neuronscope.metrics.data import Embed, Material, Sequences
from neuronscope.metrics.retrieval import auc, odd_one_out
from neuronscope.metrics.rows import Fuzzed, detection_rows, fuzzed, fuzzing_rows, intruder_row
from neuronscope.metrics.stimuli import FIRING_SHARE, Round, intruder_rounds, peaks
from neuronscope.metrics.table import Measurement, measurement

QUANTILES = 4
"""Groups of sequences, by how strongly the neuron fires on them, that have a correlation each."""

INTRUDER_ROUNDS = 20
"""Intruder rounds at most."""

FALLBACK_THRESHOLD = FIRING_SHARE * SCALE
"""What a prediction must exceed where validation does not say."""
UNFITTED = f"validation cannot tell what prediction means firing; {FALLBACK_THRESHOLD:g} of {SCALE:g} was taken"


def correlations(material: Material) -> Iterator[Measurement]:
    """Pearson's r on all test sequences, on top and random ones apart, and on quantiles of the firing strength."""
    test = material.test
    quantile = quantiles(peaks(test.exemplars), QUANTILES)
    parts = {
        "correlation": np.ones(len(test.exemplars), dtype=bool),
        "correlation_top": test.top,
        "correlation_random": ~test.top,
    } | {f"correlation_quantile_{number}": quantile == number for number in range(1, QUANTILES + 1)}
    for metric, chosen in parts.items():
        part = test.only(chosen)
        for number, explanation in enumerate(material.explanations):
            found = correlation(part.rows(number), part.actual, part.top, material.resampling)
            yield measurement(metric, explanation, found, n=len(part.exemplars), chance=0.0, judge=material.simulator)


def variances(material: Material) -> Iterator[Measurement]:
    """Centred R² on the test sequences, after the linear calibration that fits validation best."""
    test, validation = material.test, material.validation
    for number, explanation in enumerate(material.explanations):
        line = fit_line(validation.rows(number), validation.actual)
        found = variance_explained(test.rows(number), test.actual, line, test.top, material.resampling)
        yield measurement("r2", explanation, found, n=len(test.exemplars), chance=0.0, judge=material.simulator)


def detections(material: Material) -> Iterator[Measurement]:
    """Whether a sequence fires, said of those whose largest prediction passes a threshold fitted on validation."""
    validation = material.validation
    for negatives, held in material.against():
        for number, explanation in enumerate(material.explanations):
            threshold, note = _threshold(validation.strongest(number), validation.fires)
            says = held.strongest(number) > threshold
            yield from detection_rows(material, explanation, held, says, material.simulator, negatives, note)


def fuzzings(material: Material, seed: int) -> Iterator[Measurement]:
    """Whether marks are right, said of those whose mean prediction passes a threshold fitted on validation."""
    validation, test = fuzzed(material.validation, seed), fuzzed(material.test, seed)
    truth = np.array([item.right for item in validation], dtype=bool)
    for number, explanation in enumerate(material.explanations):
        threshold, note = _threshold(_mark_scores(material.validation, validation, number), truth)
        says = _mark_scores(material.test, test, number) > threshold
        yield from fuzzing_rows(material, explanation, test, says, material.simulator, note)


async def retrievals(material: Material, embed: Embed, name: str) -> list[Measurement]:
    """AUC of the cosine similarity between the explanation's embedding and a sequence's: firing against not."""
    if not material.explanations:
        return []
    rows = []
    for negatives, held in material.against():
        vectors = unit_length(await embed([*material.explanations, *held.texts]))  # one call: one length of vectors
        sentences, texts = np.split(vectors, [len(material.explanations)])
        for explanation, similarity in zip(material.explanations, sentences @ texts.T, strict=True):
            found = auc(similarity[held.fires], similarity[~held.fires], material.resampling)
            n = len(held.exemplars)
            rows.append(
                measurement("retrieval_auc", explanation, found, n=n, chance=0.5, judge=name, negatives=negatives)
            )
    return rows


async def intruders(material: Material, embed: Embed, name: str, seed: int) -> list[Measurement]:
    """How often the text least like the others, by the embeddings of what stands up to the marks, is the intruder."""
    rows = []
    for explanation, rounds in rounds_of(material, seed):
        vectors = await embed([text.focus for each in rounds for text in each.texts]) if rounds else None
        guesses = [] if vectors is None else [odd_one_out(part) for part in np.split(vectors, len(rounds))]
        rows.append(intruder_row(material, explanation, rounds, guesses, name))
    return rows


def rounds_of(material: Material, seed: int) -> list[tuple[str | None, list[Round]]]:
    """Intruder rounds of the neuron, and of each explanation where there are several.

    An explanation's rounds have the sequences that it fits better than the others do, or as well.
    """
    test = material.test
    silent = test.only(~test.fires).exemplars

    def rounds(chosen: NDArray[np.bool_]) -> list[Round]:
        return intruder_rounds(test.only(chosen).exemplars, silent, test.level, INTRUDER_ROUNDS, seed)

    found: list[tuple[str | None, list[Round]]] = [(None, rounds(test.fires))]
    if len(material.explanations) > 1 and test.exemplars:
        belongs = assign_exemplars(test.predicted, test.actual)
        found += [(text, rounds(test.fires & own)) for text, own in zip(material.explanations, belongs, strict=True)]
    return found


def _threshold(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> tuple[float, str]:
    """The threshold that fits best, or the stated one and the note that says so."""
    fitted = fit_threshold(scores, truth)
    return (FALLBACK_THRESHOLD, UNFITTED) if fitted is None else (fitted, "")


def _mark_scores(sequences: Sequences, items: Sequence[Fuzzed], explanation: int) -> NDArray[np.float64]:
    """The mean prediction on the marked tokens of each item."""
    rows = sequences.rows(explanation)
    return np.array([rows[item.place][item.text.marks].mean() for item in items], dtype=np.float64)
