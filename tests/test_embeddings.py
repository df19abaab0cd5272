"""Embeddings of others are checked before anything is made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from langchain_core.embeddings import Embeddings

import neuronscope as ns
from agent_helpers import runtime
from neuronscope.agents import ClusteringAgent
from neuronscope.agents.clustering import cluster_atoms
from neuronscope.graphs import build_neuron_graph
from neuronscope.llm.embeddings import aembed, embed
from neuronscope.simulators import HybridSimulator
from planted import BOTH, MemorySource, PlantedSubject, WordSimulator, documents, instruments

SPOILT: dict[str, Callable[[list[list[float]]], Any]] = {
    "a number that is none": lambda rows: [*rows[:-1], [float("nan"), *rows[-1][1:]]],
    "minus infinity": lambda rows: [[-float("inf")] * 8, *rows[1:]],
    "nothing in a vector's place": lambda rows: [None, *rows[1:]],
    "one vector less": lambda rows: rows[1:],
    "twice as many vectors": lambda rows: rows + rows,
    "no vector": lambda _: (),
    "nothing at all": lambda _: None,
    "a word": lambda _: "vectors",
    "a mapping": lambda rows: {"data": rows},
    "a vector cut short": lambda rows: [*rows[:-1], rows[-1][:3]],
    "vectors without numbers": lambda rows: [[] for _ in rows],
    "one row of all numbers": lambda rows: [number for row in rows for number in row],
    "a vector of zeros": lambda rows: [*rows[:-1], [0.0] * 8],
    "a list around each vector": lambda rows: [[row] for row in rows],
    "text": lambda rows: [["one"] * 8 for _ in rows],
    "numbers beyond floats": lambda rows: [[10**400] * 8 for _ in rows],
}


class Spoilt(Embeddings):
    """A direction for each text, but for what is spoilt on the way."""

    def __init__(self, spoil: Callable[[list[list[float]]], Any]) -> None:
        self.spoil = spoil

    def embed_documents(self, texts: list[str]) -> Any:
        return self.spoil([np.random.default_rng(len(text)).normal(size=8).tolist() for text in texts])

    def embed_query(self, text: str) -> list[float]:
        raise NotImplementedError


@pytest.fixture(params=SPOILT)
def spoilt(request: pytest.FixtureRequest) -> Spoilt:
    return Spoilt(SPOILT[request.param])


async def test_vectors_that_are_not_one_for_each_text_are_an_error_that_names_the_embeddings(spoilt: Spoilt) -> None:
    texts = ["one text", "another text", "the third"]
    with pytest.raises(ns.LLMError, match="someone: what the embeddings Spoilt returned cannot be used"):
        embed(spoilt, texts, "someone")
    with pytest.raises(ns.LLMError, match="someone: what the embeddings Spoilt returned cannot be used"):
        await aembed(spoilt, texts, "someone")


async def test_the_clustering_agent_believes_no_vectors(spoilt: Spoilt) -> None:
    with pytest.raises(ns.LLMError, match="clustering: what the embeddings Spoilt returned"):
        await ClusteringAgent()({"atoms": ["a b c", "d e"]}, runtime(embeddings=spoilt))


async def test_the_offline_agents_believe_no_vectors(spoilt: Spoilt) -> None:
    context = instruments(embeddings=spoilt, llm="offline")
    state = await build_neuron_graph().ainvoke({"neuron": BOTH}, context=context)
    explanation = state["explanation"]
    assert explanation.status == "partial"
    assert explanation.atoms == []
    assert ["what the embeddings Spoilt returned" in failure.message for failure in explanation.failures] == [True]


def test_the_hybrid_simulator_believes_no_vectors(spoilt: Spoilt) -> None:
    silent = ns.Exemplar([" ship", " sails"], [0, 1], np.zeros(2, np.float32), 0, "by hand")
    with pytest.raises(ns.LLMError, match="what the embeddings Spoilt returned"):
        HybridSimulator(spoilt).simulate(["This neuron activates on words about boats."], [silent])


@pytest.mark.parametrize("metric", ["retrieval", "intruder", "detection"])
def test_evaluation_believes_no_vectors(metric: str, spoilt: Spoilt) -> None:
    store = MemorySource(PlantedSubject(), documents(90))
    with pytest.raises(ns.LLMError, match="what the embeddings Spoilt returned"):
        ns.evaluate('It fires on "red".', BOTH, metric, store=store, simulator=WordSimulator(), embeddings=spoilt)


@pytest.mark.parametrize("vectors", [np.ones((2, 4)), np.full((3, 4), np.nan), np.ones(3), np.zeros((3, 2))])
def test_atoms_without_a_vector_each_are_not_clustered(vectors: np.ndarray) -> None:
    with pytest.raises(ns.LLMError, match="clustering: the embedding of the atoms cannot be used"):
        cluster_atoms(["one", "two", "three"], vectors)


def test_vectors_whose_length_changes_between_calls_are_an_error() -> None:
    class Growing(Spoilt):
        dimensions = 3

        def embed_documents(self, texts: list[str]) -> Any:
            self.dimensions += 1
            return [[1.0] * self.dimensions for _ in texts]

    exemplars = [ns.Exemplar([f" ship{n}"], [0], np.zeros(1, np.float32), n, "by hand") for n in range(2)]
    simulator = HybridSimulator(Growing(list))
    with pytest.raises(ns.SimulatorError, match="vectors of length"):
        simulator.simulate(["This neuron activates on words about boats."], exemplars)


async def test_errors_of_any_kind_become_ours() -> None:
    def fail(_: Any) -> Any:
        raise KeyError("usage")

    with pytest.raises(ns.LLMError, match="someone: the request to Spoilt failed"):
        embed(Spoilt(fail), ["a text"], "someone")


def test_vectors_come_in_the_texts_order_and_at_unit_length_whatever_their_type() -> None:
    asked = []

    def as_half_precision(rows: list[list[float]]) -> Any:
        asked.append(len(rows))
        return np.asarray(rows, dtype=np.float16)

    vectors = embed(Spoilt(as_half_precision), ["abc", "ab", "abc"], "someone")
    assert asked == [2]
    assert vectors.dtype == np.float64
    assert np.array_equal(vectors[0], vectors[2])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1.0] * 3)
    assert embed(Spoilt(list), [], "someone").shape == (0, 0)


def test_numbers_whose_squares_overflow_have_a_length() -> None:
    vectors = embed(Spoilt(lambda rows: [[1e200] * 4 for _ in rows]), ["a text"], "someone")
    assert vectors == pytest.approx(np.full((1, 4), 0.5))


def test_a_text_without_a_word_may_be_like_nothing() -> None:
    def zeros_for_spaces(rows: list[list[float]]) -> Any:
        return [[0.0, 0.0], *([1.0, 0.0] for _ in rows[1:])]

    assert embed(Spoilt(zeros_for_spaces), ["\n", "word"], "someone").tolist() == [[0.0, 0.0], [1.0, 0.0]]
