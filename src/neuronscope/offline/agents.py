"""The agents' roles without a language model: statistics of what activates a neuron, written as sentences.

They use only what an explainer may see: train exemplars, and for refinement errors on feedback text. What they work on
are conditions; English is read once, where they begin, and written once, where they end.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from neuronscope.offline.clusters import cluster_conditions, nearest_cluster
from neuronscope.offline.conditions import Condition
from neuronscope.offline.english import append, read, write
from neuronscope.offline.features import MINIMUM_STRENGTH, Features, Selected, conditions_at
from neuronscope.offline.tokens import content_of, token_features
from neuronscope.results import Attempt, PredictionError
from neuronscope.text import distinct

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from neuronscope.state import HasContext, NeuronState, ProposalState, RefinementState
    from neuronscope.types import Neuron

TOP_EXEMPLARS, RANDOM_EXEMPLARS = 100, 100
"""Train sequences that the statistics are taken from: the strongest, and random ones that show where it is inactive."""
HYPOTHESIS_CONDITIONS = 48
"""Conditions that are selected for one hypothesis, over all its sentences."""
REDUCED_WEIGHT = 0.5
"""What an exemplar counts in the hypothesis that looks less at it."""
SENTENCE_CONDITIONS = 24
"""Conditions that one sentence of a hypothesis has: those that explain most."""
MAX_CONDITIONS = 40
"""A sentence of more conditions than this is no sentence anybody reads."""
SEARCHED = 48
"""New conditions that are looked for in one iteration, before those of other modes are set aside."""
ADDITIONS = (8, 16, 32)
"""How many new conditions the candidates of one iteration try."""

_LAST_WORD = re.compile(r"(\w+|[^\w\s])\s*$")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")


class LexicalHypothesis:
    """Reads `neuron` and `exemplars`; writes `hypotheses`: each of one sentence per cluster of conditions.

    Each looks less at another part of the exemplars, so that what they agree on is what the data supports. Where there
    are exemplars in `unexplained`, they are of what the modes leave unexplained, and join the `hypotheses`; clusters
    that explain little compared with the modes are leftovers of these and make no mode.
    """

    async def __call__(self, state: NeuronState, runtime: HasContext) -> NeuronState:
        """Write the hypotheses."""
        unexplained = state.get("unexplained", [])
        earlier = state.get("hypotheses", []) if unexplained else []
        given = [read(mode.explanation).conditions for mode in state.get("modes", [])] if unexplained else []
        features = await collect_features(state["neuron"], state["exemplars"].maximum, runtime)
        n_hypotheses = runtime.context.config.n_hypotheses
        everything = features.matching_pursuit(HYPOTHESIS_CONDITIONS, None, given)
        if not everything:
            return {"hypotheses": earlier}
        explained = features.explained(given) if given else None
        clusters = await cluster_conditions(everything, runtime.context.embeddings, explained)
        hypotheses = []
        for number in range(n_hypotheses):
            less_seen = features.exemplar_index % n_hypotheses == number
            weights = np.where(less_seen, REDUCED_WEIGHT, 1.0) if n_hypotheses > 2 else None
            selected = features.matching_pursuit(HYPOTHESIS_CONDITIONS, weights, given)
            by_cluster = _by_cluster(selected, clusters, None if given else 0)
            hypotheses.append(" ".join(map(write, by_cluster)))
        return {"hypotheses": distinct([*earlier, *filter(None, hypotheses)])}


class LexicalDecomposition:
    """Reads `hypotheses`; writes `atoms`: their sentences, each once, each with the neuron as its subject."""

    async def __call__(self, state: NeuronState, runtime: HasContext) -> NeuronState:
        """Split the hypotheses."""
        sentences = [part.strip() for hypothesis in state["hypotheses"] for part in _SENTENCE_END.split(hypothesis)]
        return {"atoms": distinct([_standalone(sentence) for sentence in sentences if sentence])}


class LexicalRefinement:
    """Reads `mode`, `siblings` and `history`; writes `proposals`: edits of the best sentence so far.

    Conditions are added that the train exemplars support and no mode has yet, among them false negatives of the best
    attempt on feedback text; false positives are dropped, strengths are estimated anew.
    """

    async def __call__(self, state: ProposalState, runtime: HasContext) -> RefinementState:
        """Propose candidates."""
        history, mode = state["history"], state["mode"]
        best = mode.best or Attempt(0, mode.explanation, None)
        parse = read(best.explanation)
        clusters = [read(each.representative).conditions for each in [mode, *state["siblings"]]]
        features = await collect_features(state["neuron"], state["exemplars"].maximum, runtime)
        selected = await asyncio.to_thread(features.matching_pursuit, SEARCHED, None, [parse.conditions, *clusters[1:]])
        false_negatives = await asyncio.to_thread(_false_negatives, best.errors, parse.conditions, features)
        embeddings = runtime.context.embeddings
        new = await _assigned_to_first([each.condition for each in selected], clusters, embeddings)
        false_negatives = await _assigned_to_first(false_negatives, clusters, embeddings)
        edits = await asyncio.to_thread(_edits, parse.conditions, best.errors, new, false_negatives, features)
        topical = best.explanation if parse.topic else None
        candidates = [_sentence(edit, parse.conditions, topical) for edit in edits]
        known = [attempt.explanation for attempt in history]
        return {"proposals": {mode.representative: distinct(candidates, known)[: runtime.context.config.n_candidates]}}


async def collect_features(neuron: Neuron, maximum: float, runtime: HasContext) -> Features:
    """Those of the neuron's train exemplars, strongest and random ones; gathered once a neuron."""
    store, seed = runtime.context.store, runtime.context.config.seed
    notes, name = runtime.context.scorer.notes(neuron), f"features of train text, maximum {maximum}, seed {seed}"
    if isinstance(known := notes.get(name), Features):
        return known
    top = await asyncio.to_thread(store.exemplars, neuron, "train", TOP_EXEMPLARS)
    drawn = await asyncio.to_thread(store.random_sequences, neuron, "train", RANDOM_EXEMPLARS, seed)
    notes[name] = found = await asyncio.to_thread(Features.of, [*top, *drawn], maximum)
    return found


