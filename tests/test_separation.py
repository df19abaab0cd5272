"""Separation: a score that falls where meanings are merged, left out or split; the number's interval; and nulls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from langchain_core.embeddings import Embeddings

import neuronscope as ns
from neuronscope.graphs import build_neuron_graph
from neuronscope.metrics import Estimate, Resampling
from neuronscope.metrics.nulls import best_of, other_explanations
from neuronscope.metrics.separation import contexts_of, likeness, separation
from neuronscope.metrics.support import number_interval, own_active_sequences
from planted import AGENTS, BOTH, DEAD, PlantedSubject, StratifiedMemory, documents, instruments

DAYS, METALS = ("monday", "tuesday", "friday", "sunday"), ("iron", "copper", "silver", "gold")
OTHERS = "the of and in was with from that they have been which under after house river would people".split()
FEW = Resampling(n=200)


class KindsOfWords(Embeddings):
    """Days are near days, metals near metals, and any other word only itself."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.vector(text).tolist() for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]

    def vector(self, text: str) -> Any:
        own = np.random.default_rng(list(text.encode())).normal(size=40)
        kind = [3.0 * any(day in text for day in DAYS), 3.0 * any(metal in text for metal in METALS)]
        return np.concatenate([kind, own / np.linalg.norm(own)])


