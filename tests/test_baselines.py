"""Baselines and explainers of one's own, scored as the graph scores its modes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.embeddings import Embeddings

import neuronscope as ns
from agent_helpers import answering, scripted
from neuronscope.baselines import BestOfK, SinglePass, TokenLookup
from neuronscope.graphs import build_neuron_graph, score_explainer
from neuronscope.interfaces import Explained, Explainer
from planted import (
    AGENTS,
    ANIMALS,
    BETTER_ANIMALS,
    BETTER_COLOURS,
    BOTH,
    COLOUR_MODE,
    COLOURS,
    DEAD,
    MemorySource,
    PlantedSubject,
    WordSimulator,
    documents,
    instruments,
)

EVERYTHING = 'This neuron activates on "red", "green", "blue", "cat", "dog" or "horse".'
WRONG = 'This neuron activates on "road".'


class Own:
    """An explainer that returns what it is given, and remembers what it was told."""

    name = "own"

    def __init__(self, *sentences: str, predict: Callable[[Any], Any] | None = None, usage: Any = None) -> None:
        self.found = Explained(sentences=sentences, predict=predict, usage=usage)
        self.told: list[Any] = []

    async def explain(self, neuron: Any, exemplars: Any, instruments: Any) -> Explained:
        self.told.append(exemplars)
        return self.found


class Alike(Embeddings):
    """Colours are alike, and all other texts are."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[float(any(word in text for word in COLOURS)), 0.3] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


def lab(llm: Any = "offline") -> ns.Session:
    subject = PlantedSubject()
    return ns.Setup(
        subject=subject,
        store=MemorySource(subject, documents()),
        llm=llm,
        simulator=WordSimulator(),
        embeddings=Alike(),
        config=ns.ExplainConfig(cache_answers=False),
    ).open(layers=[0])


# The same scorer on the same exemplars


async def test_sentences_get_the_scores_that_the_graph_gives_them() -> None:
    state = await build_neuron_graph(**AGENTS).ainvoke({"neuron": BOTH}, context=instruments())
    x = state["explanation"]
    own = await score_explainer(Own(BETTER_ANIMALS, BETTER_COLOURS), BOTH, instruments())
    assert x.score is not None
    assert (own.score, own.joint_score) == (x.score, x.joint_score)
    assert own.explanation is not None
    for mine, mode in zip(own.explanation.modes, x.modes, strict=True):
        assert (mine.explanation, mine.score, mine.subset_score) == (mode.explanation, mode.score, mode.subset_score)
        assert mine.strength == mode.strength
        assert mine.val_score == pytest.approx(mode.val_score)
    assert own.val_score == pytest.approx(np.mean([mode.val_score for mode in x.modes]))
    assert own.explanation.provenance["explainer"] == "own"
    assert ns.NeuronExplanation.from_json(own.explanation.to_json()) == own.explanation


async def test_an_explainer_is_told_no_test_sequence_and_predicts_without_activations() -> None:
    def predict(exemplars: Sequence[ns.Exemplar]) -> list[Any]:
        assert not any(each.activations.any() for each in exemplars)
        return [[float(token.strip() in COLOURS + ANIMALS) for token in each.tokens] for each in exemplars]

    explainer = Own(predict=predict)
    assert isinstance(explainer, Explainer)
    scored = await score_explainer(explainer, BOTH, instruments())
    (told,) = explainer.told
    assert told.train
    assert told.validation
    assert told.test == told.test_random == []
    assert scored.explanation is None
    assert scored.score is not None
    assert 0.9 < scored.score == scored.joint_score < 1
    assert scored.val_score is not None


async def test_predictions_beside_sentences_are_the_joint_score() -> None:
    def predict(exemplars: Sequence[ns.Exemplar]) -> list[Any]:
        worth = dict.fromkeys(COLOURS, 6.0) | dict.fromkeys(ANIMALS, 4.0)
        return [np.array([worth.get(token.strip(), 0.0) for token in each.tokens]) for each in exemplars]

    both = await score_explainer(Own(COLOUR_MODE, predict=predict), BOTH, instruments())
    alone = await score_explainer(Own(COLOUR_MODE), BOTH, instruments())
    assert both.score == alone.score
    assert both.joint_score == pytest.approx(1)


async def test_costs_that_an_explainer_states_are_its_own() -> None:
    usage = ns.results.Usage(requests={"a service": 2})
    assert (await score_explainer(Own(WRONG, usage=usage), BOTH, instruments())).usage == usage


