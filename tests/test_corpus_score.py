"""The corpus score: what a sample of a split with known weights says of all of it, and how surely."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import neuronscope as ns
from neuronscope.exemplars.sampling import draw_random, draw_strata
from neuronscope.graphs import build_neuron_graph, observe
from neuronscope.metrics import pearson
from neuronscope.metrics.bootstrap import Resampling
from neuronscope.metrics.correlation import corpus_correlation
from neuronscope.types import ExemplarIds, Stratum
from planted import (
    AGENTS,
    BETTER_COLOURS,
    BOTH,
    DEAD,
    MemorySource,
    NoEmbeddings,
    PlantedSubject,
    StratifiedMemory,
    WordSimulator,
    documents,
    instruments,
)

NEURON = ns.Neuron(3, 7)
FEW = Resampling(n=200)
SIZES = {"top": 20, "ranked": 40, "random": 60}


# Drawing


def drawn(n_sequences: int, listed: list[int], seed: int = 0, **sizes: int) -> list[Stratum]:
    return draw_strata(range(n_sequences), listed, n_sequences, NEURON, "test", **(SIZES | sizes), seed=seed)


def test_the_parts_are_disjoint_and_their_sizes_are_the_split() -> None:
    listed = list(range(0, 500, 5))
    top, ranked, rest = drawn(700, listed)
    assert (top.ids, top.size) == (listed[:20], 20)
    assert (len(ranked.ids), ranked.size) == (40, 80)
    assert set(ranked.ids) < set(listed[20:])
    assert (len(set(rest.ids)), rest.size) == (60, 600)
    assert not set(rest.ids) & set(listed)


def test_the_random_sequences_of_a_test_set_are_among_those_of_the_rest() -> None:
    listed = list(range(0, 500, 5))
    assert drawn(700, listed)[2].ids[:20] == draw_random(range(700), listed, 700, NEURON, "test", 20, seed=0)


def test_the_seed_decides_what_is_drawn() -> None:
    listed = list(range(100))
    assert drawn(700, listed) == drawn(700, listed) != drawn(700, listed, seed=1)


@pytest.mark.parametrize("n_listed", [0, 7, 90, 120])
def test_a_split_that_has_no_more_sequences_than_would_be_drawn_is_taken_whole(n_listed: int) -> None:
    parts = drawn(120, list(range(n_listed)))
    assert sorted(number for part in parts for number in part.ids) == list(range(120))
    assert all(part.size == len(part.ids) > 0 for part in parts)


# Estimating


def split(n: int, frequency: float, generator: np.random.Generator) -> tuple[list[Any], list[Any]]:
    """A rare neuron, and an explanation that is right about some of it and wrong elsewhere."""
    rate = generator.gamma(0.3, frequency / 0.3, size=n)  # the neuron's topic is in a few texts
    actual = [(generator.random(30) < share) * generator.gamma(2.0, 2.0, size=30) for share in rate]
    hit = [generator.random(30) < 0.7 for _ in range(n)]
    wrong = [generator.random(30) < frequency / 2 for _ in range(n)]
    return [8.0 * (((a > 0) & h) | w) for a, h, w in zip(actual, hit, wrong, strict=True)], actual


def estimated(predicted: list[Any], actual: list[Any], seed: int, resampling: Resampling = FEW) -> Any:
    peaks = np.array([row.max() for row in actual])
    order = np.argsort(-peaks, kind="stable")
    listed = [int(number) for number in order[:100] if peaks[number] > 0]
    parts = drawn(len(actual), listed, seed)
    ids = [number for part in parts for number in part.ids]
    return corpus_correlation([predicted[i] for i in ids], [actual[i] for i in ids], parts, resampling)


def test_where_all_sequences_are_drawn_it_is_the_correlation_on_all_of_them() -> None:
    predicted, actual = split(110, 0.05, np.random.default_rng(0))
    found = estimated(predicted, actual, seed=0)
    assert found.value == pytest.approx(pearson(np.concatenate(predicted), np.concatenate(actual)).value)
    assert found.interval == (found.value, found.value)


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), min_size=1, max_size=4), st.integers(0, 1000))
def test_a_sequence_counts_as_often_as_the_sequences_that_it_stands_for(parts: Any, seed: int) -> None:
    generator = np.random.default_rng(seed)
    strata = [Stratum(list(range(n)), n * weight) for n, weight in parts]
    often = [weight for n, weight in parts for _ in range(n)]
    actual = [generator.random(generator.integers(2, 6)) for _ in often]
    predicted = [row + generator.random(len(row)) for row in actual]
    found = corpus_correlation(predicted, actual, strata, Resampling(n=20))
    repeated = [
        np.concatenate([row for row, n in zip(rows, often, strict=True) for _ in range(n)])
        for rows in (predicted, actual)
    ]
    assert found.value == pytest.approx(pearson(*repeated).value)
    assert found.low <= found.value <= found.high


@pytest.mark.parametrize("frequency", [0.1, 0.01])
def test_the_interval_covers_the_correlation_on_the_whole_split(frequency: float) -> None:
    covered, widths = [], []
    for seed in range(60):
        predicted, actual = split(500, frequency, np.random.default_rng([seed, 1]))
        exact = pearson(np.concatenate(predicted), np.concatenate(actual)).value
        found = estimated(predicted, actual, seed)
        covered.append(found.low <= exact <= found.high)
        widths.append(found.high - found.low)
    assert np.mean(covered) >= 0.88  # of 60, where 0.95 is meant
    assert np.mean(widths) < 0.3


def test_an_explanation_that_is_twice_too_broad_or_misses_half_loses() -> None:
    for seed in range(20):
        generator = np.random.default_rng([seed, 2])
        _, actual = split(500, 0.005, generator)
        true = [10.0 * (row > 2.5) for row in actual]
        share = np.concatenate(true).mean() / 10
        broad = [np.maximum(row, 10.0 * (generator.random(30) < share)) for row in true]
        half = [row * (generator.random(30) < 0.5) for row in true]
        best, wide, narrow = (estimated(each, actual, seed).value for each in (true, broad, half))
        assert best > max(wide, narrow)


# In a result


def world(n: int = 900, **changes: Any) -> Any:
    subject = PlantedSubject()
    return instruments(subject=subject, store=StratifiedMemory(subject, documents(n)), **changes)


async def explained(context: Any, neuron: ns.Neuron = BOTH) -> ns.NeuronExplanation:
    state = await build_neuron_graph(**AGENTS).ainvoke({"neuron": neuron}, context=context)
    explanation: ns.NeuronExplanation = state["explanation"]
    return explanation


async def on_the_whole_split(x: ns.NeuronExplanation, context: Any) -> float:
    ids = context.store.of_split("test")
    rows = await context.scorer.predict(BOTH, [mode.explanation for mode in x.modes], ids)
    strengths = np.array([[mode.strength] for mode in x.modes])
    joint = np.concatenate([(strengths * row).max(axis=0) for row in rows])
    value = pearson(joint, await context.scorer.ground_truth(BOTH, ids)).value
    assert value is not None
    return value


async def test_a_result_says_what_it_would_score_on_the_whole_split_and_how_surely(tmp_path: Any) -> None:
    context = world()
    x = await explained(context)
    assert x.interval[0] <= x.joint_score <= x.interval[1]
    assert x.corpus_interval[0] <= x.corpus_score <= x.corpus_interval[1]
    assert x.corpus_interval[0] <= await on_the_whole_split(x, context) + 1e-3
    for mode in x.modes:
        assert mode.interval[0] <= mode.score <= mode.interval[1]
    assert [mode.supported for mode in x.modes] == [True, False], "no animal is in the 40 test sequences"
    assert ns.NeuronExplanation.load(x.save(tmp_path / "n.json")) == x


async def test_of_a_small_split_it_is_exact() -> None:
    context = world(240)
    x = await explained(context)
    assert x.corpus_score == pytest.approx(await on_the_whole_split(x, context), abs=1e-3)
    assert x.corpus_interval == (x.corpus_score, x.corpus_score)


async def test_a_mode_is_predicted_on_the_sample_once_and_its_representative_is_not() -> None:
    context = world()
    x = await explained(context)
    ids = (await observe({"neuron": BOTH}, Runtime(context)))["exemplars"]
    more = set(ids.in_strata()) - set(ids.of("test"))
    assert len(more) >= 80
    calls = context.simulator.calls
    asked = [(text, number) for texts, numbers in calls for text in texts for number in numbers if number in more]
    assert len(asked) == len(set(asked))
    assert {text for text, _ in asked} == {mode.explanation for mode in x.modes}
    assert len(context.store.asked) == 2, (
        "all exemplars of a neuron are asked for at once; the second time is this test's"
    )


class Runtime:
    def __init__(self, context: Any) -> None:
        self.context = context


@pytest.mark.parametrize(
    "changes", [{"config": ns.ExplainConfig.paper()}, {"config": ns.ExplainConfig(corpus_random=0)}, {"store": None}]
)
async def test_what_nobody_asks_for_or_the_source_cannot_sample_has_no_number(changes: Any) -> None:
    context = world(**{name: value for name, value in changes.items() if value is not None})
    if "store" in changes:
        context = instruments(store=MemorySource(PlantedSubject(), documents(900)))
    x = await explained(context)
    assert (x.corpus_score, x.corpus_interval) == (None, None)
    assert x.joint_score is not None
    assert x.interval is not None
    assert x.status == "explained"


async def test_of_a_dead_neuron_nothing_is_sampled() -> None:
    context = world()
    ids = (await observe({"neuron": DEAD}, Runtime(context)))["exemplars"]
    assert not ids.test_strata
    x = await explained(context, DEAD)
    assert (x.corpus_score, x.interval) == (None, None)


async def test_without_enough_sequences_of_its_own_a_mode_is_not_supported() -> None:
    context = world(15)  # five test documents, of which two at most activate the neuron
    x = await explained(context)
    assert not any(mode.supported for mode in x.modes)


async def test_where_the_simulator_fails_on_the_sample_the_test_scores_stand_and_it_says_so() -> None:
    class Limited(WordSimulator):
        def simulate(self, explanations: Any, exemplars: Any) -> Any:
            if {one.sequence_id for one in exemplars} & self.forbidden:
                raise RuntimeError("out of memory")
            return super().simulate(explanations, exemplars)

    context = world(simulator=Limited())
    ids = (await observe({"neuron": BOTH}, Runtime(context)))["exemplars"]
    context.simulator.forbidden = set(ids.in_strata()) - set(ids.of("test"))
    x = await explained(context)
    assert x.joint_score is not None
    assert all(mode.score is not None for mode in x.modes)
    assert (x.corpus_score, x.status) == (None, "partial")
    assert any("corpus score" in failure.message for failure in x.failures)


def test_who_may_see_no_test_sequence_sees_none_of_the_sample() -> None:
    ids = ExemplarIds(
        train=[1], validation=[2], test=[3], test_random=[4], test_strata=[Stratum([3, 5], 9)], maximum=2.0
    )
    assert ids.without("test") == ExemplarIds(train=[1], validation=[2], maximum=2.0)
    assert ids.without("validation").all_ids() == [1, 3, 4, 5]


async def test_evaluate_measures_the_same_on_the_same_sequences() -> None:
    store = StratifiedMemory(PlantedSubject(), documents(900))
    table = ns.evaluate(
        BETTER_COLOURS, BOTH, ["corpus_score"], store=store, simulator=WordSimulator(), embeddings=NoEmbeddings()
    )
    (row,) = table.measurements
    context = world()
    ids = (await observe({"neuron": BOTH}, Runtime(context)))["exemplars"]
    rows = await context.scorer.predict(BOTH, [BETTER_COLOURS], ids.in_strata())
    actual = [one.activations for one in await context.scorer.exemplars(BOTH, ids.in_strata())]
    expected = corpus_correlation([row[0] for row in rows], actual, ids.test_strata, Resampling())
    assert (row.value, row.low, row.high) == pytest.approx(expected[:3])
    assert row.n == len(ids.in_strata())
