"""The look-up baselines and the table of the offline experiment."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import neuronscope as ns
from neuronscope.baselines import LookupTable
from neuronscope.experiments.named.offline import Row, random_neurons, table

sequences = st.lists(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 10)), min_size=1, max_size=8), min_size=1, max_size=4
)


def exemplars(many):
    return [
        ns.Exemplar([""] * len(pairs), [i for i, _ in pairs], np.array([a for _, a in pairs], np.float32), 0, "by hand")
        for pairs in many
    ]


def correlation(predicted, actual):
    if len(set(predicted)) < 2 or len(set(actual)) < 2:
        return 0.0
    return np.corrcoef(predicted, actual)[0, 1]


@given(sequences, sequences, st.sampled_from([None, 1, 3]))
def test_a_lookup_predicts_each_tokens_mean(train, test, limit):
    seen = {}
    for token, activation in [pair for pairs in train for pair in pairs]:
        seen.setdefault(token, []).append(activation)
    kept = sorted(seen, key=lambda token: -np.mean(seen[token]) * np.sum(seen[token]))[:limit]
    pairs = [pair for sequence in test for pair in sequence]
    predicted = [np.mean(seen[token]) if token in kept else 0.0 for token, _ in pairs]
    actual = [activation for _, activation in pairs]
    if np.ptp(actual) == 0:
        assert LookupTable(exemplars(train), limit).score(exemplars(test)) is None
        return
    expected = correlation(predicted, actual)
    assert LookupTable(exemplars(train), limit).score(exemplars(test)) == pytest.approx(expected, abs=1e-6)


def test_a_lookup_of_its_own_exemplars_is_perfect_where_tokens_decide():
    known = exemplars([[(1, 5), (2, 0), (3, 2)], [(3, 2), (1, 5)]])
    assert LookupTable(known).score(known) == pytest.approx(1.0)


def test_a_lookup_made_of_nothing_scores_0():
    assert LookupTable([]).score(exemplars([[(1, 5), (2, 0)]])) == 0.0


def test_random_neurons_are_distinct_and_the_same_every_time():
    drawn = random_neurons(1536, 9, 20, seed=0)
    assert drawn == random_neurons(1536, 9, 20, seed=0)
    assert len(set(drawn)) == 20
    assert all(neuron.layer == 9 and neuron.index < 1536 for neuron in drawn)


def test_layers_and_seeds_draw_other_neurons():
    indices = [[neuron.index for neuron in random_neurons(1536, layer, 20, seed)] for layer, seed in [(9, 0), (9, 1)]]
    indices.append([neuron.index for neuron in random_neurons(1536, 5, 20, 0)])
    assert indices[0] != indices[1]
    assert indices[0] != indices[2]


def test_more_of_the_draw_begins_with_less_of_it_or_at_least_stays_within_the_layer():
    assert {neuron.index for neuron in random_neurons(8, 0, 8, seed=3)} == set(range(8))


def row(layer, score, number, ten, lookup):
    found = SimpleNamespace(
        neuron=ns.Neuron(layer, 0), unrefined_score=score / 2, score=score, joint_score=2 * score, number=number
    )
    return Row(found, ten, lookup)


def test_the_table_has_the_means_of_each_layer_in_order():
    rows = [row(9, 0.4, 2, 0.1, 0.2), row(5, 0.2, 1, 0.0, 1.0), row(9, 0.2, 1, 0.3, 0.4)]
    header, rule, *body = table(rows).splitlines()
    assert header.count("|") == rule.count("|")
    assert body == [
        "| 5 | 1 | 0.100 | 0.200 | 0.400 | 1.00 | 0.000 | 1.000 |",
        "| 9 | 2 | 0.150 | 0.300 | 0.600 | 1.50 | 0.200 | 0.300 |",
    ]


def test_a_table_of_nothing_is_its_header():
    assert len(table([]).splitlines()) == 2
