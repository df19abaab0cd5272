"""The neuron's one written name, and short forms of what carries its data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import neuronscope as ns

sites = st.sampled_from(["mlp", "sae", "resid-post", "sae-negative", "16k", "a.b_c"]) | st.from_regex(
    r"[a-z0-9][a-z0-9_.-]{0,63}", fullmatch=True
)
neurons = st.builds(ns.Neuron, st.integers(0, 200), st.integers(0, 10**7), st.sampled_from([1, -1]), sites)


@given(neurons)
def test_a_written_name_is_read_back_as_the_same_neuron(neuron: ns.Neuron) -> None:
    assert ns.Neuron.parse(str(neuron)) == neuron


@given(neurons, neurons)
def test_different_neurons_have_different_names_and_files(one: ns.Neuron, other: ns.Neuron) -> None:
    assert (str(one) == str(other)) is (one == other)
    assert (one.file_name == other.file_name) is (one == other)


@given(neurons)
def test_a_file_name_is_one_part_of_a_path_on_every_system(neuron: ns.Neuron) -> None:
    assert not set(neuron.file_name) & set('/\\:*?"<>| ')
    assert neuron.file_name == neuron.file_name.lower()
    assert not neuron.file_name.startswith(".")


def test_names_are_short_and_have_the_site_only_where_it_is_not_the_mlp() -> None:
    names = [str(ns.Neuron(9, 740)), str(ns.Neuron(9, 740, -1)), str(ns.Neuron(9, 740, 1, "sae"))]
    assert names == ["9/740", "9/740/-", "sae:9/740"]


@pytest.mark.parametrize(
    ("name", "neuron"),
    [
        (" 9/740 ", ns.Neuron(9, 740)),
        ("9/740/+", ns.Neuron(9, 740)),
        ("9/740/-1", ns.Neuron(9, 740, -1)),
        ("9/-740", ns.Neuron(9, 740, -1)),
        ("mlp:9/740/-", ns.Neuron(9, 740, -1)),
        ("sae:9/-740", ns.Neuron(9, 740, -1, "sae")),
    ],
)
def test_other_ways_of_writing_a_neuron_are_read_too(name: str, neuron: ns.Neuron) -> None:
    assert ns.Neuron.parse(name) == neuron


@pytest.mark.parametrize(
    "name", ["9/-740/+", "9/740/-2", "9", "", "9/740/", "sae:", ":9/740", "SAE:9/1", "٩/٧", "9/" + "1" * 9000, None, 9]
)
def test_what_names_no_neuron_is_refused_in_a_short_message(name: str) -> None:
    with pytest.raises(ns.ConfigurationError, match="names no neuron") as caught:
        ns.Neuron.parse(name)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("site", ["", "a/b", "a:b", "SAE", "ä", ".", "x" * 65, "sae\n", 3])
def test_a_site_that_could_not_be_written_is_refused(site: str) -> None:
    with pytest.raises(ns.ConfigurationError, match="name of a site"):
        ns.Neuron(9, 740, site=site)


def test_an_exemplar_is_one_short_line_however_long_it_is() -> None:
    long = ns.Exemplar(["word\n"] * 4000, range(4000), np.linspace(0, 7.5, 4000, dtype=np.float32), 12, "news")
    assert repr(long).startswith("Exemplar(sequence 12, 4000 tokens, at most 7.5, 'word word")
    assert len(repr(long)) < 150
