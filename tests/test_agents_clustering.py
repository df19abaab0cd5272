"""Which atoms become one mode."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings

import neuronscope as ns
from agent_helpers import runtime
from neuronscope.agents import ClusteringAgent
from neuronscope.agents.clustering import cluster_atoms, principal_points
from neuronscope.agents.distinguishing import in_one_frame, informative_words
from neuronscope.llm.minilm import MiniLM
from neuronscope.results import Cluster

PREFIX = "This neuron activates when "
PAIRS = [
    (PREFIX + "the text mentions water or drinks such as juice.", PREFIX + "a word names a liquid that people drink."),
    (PREFIX + 'the token is a colour word such as "red".', PREFIX + "it encounters names of colours."),
    (PREFIX + "the text discusses courts, judges or laws.", PREFIX + 'legal terms such as "court" appear.'),
]
PARAPHRASES = [
    PREFIX + 'the token is a negation such as "not".',
    PREFIX + 'a sentence denies something with "no" or "never".',
    PREFIX + 'words of negation appear, such as "don\'t".',
]
UNRELATED = [
    PREFIX + "a closing curly brace appears in code.",
    PREFIX + "the word is part of a date.",
    PREFIX + "names of sports teams are mentioned.",
]


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    return MiniLM()


async def clusters_of(atoms: list[str], embeddings: Embeddings, **settings: Any) -> list[Cluster]:
    context = runtime(embeddings=embeddings, config=ns.ExplainConfig(**settings))
    return (await ClusteringAgent()({"atoms": atoms}, context))["clusters"]


async def test_three_clean_pairs_are_three_clusters(minilm: MiniLM) -> None:
    atoms = [pair[0] for pair in PAIRS] + [pair[1] for pair in PAIRS]
    clusters = await clusters_of(atoms, minilm)
    assert [tuple(cluster.atoms) for cluster in clusters] == PAIRS
    assert all(cluster.representative in cluster.atoms and not cluster.noise for cluster in clusters)


async def test_clusters_are_the_same_every_time(minilm: MiniLM) -> None:
    atoms = [atom for pair in PAIRS for atom in pair] + UNRELATED
    assert await clusters_of(atoms, minilm) == await clusters_of(atoms, MiniLM())


async def test_paraphrases_of_one_condition_are_one_cluster(minilm: MiniLM) -> None:
    (cluster,) = await clusters_of(PARAPHRASES, minilm, min_samples=None)
    assert cluster.atoms == PARAPHRASES
    assert not cluster.noise


@pytest.mark.parametrize("noise", ["drop", "keep"])
async def test_unrelated_conditions_are_a_cluster_each(minilm: MiniLM, noise: str) -> None:
    clusters = await clusters_of(UNRELATED, minilm, noise=noise)
    assert [cluster.atoms for cluster in clusters] == [[atom] for atom in UNRELATED]
    assert not any(cluster.noise for cluster in clusters)


@pytest.mark.parametrize("n_atoms", [0, 1])
async def test_fewer_than_two_atoms_need_no_clustering(n_atoms: int, minilm: MiniLM) -> None:
    clusters = await clusters_of(UNRELATED[:n_atoms], minilm)
    assert [cluster.atoms for cluster in clusters] == [[atom] for atom in UNRELATED[:n_atoms]]
    assert all(cluster.points == [(0.0, 0.0)] for cluster in clusters)


def two_groups_and_noise() -> tuple[list[str], np.ndarray]:
    vectors = np.array(
        [[1, 0, 0.02], [1, 0.01, 0], [0, 1, 0.01], [0, 1, 0], [0.02, 1, 0], [-1, -1, 0]], dtype=np.float64
    )
    return ["a1", "a2", "b1", "b2", "b3", "stray"], vectors


def test_the_largest_cluster_comes_first_and_noise_last() -> None:
    clusters = cluster_atoms(*two_groups_and_noise(), few_atoms=0)
    assert [cluster.atoms for cluster in clusters] == [["b1", "b2", "b3"], ["a1", "a2"], ["stray"]]
    assert [cluster.noise for cluster in clusters] == [False, False, True]


def test_kept_noise_is_a_cluster_for_each_atom() -> None:
    clusters = cluster_atoms(*two_groups_and_noise(), noise="keep", few_atoms=0)
    assert clusters[-1].atoms == ["stray"]
    assert not clusters[-1].noise


def test_the_representative_is_the_atom_nearest_the_centroid() -> None:
    clusters = cluster_atoms(*two_groups_and_noise())
    assert clusters[0].representative == "b2"


TAX = ["taxes are raised.", "the text speaks of a tax.", 'words of taxation such as "levy" appear.']
SLEEP = ["somebody falls asleep.", "the text describes sleep.", "sleeping is mentioned."]
CHESS = ["a game of chess is played.", "the text mentions chess.", "chess players or their moves are described."]
GLASS = ["a window pane is broken."]
BEGINNINGS = ["This neuron activates when ", "It responds whenever ", "The unit in question prefers text in which "]
MIXED = ["This neuron activates when ", "This neuron fires strongly if ", "The neuron is active when "]


def meanings_of(clusters: list[Cluster]) -> set[frozenset[str]]:
    return {frozenset(cluster.atoms) for cluster in clusters}


@pytest.mark.parametrize("settings", [{}, {"min_samples": None, "few_atoms": 0}, {"noise": "keep"}])
@pytest.mark.parametrize(
    "meanings",
    [[TAX, GLASS], [SLEEP, GLASS], [CHESS, GLASS], [TAX[:2], SLEEP[1:]], [CHESS, TAX[:2]], [SLEEP], [CHESS[:2]]],
)
async def test_few_atoms_are_grouped_by_what_they_mean(
    meanings: list[list[str]], settings: dict[str, Any], minilm: MiniLM
) -> None:
    groups = [[PREFIX + condition for condition in meaning] for meaning in meanings]
    atoms = [atom for group in groups for atom in group]
    clusters = await clusters_of(atoms, minilm, **settings)
    assert meanings_of(clusters) == {frozenset(group) for group in groups}
    assert not any(cluster.noise for cluster in clusters)


@pytest.mark.parametrize("beginning", [*BEGINNINGS, ""])
async def test_how_all_sentences_begin_does_not_matter(beginning: str, minilm: MiniLM) -> None:
    groups = [[beginning + condition for condition in meaning] for meaning in (SLEEP, TAX[:2], GLASS)]
    clusters = await clusters_of([atom for group in groups for atom in group], minilm)
    assert meanings_of(clusters) == {frozenset(group) for group in groups}


async def test_how_each_sentence_begins_does_not_matter(minilm: MiniLM) -> None:
    groups = [[MIXED[number % 3] + text for number, text in enumerate(meaning)] for meaning in (CHESS, TAX)]
    clusters = await clusters_of([atom for group in groups for atom in group], minilm)
    assert meanings_of(clusters) == {frozenset(group) for group in groups}


async def test_sentences_of_the_offline_agents_are_grouped_by_their_words(minilm: MiniLM) -> None:
    days = [
        'This neuron activates very strongly on "monday"; moderately on "friday" and "sunday".',
        'This neuron activates strongly on "monday" and "tuesday"; weakly on "friday".',
        'This neuron activates strongly on "sunday"; moderately on "monday"; weakly on "weekend".',
    ]
    waters = [
        'This neuron activates strongly on "river" and "lake"; weakly on "sea".',
        'This neuron activates very strongly on "river"; moderately on "ocean" and "lake".',
        'This neuron activates strongly on "sea" and "ocean".',
    ]
    assert meanings_of(await clusters_of([*days, *waters], minilm)) == {frozenset(days), frozenset(waters)}


@pytest.mark.parametrize("min_samples", [1, None])
@pytest.mark.parametrize(("meaning", "stranger"), [(TAX, GLASS), (SLEEP, TAX[:1]), (CHESS, SLEEP[:1])])
def test_a_stranger_stays_alone_also_by_the_embeddings_of_whole_sentences(
    meaning: list[str], stranger: list[str], min_samples: int | None, minilm: MiniLM
) -> None:
    atoms = [PREFIX + condition for condition in [*meaning, *stranger]]
    clusters = cluster_atoms(atoms, np.array(minilm.embed_documents(atoms)), min_samples=min_samples)
    assert [cluster.atoms for cluster in clusters] == [atoms[:-1], atoms[-1:]]


def test_hdbscan_decides_wherever_it_finds_a_cluster_if_no_number_of_atoms_is_few() -> None:
    assert [cluster.noise for cluster in cluster_atoms(*two_groups_and_noise(), few_atoms=0)] == [False, False, True]
    assert not any(cluster.noise for cluster in cluster_atoms(*two_groups_and_noise(), few_atoms=6))
    assert ns.ExplainConfig.paper().few_atoms == 0


@given(st.integers(2, 7), st.integers(0, 99))
def test_a_stranger_changes_nothing_for_those_that_belong_together(n_alike: int, seed: int) -> None:
    drawn = np.random.default_rng(seed)
    alike = np.array([1.0, 0, 0, 0]) + drawn.normal(scale=0.1, size=(n_alike, 4))
    stranger = np.array([[0.0, 0, 0, 1.0]])
    atoms = [f"alike {number}" for number in range(n_alike)]
    together = cluster_atoms(atoms, alike, few_atoms=9)
    beside = cluster_atoms([*atoms, "stranger"], np.concatenate([alike, stranger]), few_atoms=9)
    assert [cluster.atoms for cluster in together] == [atoms]
    assert [cluster.atoms for cluster in beside] == [atoms, ["stranger"]]


@pytest.mark.parametrize(
    ("sentences", "words"),
    [
        (["This neuron activates when the text speaks of ships."], ["ships"]),
        (['It fires on words such as "the".', "It fires on names."], ['"the"', "names."]),
        (["This neuron is triggered by negation.", "The neuron reliably detects ice."], ["negation", "ice"]),
        (["Dieses Neuron mag Schiffe", "Dieses Neuron mag Wein"], ["Schiffe", "Wein"]),
        (["Colour names", "Colour words"], ["Colour", "Colour"]),
        (["The same words", "The same words"], ["same", "same"]),
        ([""], [""]),
        ([], []),
    ],
)
def test_what_no_explanation_says_in_particular_is_left_out(sentences: list[str], words: list[str]) -> None:
    assert informative_words(sentences) == words


@given(st.lists(st.text(max_size=40), max_size=5))
def test_any_sentences_have_a_condition_each(sentences: list[str]) -> None:
    assert len(in_one_frame(sentences)) == len(informative_words(sentences)) == len(sentences)


def test_equal_atoms_are_one_cluster_whose_points_coincide() -> None:
    (cluster,) = cluster_atoms(["same"] * 3, np.ones((3, 4)))
    assert cluster.points == [(0.0, 0.0)] * 3
    assert cluster.representative == "same"


@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 99))
def test_every_atom_is_in_exactly_one_cluster(n_atoms: int, dimensions: int, seed: int) -> None:
    atoms = [f"atom {number}" for number in range(n_atoms)]
    clusters = cluster_atoms(atoms, np.random.default_rng(seed).normal(size=(n_atoms, dimensions)))
    assert sorted(atom for cluster in clusters for atom in cluster.atoms) == sorted(atoms)
    assert all(len(cluster.points) == len(cluster.atoms) for cluster in clusters)
    sizes = [len(cluster.atoms) for cluster in clusters if not cluster.noise]
    assert sizes == sorted(sizes, reverse=True)
    json.dumps([cluster.points for cluster in clusters])  # plain numbers


def test_the_points_are_two_principal_components() -> None:
    line = np.array([[1.0, 0, 0], [2.0, 0, 0], [3.0, 0, 0]])
    assert np.abs(np.array(principal_points(line))) == pytest.approx(np.array([[1, 0], [0, 0], [1, 0]]), abs=1e-9)


async def test_the_agents_own_embeddings_come_before_those_of_the_context() -> None:
    agent = ClusteringAgent(DeterministicFakeEmbedding(size=8))
    clusters = (await agent({"atoms": ["one", "two"]}, runtime(embeddings=None)))["clusters"]
    assert len(clusters) in (1, 2)


class BrokenEmbeddings(Embeddings):
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        raise ConnectionError("no route to host")

    def embed_query(self, text: str) -> list[float]:
        raise NotImplementedError


async def test_embeddings_that_cannot_be_reached_are_an_error_in_words() -> None:
    with pytest.raises(ns.LLMError, match=r"clustering: BrokenEmbeddings cannot be reached"):
        await clusters_of(["one", "two"], BrokenEmbeddings())
