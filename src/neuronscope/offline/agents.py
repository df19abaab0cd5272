"""The agents' roles without a language model: statistics of what activates a neuron, written as sentences.

They use only what an explainer may see: train exemplars, and for refinement errors on feedback text. What they work on
are conditions; English is read once, where they begin, and written once, where they end.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from neuronscope.offline.clusters import cluster_conditions, nearest_cluster
from neuronscope.offline.conditions import Condition
from neuronscope.offline.english import quotable, read
from neuronscope.offline.features import MINIMUM_STRENGTH, Features, Floats, Selected, conditions_at
from neuronscope.offline.naming import Name, nearest_names
from neuronscope.offline.sentences import EXCEPTIONS, QUOTES, conditions_in, is_example, name_in, sentence
from neuronscope.offline.tokens import content_of, token_features
from neuronscope.results import Attempt, PredictionError
from neuronscope.text import distinct

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from neuronscope.state import HasContext, NeuronState, ProposalState, RefinementState
    from neuronscope.types import Neuron

TOP_EXEMPLARS, RANDOM_EXEMPLARS = 400, 100
"""Train sequences that the statistics are taken from: the strongest, and random ones that show where it is inactive."""
HYPOTHESIS_CONDITIONS = 48
"""Conditions that are selected for one hypothesis, over all its sentences."""
REDUCED_WEIGHT = 0.5
"""What an exemplar counts in the hypothesis that looks less at it."""
NAMES = 2
"""Names of categories that a sentence is tried with, beside the one without a name."""
SEARCHED = 48
"""New conditions that are looked for in one iteration, before those of other modes are set aside."""
ADDED = (QUOTES, QUOTES // 2, 1)
"""How many new conditions are added to a sentence in somebody else's words."""
ROUNDS = 1
"""What one round of refinement has not found, more do not find either."""
PROPOSED = 5
"""Candidates of one round, at most: more than these never pay."""
NAMED_BY = 12
"""Words, those that explain most, that a name is looked for."""

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
        given = [conditions_in(mode.explanation) for mode in state.get("modes", [])] if unexplained else []
        features = await collect_features(state["neuron"], state["exemplars"].maximum, runtime)
        n_hypotheses = runtime.context.config.n_hypotheses
        everything = features.matching_pursuit(HYPOTHESIS_CONDITIONS, None, given)
        if not everything:
            return {"hypotheses": earlier}
        explained = features.explained(given) if given else None
        pieces = features.begun
        clusters = await cluster_conditions(everything, runtime.context.embeddings, explained, pieces)
        names = await _names_of(everything, clusters, pieces, runtime.context.embeddings)
        hypotheses = []
        for number in range(n_hypotheses):
            weights = weights_of(features, number, n_hypotheses) if n_hypotheses > 2 else None
            selected = features.matching_pursuit(HYPOTHESIS_CONDITIONS, weights, given)
            by_cluster = _by_cluster(selected, clusters)
            hypotheses.append(
                " ".join(sentence(members, _variant(names[at], number)) for at, members in by_cluster.items())
            )
        return {"hypotheses": [*earlier, *filter(None, hypotheses)]}


class LexicalDecomposition:
    """Reads `hypotheses`; writes `atoms`: their sentences, each with the neuron as its subject.

    Those on which hypotheses agree stay as often as they are said: an atom of its own would count as noise.
    """

    async def __call__(self, state: NeuronState, runtime: HasContext) -> NeuronState:
        """Split the hypotheses."""
        sentences = [part.strip() for hypothesis in state["hypotheses"] for part in _SENTENCE_END.split(hypothesis)]
        return {"atoms": [_standalone(one) for one in sentences if one]}


