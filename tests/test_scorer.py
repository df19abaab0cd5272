"""Where scoring requests meet: merged, kept, checked, and blind to the truth."""

import asyncio
import threading

import numpy as np
import pytest

from neuronscope.errors import SimulatorError
from neuronscope.metrics import Scorer, pearson
from planted import (
    ANIMAL_MODE,
    BETTER_ANIMALS,
    BETTER_COLOURS,
    BOTH,
    COLOUR_MODE,
    NEGATIVE,
    MemorySource,
    PlantedSubject,
    WordSimulator,
    documents,
)


@pytest.fixture
def simulator():
    return WordSimulator()


@pytest.fixture
def store():
    return MemorySource(PlantedSubject(), documents())


@pytest.fixture
def scorer(simulator, store):
    return Scorer(simulator, store)


async def test_predictions_come_per_sequence_with_one_row_per_explanation(scorer):
    predictions = await scorer.predict(BOTH, [COLOUR_MODE, ANIMAL_MODE], [0, 3, 6])
    assert [array.shape for array in predictions] == [(2, 11)] * 3


async def test_a_score_is_the_correlation_over_pooled_tokens(scorer):
    numbers = list(range(30))
    (score,) = await scorer.score(BOTH, [COLOUR_MODE], numbers)
    predicted = np.concatenate([array[0] for array in await scorer.predict(BOTH, [COLOUR_MODE], numbers)])
    truth = np.concatenate([exemplar.activations for exemplar in await scorer.exemplars(BOTH, numbers)])
    assert score == pearson(predicted, truth)
    assert 0 < score.value < 1


async def test_the_simulator_never_sees_the_truth(scorer):
    exemplars = await scorer.exemplars(BOTH, [0, 3])
    assert any(exemplar.activations.any() for exemplar in exemplars)
    await scorer.predict(BOTH, [COLOUR_MODE], [0, 3])  # WordSimulator insists on zeros


async def test_what_was_predicted_is_not_predicted_again(scorer, simulator):
    await scorer.predict(BOTH, [COLOUR_MODE], [0, 1])
    await scorer.predict(BOTH, [COLOUR_MODE, ANIMAL_MODE], [1, 2])
    pairs = [(text, number) for texts, numbers in simulator.calls for text in texts for number in numbers]
    assert sorted(pairs) == sorted(set(pairs))
    assert len(pairs) == 5


async def test_the_store_is_asked_once_for_a_sequence(scorer, store):
    await scorer.exemplars(BOTH, [0, 1])
    await scorer.exemplars(BOTH, [1, 2])
    assert store.asked == [[0, 1], [2]]


async def test_concurrent_requests_for_the_same_sequences_become_one_call(scorer, simulator):
    await scorer.exemplars(BOTH, [0, 1, 2])
    await asyncio.gather(
        *(scorer.score(BOTH, [text], [0, 1, 2]) for text in (COLOUR_MODE, ANIMAL_MODE, BETTER_COLOURS))
    )
    assert simulator.calls == [([COLOUR_MODE, ANIMAL_MODE, BETTER_COLOURS], [0, 1, 2])]


async def test_merging_adds_no_pair_that_nobody_asked_for(scorer, simulator):
    await scorer.exemplars(BOTH, [0, 3, 8])
    await asyncio.gather(scorer.predict(BOTH, [COLOUR_MODE], [0, 8]), scorer.predict(BOTH, [ANIMAL_MODE], [3, 8]))
    assert simulator.calls == [([COLOUR_MODE], [0]), ([COLOUR_MODE, ANIMAL_MODE], [8]), ([ANIMAL_MODE], [3])]


async def test_requests_that_arrive_while_the_simulator_is_busy_are_merged_into_the_next_call(scorer, simulator):
    await scorer.exemplars(BOTH, [0])
    busy, release, simulate = asyncio.Event(), threading.Event(), simulator.simulate
    loop = asyncio.get_running_loop()

    def slowly(explanations, exemplars):
        loop.call_soon_threadsafe(busy.set)
        release.wait(5)
        return simulate(explanations, exemplars)

    simulator.simulate = slowly
    first = asyncio.create_task(scorer.predict(BOTH, ["first"], [0]))
    await busy.wait()
    later = [asyncio.create_task(scorer.predict(BOTH, [text], [0])) for text in ("second", "third", "fourth")]
    await asyncio.sleep(0)
    release.set()
    await asyncio.gather(first, *later)
    assert simulator.calls == [(["first"], [0]), (["second", "third", "fourth"], [0])]


async def test_a_failing_request_neither_hangs_nor_fails_the_others(scorer, simulator):
    simulator.fail_on = "cat"
    colour, animal = await asyncio.wait_for(
        asyncio.gather(
            scorer.score(BOTH, [COLOUR_MODE], [0, 1]), scorer.score(BOTH, [ANIMAL_MODE], [0, 1]), return_exceptions=True
        ),
        timeout=5,
    )
    assert colour[0].value > 0
    assert isinstance(animal, SimulatorError)
    assert "WordSimulator failed: out of memory" in str(animal)


