"""The main job, on a real model: with a real LLM behind a real server, and with none."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

import neuronscope as ns

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
    smollm2: LoadedSubject, store: ExemplarStore, lively: ns.Neuron, local_llm: ChatOpenAI, tmp_path: Path
) -> None:
    x = ns.explain_neuron(smollm2, layer=LAYER, neuron=lively.index, store=store, llm=local_llm, config=SMALL)

    assert len(x.hypotheses) >= 1
    assert x.usage.requests["hypothesis"] in (SMALL.n_hypotheses, 2 * SMALL.n_hypotheses)  # once more for what is left
    assert x.usage.input_tokens["hypothesis"] > 100
    assert x.usage.output_tokens["hypothesis"] > 0
    assert x.usage.requests["decomposition"] >= 1 or x.status == "partial"
    assert all(-1 <= score <= 1 for mode in x.modes for score in (mode.score, mode.val_score, mode.subset_score))
    for mode in x.modes:
        assert mode.history[0].iteration == 0
        assert mode.val_score == max(attempt.val_score for attempt in mode.history)
    if x.modes:
        assert x.usage.requests["refinement"] >= 1
    assert "api_key" not in x.to_json()
    assert ns.NeuronExplanation.load(x.save(tmp_path / "n.json")) == x
    assert "<script" not in x.to_html()


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
