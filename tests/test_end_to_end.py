"""The main job, on a real model: with a real LLM behind a real server, and with none."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

import neuronscope as ns
from llm_server import unheard

if TYPE_CHECKING:
    from pathlib import Path

    from langchain_openai import ChatOpenAI

    from neuronscope.exemplars.store import ExemplarStore
    from neuronscope.subject import LoadedSubject

LAYER = 2
SMALL = ns.ExplainConfig(
    seq_len=32,
    n_train_exemplars=4,
    n_hypotheses=2,
    heldout_top=6,
    heldout_random=6,
    max_modes=2,
    max_iterations=1,
    n_candidates=2,
    temperature=0.0,
    cache_answers=False,
    vocabulary=False,
)


@pytest.fixture(scope="module")
def store(smollm2: LoadedSubject, tmp_path_factory: pytest.TempPathFactory) -> ExemplarStore:
    """Exemplars of one layer from the head of the built-in corpus."""
    folder = tmp_path_factory.mktemp("stores")
    return ns.collect_exemplars(smollm2, layers=[LAYER], seq_len=32, top_k=20, n_tokens=12_000, cache_dir=folder)


@pytest.fixture(scope="module")
def lively(store: ExemplarStore) -> ns.Neuron:
    """A neuron with large activations."""
    return store.top_neurons(LAYER, n=1, by="max")[0]


@pytest.mark.slow
def test_a_whole_graph_runs_through_a_real_llm(
    smollm2: LoadedSubject,
    store: ExemplarStore,
    lively: ns.Neuron,
    local_llm: ChatOpenAI,
    heard: list[str],
    tmp_path: Path,
) -> None:
    config = SMALL.model_copy(update={"edit": False})
    x = ns.explain_neuron(smollm2, layer=LAYER, neuron=lively.index, store=store, llm=local_llm, config=config)

    assert x.status == "explained", x.failures
    assert len(heard) >= sum(x.usage.requests.values()), "every request has been answered by the server"
    assert set(x.usage.requests) == {"hypothesis", "decomposition", "refinement"}
    assert x.usage.requests["hypothesis"] in (SMALL.n_hypotheses, 2 * SMALL.n_hypotheses)  # once more for what is left
    assert min(x.usage.input_tokens.values()) > 100
    assert min(x.usage.output_tokens.values()) > 0
    attempts = [attempt for mode in x.modes for attempt in mode.history]
    assert {attempt.iteration for attempt in attempts} == {0, 1}, "a candidate has been measured"
    for texts in (x.hypotheses, x.atoms, [attempt.explanation for attempt in attempts]):
        assert texts
        assert not unheard(texts, heard), "what is explained is what the model said"
    for mode in x.modes:
        assert all(-1 <= score <= 1 for score in (mode.score, mode.val_score, mode.subset_score))
        assert mode.history[0].iteration == 0
        assert mode.val_score == max(attempt.val_score for attempt in mode.history)
    assert "api_key" not in x.to_json()
    assert ns.NeuronExplanation.load(x.save(tmp_path / "n.json")) == x
    assert "<script" not in x.to_html()


def test_a_real_llm_tells_the_modes_as_a_whole(
    smollm2: LoadedSubject, store: ExemplarStore, lively: ns.Neuron, local_llm: ChatOpenAI, heard: list[str]
) -> None:
    x = ns.explain_neuron(smollm2, layer=LAYER, neuron=lively.index, store=store, llm=local_llm, config=SMALL)
    assert x.status == "explained", x.failures
    assert x.modes
    assert not unheard([mode.explanation for mode in x.modes], heard)
    assert all(mode.val_score == mode.best.val_score for mode in x.modes)


def test_without_an_llm_the_explanation_predicts_held_out_activations(
    smollm2: LoadedSubject, store: ExemplarStore, lively: ns.Neuron
) -> None:
    config = SMALL.model_copy(update={"max_iterations": 3, "n_candidates": 8})
    x = ns.explain_neuron(smollm2, layer=LAYER, neuron=lively.index, store=store, llm="offline", config=config)

    assert x.status == "explained"
    assert x.joint_score > 0.2
    assert not math.isnan(x.score)
    assert x.usage.requests == {}
    assert all(mode.excerpts for mode in x.modes if mode.subset_score > 0)


async def test_a_notebook_may_ask_twice_inside_its_running_loop(
    smollm2: LoadedSubject, store: ExemplarStore, lively: ns.Neuron
) -> None:
    twice = [
        ns.explain_neuron(smollm2, layer=LAYER, neuron=lively.index, store=store, llm="offline", config=SMALL)
        for _ in range(2)
    ]

    assert twice[0].modes == twice[1].modes, "the same seed, data and model give the same result"


def test_a_neuron_that_does_not_exist_is_answered_in_words(smollm2: LoadedSubject, store: ExemplarStore) -> None:
    with pytest.raises(ns.SubjectError, match="layers 0 to 29; there is no layer 30"):
        ns.explain_neuron(smollm2, layer=30, neuron=0, store=store, llm="offline")
    with pytest.raises(ns.SubjectError, match="neurons 0 to 1535; there is no neuron 1536"):
        ns.explain_neuron(smollm2, layer=LAYER, neuron=1536, store=store, llm="offline")