async def test_a_dead_neuron_is_explained_by_nobody() -> None:
    explainer = Own(WRONG)
    scored = await score_explainer(explainer, DEAD, instruments())
    assert explainer.told == []
    assert (scored.score, scored.joint_score, scored.val_score, scored.explanation) == (None, None, None, None)


@pytest.mark.parametrize(
    ("explainer", "message"),
    [
        (Own(), "'own' gave neither sentences nor predictions"),
        (Own("  "), "'own' gave neither sentences nor predictions"),
        (Own(predict=lambda exemplars: [[1.0]]), r"array of shape \(tokens,\)"),
    ],
)
async def test_what_cannot_be_scored_is_refused(explainer: Own, message: str) -> None:
    with pytest.raises(ns.ConfigurationError, match=message):
        await score_explainer(explainer, BOTH, instruments())


async def test_the_documents_own_method_works() -> None:
    page = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text(encoding="utf-8")
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "class LongestToken" in block)
    names: dict[str, Any] = {}
    exec(code, names)
    scored = await score_explainer(names["LongestToken"](), BOTH, instruments())
    assert scored.explanation is not None
    assert scored.explanation.modes[0].explanation == 'This neuron activates on "stood".'


# The look-up table


def test_a_lookup_table_predicts_and_says_nothing_and_may_have_the_size_of_an_explanation() -> None:
    whole = lab().score_explainer(TokenLookup(), 0, 0)
    assert whole.score is not None
    assert whole.score > 0.9
    assert (whole.explainer, whole.explanation, whole.usage.requests) == ("token_lookup", None, {})
    few = lab().score_explainer(TokenLookup(entries=3), BOTH)
    assert few.explainer == "token_lookup:3"
    assert few.score is not None
    assert 0.3 < few.score < whole.score


# With a language model


def test_a_single_pass_is_one_request_and_one_sentence() -> None:
    model = scripted(f"1. {EVERYTHING}\n2. {WRONG}")
    scored = lab(model).score_explainer(SinglePass(), "0/0")
    assert scored.explanation is not None
    assert [mode.explanation for mode in scored.explanation.modes] == [EVERYTHING]
    assert scored.score is not None
    assert scored.score > 0.9
    assert scored.usage.requests == {"single_pass": 1}
    (prompt,) = model.prompts
    shown = {int(number) for number in re.findall(r"(\d+)$", prompt, re.MULTILINE)}
    assert shown
    assert all(number % 3 == 0 for number in shown)  # in the planted source, train


async def test_the_best_of_k_drafts_is_the_one_that_validation_prefers() -> None:
    model = scripted(WRONG, EVERYTHING, COLOUR_MODE)
    scored = await score_explainer(BestOfK(3), BOTH, instruments(llm={"hypothesis": model}))
    assert scored.explanation is not None
    assert [mode.explanation for mode in scored.explanation.modes] == [EVERYTHING]
    assert (scored.explainer, scored.usage.requests) == ("best_of_k:3", {"best_of_k:3": 3})
    assert len(set(model.prompts)) == 3


async def test_a_draft_that_fails_is_one_less_and_without_any_it_is_an_error() -> None:
    scored = await score_explainer(BestOfK(2), BOTH, instruments(llm=scripted("", COLOUR_MODE)))
    assert scored.explanation is not None
    assert [mode.explanation for mode in scored.explanation.modes] == [COLOUR_MODE]
    with pytest.raises(ns.LLMError):
        await score_explainer(BestOfK(2), BOTH, instruments(llm=answering(lambda _: "")))


@pytest.mark.parametrize("k", [0, 1.5, "many"])
def test_k_is_a_number_from_1(k: Any) -> None:
    with pytest.raises(ns.ConfigurationError, match=r"^k (is|must be)"):
        BestOfK(k)


# Without one


@pytest.mark.parametrize("explainer", [SinglePass(), BestOfK(3)])
async def test_offline_the_hypothesis_is_one_sentence(explainer: Explainer) -> None:
    scored = await score_explainer(explainer, BOTH, instruments(embeddings=Alike()))
    assert scored.explanation is not None
    (mode,) = scored.explanation.modes
    assert mode.explanation.count("This neuron activates") == 1
    assert {*COLOURS, *ANIMALS} <= set(re.findall(r'"(\w+)"', mode.explanation))
    assert scored.score is not None
    assert scored.score > 0.8
    assert scored.usage.requests == {}