async def test_a_bug_in_a_simulator_surfaces_as_it_is(scorer, simulator):
    simulator.simulate = lambda explanations, exemplars: explanations.no_such_thing
    with pytest.raises(AttributeError, match="no_such_thing"):
        await scorer.predict(BOTH, [COLOUR_MODE], [0])


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ([], "1 exemplars with 0 arrays"),
        ([np.zeros((1, 3))], r"shape \(1, 3\) where \(1, 11\)"),
        ([np.full((1, 11), np.nan)], "not finite"),
    ],
)
async def test_unusable_predictions_are_refused_in_words(scorer, simulator, answer, complaint):
    simulator.simulate = lambda explanations, exemplars: answer
    with pytest.raises(SimulatorError, match=complaint):
        await scorer.predict(BOTH, [COLOUR_MODE], [0])


async def test_predictions_are_kept_within_zero_to_ten(scorer, simulator):
    simulator.simulate = lambda explanations, exemplars: [np.array([[-3.0] * 5 + [12.0] * 6])]
    (prediction,) = await scorer.predict(BOTH, [COLOUR_MODE], [0])
    assert prediction.tolist() == [[0.0] * 5 + [10.0] * 6]


async def test_simulated_tokens_are_counted_once_each(scorer):
    await scorer.predict(BOTH, [COLOUR_MODE, ANIMAL_MODE], [0, 1])
    await scorer.predict(BOTH, [COLOUR_MODE], [0, 1])
    assert scorer.simulated_tokens(BOTH) == 2 * 2 * 11


async def test_no_sequence_means_no_correlation(scorer):
    assert await scorer.score(BOTH, [COLOUR_MODE], []) == [(None, True)]


async def test_exemplars_are_assigned_to_the_mode_that_fits_them(scorer):
    numbers = [0, 1, 2, 3, 4, 5]  # three with a colour, three with an animal
    belongs = await scorer.assign(BOTH, [BETTER_COLOURS, BETTER_ANIMALS], numbers)
    assert belongs.tolist() == [[True] * 3 + [False] * 3, [False] * 3 + [True] * 3]


async def test_a_forgotten_neuron_is_predicted_anew(scorer, simulator):
    await scorer.predict(BOTH, [COLOUR_MODE], [0])
    scorer.forget(BOTH)
    assert scorer.simulated_tokens(BOTH) == 0
    await scorer.predict(BOTH, [COLOUR_MODE], [0])
    assert len(simulator.calls) == 2


def test_a_scorer_survives_the_end_of_an_event_loop(scorer):
    first = asyncio.run(scorer.score(BOTH, [COLOUR_MODE], [0, 1]))
    assert asyncio.run(scorer.score(BOTH, [COLOUR_MODE], [0, 1])) == first
    asyncio.run(scorer.score(BOTH, [ANIMAL_MODE], [0, 1]))


class BatchingSimulator(WordSimulator):
    def __init__(self):
        super().__init__()
        self.batches = []

    def simulate_many(self, requests):
        self.batches.append([list(explanations) for explanations, _ in requests])
        return [self.simulate(*request) for request in requests]


@pytest.fixture
def batching():
    return BatchingSimulator()


async def test_a_simulator_that_takes_several_neurons_gets_them_in_one_call(batching):
    scorer = Scorer(batching, MemorySource(PlantedSubject(), documents()))
    for neuron in (BOTH, NEGATIVE):
        await scorer.exemplars(neuron, [0, 1])
    colour, animal = await asyncio.gather(
        scorer.predict(BOTH, [COLOUR_MODE], [0, 1]), scorer.predict(NEGATIVE, [ANIMAL_MODE], [1])
    )
    assert batching.batches == [[[COLOUR_MODE], [ANIMAL_MODE]]]
    assert [len(colour), len(animal)] == [2, 1]
    assert [scorer.simulated_tokens(neuron) for neuron in (BOTH, NEGATIVE)] == [22, 11]


async def test_a_neuron_whose_request_fails_does_not_fail_the_others_of_its_batch(batching):
    batching.fail_on = "cat"
    scorer = Scorer(batching, MemorySource(PlantedSubject(), documents()))
    both, negative, bad = await asyncio.gather(
        scorer.score(BOTH, [COLOUR_MODE], [0, 1]),
        scorer.predict(NEGATIVE, [BETTER_COLOURS], [0]),
        scorer.predict(NEGATIVE, [ANIMAL_MODE], [0]),
        return_exceptions=True,
    )
    assert both[0].value > 0
    assert negative[0].shape == (1, 11)
    assert isinstance(bad, SimulatorError)


async def test_too_few_answers_to_a_batch_are_refused(batching):
    batching.simulate_many = lambda requests: []
    scorer = Scorer(batching, MemorySource(PlantedSubject(), documents()))
    with pytest.raises(SimulatorError, match="1 requests with 0 lists"):
        await scorer.predict(BOTH, [COLOUR_MODE], [0])


async def test_pooled_predictions_are_those_of_all_sequences_in_turn(scorer, simulator):
    texts, numbers = [COLOUR_MODE, ANIMAL_MODE, COLOUR_MODE], [3, 0, 6]
    pooled = await scorer.pooled(BOTH, texts, numbers)
    assert np.array_equal(pooled, np.concatenate(await scorer.predict(BOTH, texts, numbers), axis=1))
    calls = len(simulator.calls)
    assert np.array_equal(await scorer.pooled(BOTH, texts[1:], numbers), pooled[1:])
    assert len(simulator.calls) == calls