def sequences(n: int = 60, kinds: Sequence[Sequence[str]] = (DAYS, METALS)) -> list[ns.Exemplar]:
    """Every other one has a day or a metal, on which the neuron is active."""
    rng, found = np.random.default_rng(0), []
    for number in range(n):
        words = [str(word) for word in rng.choice(OTHERS, 12)]
        activations = np.zeros(12, dtype=np.float32)
        if number % 2:
            at = int(rng.integers(4, 12))
            words[at] = str(rng.choice(kinds[number // 2 % len(kinds)]))
            activations[at] = rng.uniform(5, 10)
        found.append(ns.Exemplar([f" {word}" for word in words], list(range(12)), activations, number, ""))
    return found


def measured(modes: Sequence[Sequence[str]], exemplars: Sequence[ns.Exemplar] | None = None) -> Estimate:
    """The score of modes that predict 8 on their words."""
    exemplars = sequences() if exemplars is None else exemplars
    predicted = [
        np.array([[8.0 * (token.strip() in mode) for token in each.tokens] for mode in modes]) for each in exemplars
    ]
    contexts = contexts_of(exemplars, 10.0, seed=0)
    vectors = np.array(KindsOfWords().embed_documents(contexts.words))
    alike = likeness(contexts, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    return separation(predicted, exemplars, contexts, alike, np.zeros(len(exemplars)), FEW)


def value(modes: Sequence[Sequence[str]], exemplars: Sequence[ns.Exemplar] | None = None) -> float:
    found = measured(modes, exemplars).value
    assert found is not None
    return found


def test_the_true_meanings_beat_merged_left_out_and_split_ones() -> None:
    true = measured([DAYS, METALS])
    assert true.value is not None
    assert true.low is not None
    assert true.low > 0.6
    for wrong in (
        [DAYS + METALS],
        [DAYS],
        [METALS],
        [DAYS[:2], DAYS[2:], METALS],
        [DAYS, DAYS, METALS],
        [DAYS[::2] + METALS[::2], DAYS[1::2] + METALS[1::2]],
    ):
        assert value(wrong) < true.value - 0.05, wrong


def test_one_meaning_is_best_described_by_one_mode() -> None:
    only_days = sequences(kinds=(DAYS,))
    assert value([DAYS], only_days) > 0.7
    assert value([DAYS[:2], DAYS[2:]], only_days) < value([DAYS], only_days) - 0.1


def test_what_is_predicted_where_the_neuron_is_inactive_is_subtracted() -> None:
    assert value([DAYS, METALS, tuple(OTHERS)]) < 0.1
    assert value([DAYS, (*METALS, OTHERS[0])]) < value([DAYS, METALS])


def test_modes_that_predict_nothing_have_no_separation_and_what_is_inactive_has_no_number() -> None:
    assert value([("nowhere",)]) == 0
    quiet = [replace(each, activations=np.zeros(12, dtype=np.float32)) for each in sequences()]
    found = measured([DAYS], quiet)
    assert (found.value, found.interval) == (None, None)
    assert found.note


def test_a_sequence_has_few_words_in_the_comparison_when_many_are_active() -> None:
    exemplars = [replace(each, activations=np.full(12, 8, dtype=np.float32)) for each in sequences(60)]
    contexts = contexts_of(exemplars, 10.0, seed=0)
    assert contexts.n_active <= 100
    assert {index for index, _ in contexts.points[: contexts.n_active]} == set(range(60))


# The number and its interval


def test_a_mode_without_sequences_of_its_own_is_not_within_the_interval_of_the_number() -> None:
    exemplars = sequences()
    actual = [each.activations for each in exemplars]
    modes: list[Sequence[str]] = [DAYS, METALS, OTHERS[:2]]
    rows = [
        np.array([[8.0 * (token.strip() in mode) for token in each.tokens] for mode in modes]) for each in exemplars
    ]
    own = own_active_sequences(rows, actual, level=2.5)
    assert own.sum(axis=1).tolist() == [15, 15, 0]
    strata = np.zeros(len(exemplars))
    assert number_interval(own, rows, actual, strata, FEW) == (2, 2)
    few = own & (np.arange(len(exemplars)) < 22)
    low, high = number_interval(few, rows, actual, strata, FEW)
    assert low < 2 == high


# Nulls


def test_explanations_of_other_neurons_are_drawn_by_name_and_never_the_neurons_own() -> None:
    drawn = other_explanations(ns.Neuron(9, 740), 5, seed=0)
    assert len(set(drawn)) == 5
    assert drawn == other_explanations(ns.Neuron(9, 740), 5, seed=0)
    assert drawn != other_explanations(ns.Neuron(9, 741), 5, seed=0)
    every = set(other_explanations(ns.Neuron(9, 740), 100, seed=0))
    own = every - set(other_explanations(ns.Neuron(3, 787), 100, seed=0))
    assert len(own) == 1, "the first of the list is of this neuron"


def test_the_best_of_many_is_expected_above_the_mean() -> None:
    scores = [0.0, 0.1, -0.1, 0.05]
    assert best_of(scores, 1) == pytest.approx(np.mean(scores), abs=1e-6)
    draws = np.random.default_rng(0).normal(np.mean(scores), np.std(scores, ddof=1), size=(20_000, 9)).max(axis=1)
    assert best_of(scores, 9) == pytest.approx(draws.mean(), abs=0.01)
    assert best_of([0.3], 9) is None
    assert best_of(scores, 0) is None


# In a result


async def explained(neuron: ns.Neuron = BOTH, **changes: Any) -> ns.NeuronExplanation:
    subject = PlantedSubject()
    context = instruments(subject=subject, store=StratifiedMemory(subject, documents(900)), **changes)
    state = await build_neuron_graph(**AGENTS).ainvoke({"neuron": neuron}, context=context)
    explanation: ns.NeuronExplanation = state["explanation"]
    return explanation


async def test_a_result_has_four_figures_with_intervals_and_a_null(tmp_path: Any) -> None:
    x = await explained(embeddings=KindsOfWords())
    assert x.separation is not None
    assert x.separation_interval is not None
    assert x.separation_interval[0] <= x.separation <= x.separation_interval[1]
    assert (x.number, x.number_interval) == (2, (1, 1)), "no animal is in the 40 test sequences"
    assert x.null_score is not None
    assert x.null_best is not None
    assert x.null_score <= x.null_best < x.interval[0]  # type: ignore[index]  # there is one
    assert ns.NeuronExplanation.load(x.save(tmp_path / "n.json")) == x


async def test_without_embeddings_there_is_no_separation_and_all_else_stands() -> None:
    x = await explained()
    assert (x.separation, x.separation_interval) == (None, None)
    assert x.corpus_score is not None
    assert x.status == "explained"


async def test_what_the_settings_do_not_ask_for_has_no_number() -> None:
    x = await explained(embeddings=KindsOfWords(), config=ns.ExplainConfig.paper())
    assert (x.separation, x.null_score, x.null_best) == (None, None, None)
    dead = await explained(DEAD)
    assert (dead.number, dead.number_interval, dead.null_score) == (0, None, None)