class LexicalRefinement:
    """Reads `mode`, `siblings` and `history`; writes `proposals`: edits of the best sentence so far, in one round.

    Conditions are added that the train exemplars support and no other mode has, among them false negatives of the best
    attempt on feedback text; false positives are dropped or excepted, and other names for its words are tried.
    """

    async def __call__(self, state: ProposalState, runtime: HasContext) -> RefinementState:
        """Propose candidates."""
        history, mode = state["history"], state["mode"]
        if state.get("iteration", 1) > ROUNDS:
            return {"proposals": {mode.representative: []}}
        best = mode.best or Attempt(0, mode.explanation, None)
        said = conditions_in(best.explanation)
        clusters = [conditions_in(each.representative) for each in [mode, *state["siblings"]]]
        features = await collect_features(state["neuron"], state["exemplars"].maximum, runtime)
        selected = await asyncio.to_thread(features.matching_pursuit, SEARCHED, None, clusters[1:])
        false_negatives = await asyncio.to_thread(_false_negatives, best.errors, said, features)
        embeddings = runtime.context.embeddings
        found = await _assigned_to_first([each.condition for each in selected], clusters, embeddings)
        false_negatives = await _assigned_to_first(false_negatives, clusters, embeddings)
        words = _words([*said, *found][:NAMED_BY], features.begun)
        names = await nearest_names(words, embeddings, NAMES, "refinement")
        name = name_in(best.explanation)
        if read(best.explanation).topic and name is None and not any(each.form == "kind" for each in said):
            candidates = _additions(best.explanation, [*false_negatives, *found])
        else:
            candidates = _edits(said, name, best.errors, found, false_negatives, names)
        known = [attempt.explanation for attempt in history]
        return {
            "proposals": {
                mode.representative: distinct(candidates, known)[: min(PROPOSED, runtime.context.config.n_candidates)]
            }
        }


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


def weights_of(features: Features, number: int, n: int) -> Floats:
    """What each token counts in the draft of a number, of n: each looks less at another part of the exemplars."""
    return np.where(features.exemplar_index % n == number, REDUCED_WEIGHT, 1.0)


def _by_cluster(selected: Sequence[Selected], clusters: dict[Condition, int]) -> dict[int, list[Condition]]:
    """The conditions of each cluster, those that explain most first; what is in none is left out."""
    found: dict[int, list[Condition]] = {}
    for each in selected:
        cluster = clusters.get(each.condition.pattern)
        if cluster is not None:
            found.setdefault(cluster, []).append(each.condition)
    return dict(sorted(found.items()))


async def _names_of(
    selected: Sequence[Selected], clusters: dict[Condition, int], pieces: Collection[str], embeddings: Embeddings
) -> dict[int, list[Name]]:
    """What the words of each cluster have in common."""
    return {
        at: await nearest_names(_words(members, pieces), embeddings, NAMES, "hypothesis")
        for at, members in _by_cluster(selected, clusters).items()
    }


def _words(conditions: Sequence[Condition], pieces: Collection[str]) -> list[str]:
    """Whole words of conditions."""
    return [each.text for each in conditions if is_example(each) and each.text not in pieces]


def _variant(names: Sequence[Name], number: int) -> Name | None:
    """The name that a draft uses: each another one, the second none."""
    variants = [*names[:1], None, *names[1:]]
    return variants[number % len(variants)]


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


def _additions(explanation: str, new: Sequence[Condition]) -> list[str]:
    """A sentence in its own words, with new conditions at its end."""
    opening = f"{explanation.rstrip(' .')}; it also activates on"
    return [sentence(new[:count], None, opening) for count in ADDED if new]


def _edits(
    said: Sequence[Condition],
    name: Name | None,
    errors: Sequence[PredictionError],
    found: Sequence[Condition],
    false_negatives: Sequence[Condition],
    names: Sequence[Name],
) -> list[str]:
    """Other sentences for a mode, the most promising first.

    Args:
        said: the conditions of its sentence now.
        name: what that says its words have in common.
        errors: of its best attempt.
        found: conditions that train supports and no other mode has, those that explain most first.
        false_negatives: those where its best attempt predicts too little.
        names: what its words may have in common.
    """
    current = [condition for condition in said if condition.strength > 0]
    false_positives = list(dict.fromkeys(content_of(one.token) for one in errors if one.predicted > one.actual))
    retained = [condition for condition in current if condition.text not in false_positives]
    room = max(len(current) - len(false_negatives), QUOTES // 2)
    corrected = [*current[:room], *false_negatives]
    quoted = {condition.text for condition in current}
    excepted = [condition for condition in said if condition.strength == 0]
    new = [Condition(text, (), 0.0) for text in false_positives if text not in quoted and quotable(text)]
    edits: list[tuple[Sequence[Condition], Name | None]] = [
        *((current, other) for other in names),
        (found, None),
        *((found, other) for other in names[:1]),
        (current, None),
        (corrected, name),
        (retained, name),
        ([*current, *new[:EXCEPTIONS]], name),
        ([*retained, *found], None),
        ([*retained, *found], name),
        (current[: QUOTES // 2], name),
        *((found[: QUOTES // 2], other) for other in names),
    ]
    return [
        sentence([*excepted, *conditions], common)
        for conditions, common in edits
        if any(condition.strength > 0 for condition in conditions)
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
