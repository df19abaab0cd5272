"""The agents' roles without a language model: statistics of what fires, written as sentences.

They use only what an explainer may see: train exemplars for drafting, scores and errors on validation for refining.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from neuronscope.agents.parsing import distinct
from neuronscope.offline.clusters import group_into_families, nearest_family
from neuronscope.offline.english import Condition, quotable, read, write
from neuronscope.offline.pursuit import MINIMUM_STRENGTH, Evidence, Weighted
from neuronscope.results import Attempt, PredictionError
from neuronscope.state import HasContext, NeuronState, ProposalState, RefinementState

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from neuronscope.types import Neuron

TOP_EXEMPLARS, RANDOM_EXEMPLARS = 100, 100
"""Train sequences that the statistics are taken from: the strongest, and random ones that show what does not fire."""
DRAFT_CONDITIONS = 48
"""Conditions that are found for one draft, over all its sentences."""
REDUCED_WEIGHT = 0.5
"""What an exemplar counts in the draft that looks less at it."""
SENTENCE_CONDITIONS = 24
"""Conditions that one sentence of a draft states: those that explain most."""
MAX_CONDITIONS = 40
"""A sentence of more conditions than this is no sentence anybody reads."""
SEARCHED = 48
"""New conditions that are looked for in one iteration, before those of other modes are set aside."""
ADDITIONS = (8, 16, 32)
"""How many new conditions the candidates of one iteration try."""

_LAST_WORD = re.compile(r"(\w+|[^\w\s])\s*$")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")


class LexicalHypothesis:
    """Reads `neuron` and `exemplars`; writes `hypotheses`: drafts of one sentence per family of trigger words.

    Every draft looks less at another part of the exemplars, so that what the drafts agree on is what the data supports.
    """

    async def __call__(self, state: NeuronState, runtime: HasContext) -> NeuronState:
        """Write the drafts."""
        evidence = await gather_evidence(state["neuron"], state["exemplars"].maximum, runtime)
        n_drafts = runtime.context.config.n_hypotheses
        everything = evidence.pursue(DRAFT_CONDITIONS)
        if not everything:
            return {"hypotheses": []}
        families = await group_into_families(everything, runtime.context.embeddings)
        drafts = []
        for number in range(n_drafts):
            weights = np.where(evidence.owner % n_drafts == number, REDUCED_WEIGHT, 1.0) if n_drafts > 2 else None
            found = evidence.pursue(DRAFT_CONDITIONS, weights)
            drafts.append(_draft(found, families))
        return {"hypotheses": distinct([draft for draft in drafts if draft])}


class LexicalDecomposition:
    """Reads `hypotheses`; writes `atoms`: their sentences, each once, each with the neuron as its subject."""

    async def __call__(self, state: NeuronState, runtime: HasContext) -> NeuronState:
        """Split the drafts."""
        sentences = [part.strip() for draft in state["hypotheses"] for part in _SENTENCE_END.split(draft)]
        return {"atoms": distinct([_standalone(sentence) for sentence in sentences if sentence])}


class LexicalRefinement:
    """Reads `mode`, `siblings` and `history`; writes `proposals`: edits of the best sentence so far.

    Conditions are added that the train exemplars support and no mode states yet, among them tokens that the best
    attempt missed on validation; false alarms are dropped, strengths are estimated anew.
    """

    async def __call__(self, state: ProposalState, runtime: HasContext) -> RefinementState:
        """Propose candidates."""
        history, mode = state["history"], state["mode"]
        best = mode.best or Attempt(0, mode.explanation, None)
        evidence = await gather_evidence(state["neuron"], state["exemplars"].maximum, runtime)
        others = [sibling.representative for sibling in state["siblings"]]
        found = await asyncio.to_thread(evidence.pursue, SEARCHED, None, [best.explanation, *others])
        missed = await asyncio.to_thread(_missed, best.errors, read(best.explanation).conditions, evidence)
        own, embeddings = [mode.representative, *others], runtime.context.embeddings
        new = await _belonging([weighted.condition for weighted in found], own, embeddings)
        missed = await _belonging(missed, own, embeddings)
        candidates = await asyncio.to_thread(_edits, best, new, missed, evidence)
        known = [attempt.explanation for attempt in history]
        return {"proposals": {mode.representative: distinct(candidates, known)[: runtime.context.config.n_candidates]}}


async def _belonging(
    conditions: Sequence[Condition], explanations: Sequence[str], embeddings: Embeddings
) -> list[Condition]:
    """The conditions that fit the first explanation better than any other, so that modes stay apart."""
    if len(explanations) == 1 or not conditions:
        return list(conditions)
    families = [read(explanation).conditions for explanation in explanations]
    numbers = await nearest_family(conditions, families, embeddings)
    return [condition for condition, number in zip(conditions, numbers, strict=True) if number == 0]


async def gather_evidence(neuron: Neuron, maximum: float, runtime: HasContext) -> Evidence:
    """The neuron's train exemplars, strongest and random ones, as columns."""
    store, seed = runtime.context.store, runtime.context.config.seed
    top = await asyncio.to_thread(store.exemplars, neuron, "train", TOP_EXEMPLARS)
    drawn = await asyncio.to_thread(store.random_sequences, neuron, "train", RANDOM_EXEMPLARS, seed)
    return await asyncio.to_thread(Evidence.of, [*top, *drawn], maximum)