def _by_cluster(
    selected: Sequence[Selected], clusters: dict[Condition, int], rest: int | None
) -> list[list[Condition]]:
    """The conditions of each cluster that explain most; those that are in none join `rest`, or are left out."""
    found: dict[int, list[Condition]] = {}
    for each in selected:
        cluster = clusters.get(each.condition.pattern, rest)
        if cluster is not None:
            found.setdefault(cluster, []).append(each.condition)
    return [found[cluster][:SENTENCE_CONDITIONS] for cluster in sorted(found)]


def _standalone(sentence: str) -> str:
    """The sentence with the neuron as its subject."""
    if re.match(r"this neuron\b", sentence, re.IGNORECASE):
        return sentence
    return f"This neuron activates in this case: {sentence}"


async def _assigned_to_first(
    conditions: Sequence[Condition], clusters: Sequence[Sequence[Condition]], embeddings: Embeddings
) -> list[Condition]:
    """The conditions that fit the first cluster better than any other, so that modes stay apart."""
    if len(clusters) == 1 or not conditions:
        return list(conditions)
    assignment = await nearest_cluster(conditions, clusters, embeddings)
    return [condition for condition, cluster in zip(conditions, assignment, strict=True) if cluster == 0]


def _edits(
    current: Sequence[Condition],
    errors: Sequence[PredictionError],
    new: Sequence[Condition],
    false_negatives: Sequence[Condition],
    features: Features,
) -> list[list[Condition]]:
    """Changes of the current conditions, the most promising first."""
    false_positives = {content_of(error.token) for error in errors if error.predicted > error.actual}
    retained = [condition for condition in current if condition.text not in false_positives]
    estimated = _estimated_anew(current, features)
    few, some, many = (new[:count] for count in ADDITIONS)
    edits = [
        [*current, *some],
        [*current, *some, *false_negatives],
        [*estimated, *some],
        [*retained, *some, *false_negatives],
        [*current, *many],
        [*current, *false_negatives],
        [*current, *few],
        [*estimated, *many, *false_negatives],
        [*retained, *few],
        [*retained],
    ]
    return [edit for edit in edits if edit]


def _sentence(edit: Sequence[Condition], current: Sequence[Condition], topical: str | None) -> str:
    """An edit in English; a sentence about a topic keeps its words and gets the new conditions at its end."""
    unique = {condition.pattern: condition for condition in edit}
    strongest = sorted(unique.values(), key=lambda condition: -condition.strength)[:MAX_CONDITIONS]
    if topical is None:
        return write(strongest)
    new = [condition for condition in strongest if condition not in current]
    return append(topical, new) if new else topical


def _estimated_anew(conditions: Sequence[Condition], features: Features) -> list[Condition]:
    """The same conditions with the strengths that the train exemplars show; exceptions stay."""
    return [
        replace(condition, strength=features.estimate(condition)) if condition.strength > 0 else condition
        for condition in conditions
    ]


def _false_negatives(
    errors: Sequence[PredictionError], current: Sequence[Condition], features: Features
) -> list[Condition]:
    """Tokens that were predicted too low and that train exemplars support, with the strength that these show.

    A token that no train exemplar supports would be memorised from the feedback text, and help nowhere else. A token
    that is a condition already was too weak here: then what comes before it becomes part of the condition.
    """
    known = {condition.pattern for condition in current}
    found = []
    for error in errors:
        fulfilled = _fulfilled(error) if error.actual > error.predicted else {}
        if token := fulfilled.get("token"):
            is_too_weak = token in known and token.form == "word"
            condition = fulfilled.get("pair", token) if is_too_weak else token
            found.append(replace(condition, strength=features.estimate(condition)))
    return [condition for condition in found if condition.strength >= MINIMUM_STRENGTH]


def _fulfilled(error: PredictionError) -> dict[str, Condition]:
    """The conditions that the token of an error fulfils, by kind; what comes before it is a whole word."""
    last_word = _LAST_WORD.search(error.context)
    start = last_word.start() if last_word else len(error.context)
    return conditions_at(token_features([error.context[:start], error.context[start:], error.token]), 2)