def _draft(found: Sequence[Weighted], families: dict[Condition, int]) -> str:
    """One sentence per family; a condition that is in no family joins the first, which is the largest."""
    by_family: dict[int, list[Condition]] = {}
    for weighted in found:
        family = families.get(_identity(weighted.condition), 0)
        by_family.setdefault(family, []).append(weighted.condition)
    return " ".join(write(by_family[family][:SENTENCE_CONDITIONS]) for family in sorted(by_family))


def _identity(condition: Condition) -> Condition:
    return replace(condition, strength=0.0)


def _standalone(sentence: str) -> str:
    """The sentence with the neuron as its subject."""
    if re.match(r"this neuron\b", sentence, re.IGNORECASE):
        return sentence
    return f"This neuron activates in this case: {sentence}"


def _edits(best: Attempt, new: Sequence[Condition], missed: Sequence[Condition], evidence: Evidence) -> list[str]:
    stated = list(read(best.explanation).conditions)
    false_alarms = {error.token.strip(" ").casefold() for error in best.errors if error.predicted > error.actual}
    kept = [condition for condition in stated if condition.text not in false_alarms]
    estimated = _estimated_anew(stated, evidence)
    few, some, many = (new[:count] for count in ADDITIONS)
    variants = [
        [*stated, *some],
        [*stated, *some, *missed],
        [*estimated, *some],
        [*kept, *some, *missed],
        [*stated, *many],
        [*stated, *missed],
        [*stated, *few],
        [*estimated, *many, *missed],
        [*kept, *few],
        [*kept],
    ]
    return [_sentence(best.explanation, stated, variant) for variant in variants if variant]


def _sentence(explanation: str, stated: Sequence[Condition], conditions: Sequence[Condition]) -> str:
    """The conditions as a sentence; a sentence about a topic keeps its words and gets the new ones at its end."""
    unique = {_identity(condition): condition for condition in conditions}
    strongest = sorted(unique.values(), key=lambda condition: -condition.strength)[:MAX_CONDITIONS]
    if not read(explanation).topic:
        return write(strongest)
    new = [condition for condition in strongest if condition not in stated]
    return write(new, opening=f"{explanation.rstrip(' .')}; it also fires") if new else explanation


def _estimated_anew(stated: Sequence[Condition], evidence: Evidence) -> list[Condition]:
    """The same conditions with the strengths that the train exemplars show; exceptions stay."""
    return [
        replace(condition, strength=evidence.estimate(condition)) if condition.strength > 0 else condition
        for condition in stated
    ]


def _missed(errors: Sequence[PredictionError], stated: Sequence[Condition], evidence: Evidence) -> list[Condition]:
    """Tokens that were predicted too low and that train exemplars support, with the strength that these show.

    A token that no train exemplar supports would raise the validation score by being learnt by heart, and no other.
    A token that is stated already was too weak in this place: then what comes before it is stated too.
    """
    known = {_identity(condition) for condition in stated}
    missed = []
    for error in errors:
        text = error.token.strip(" ").casefold()
        if error.actual <= error.predicted or not quotable(text):
            continue
        inside = error.token[:1].isalpha() and error.context[-1:].isalpha()
        condition = Condition(text, (), 0.0, "part" if inside else "word")
        before = _LAST_WORD.search(error.context.casefold())
        if condition in known and before and quotable(before.group(1)) and not inside:
            condition = replace(condition, after=(before.group(1),))
        missed.append(replace(condition, strength=evidence.estimate(condition)))
    return [condition for condition in missed if condition.strength >= MINIMUM_STRENGTH]
