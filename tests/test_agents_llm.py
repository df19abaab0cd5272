"""The agents that ask a language model: what they read, ask and write."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from langgraph.graph import END, START, StateGraph

import neuronscope as ns
from agent_helpers import NEURON, WATER, ListStore, answering, exemplar, runtime, scripted, text_of
from fake_openai import Reply, fake_openai
from llm_server import unheard
from neuronscope.agents import DecompositionAgent, HypothesisAgent, RefinementAgent, paper_prompts
from neuronscope.agents.decomposition import standalone
from neuronscope.llm import UsageTracker
from neuronscope.results import Mode, PredictionError
from neuronscope.state import Instruments, NeuronState, ProposalState, RefinementState
from neuronscope.types import ExemplarIds

OBSERVED: NeuronState = {"neuron": NEURON, "exemplars": ExemplarIds(train=list(range(len(WATER))), maximum=9.8)}
HISTORY = [
    ns.Attempt(0, "This neuron activates when water is mentioned.", 0.4, (PredictionError("hot", " tea", 7, 0),)),
    ns.Attempt(1, 'This neuron activates on "water".', 0.5, (PredictionError("salt", " sea", 6, 0),)),
]


REFINING = ProposalState(mode=Mode(HISTORY[0].explanation, history=HISTORY), siblings=[], history=HISTORY)


def proposed_in(update: RefinementState) -> list[str]:
    (candidates,) = update["proposals"].values()
    return candidates


def candidates(n: int) -> list[str]:
    return [f'This neuron activates on "word{number}".' for number in range(n)]


# Hypothesis


async def test_each_draft_is_a_request_of_its_own_about_other_excerpts() -> None:
    llm = scripted("It likes water.", "It likes colours.", "It likes\nmilk.")
    update = await HypothesisAgent(llm)(OBSERVED, runtime())
    assert update == {"hypotheses": ["It likes water.", "It likes colours.", "It likes\nmilk."]}
    assert len(set(llm.prompts)) == 3
    assert "bottled<< water>>" in llm.prompts[0]


async def test_the_number_of_drafts_is_a_setting_and_equal_drafts_are_one() -> None:
    llm = answering(lambda messages: "It likes water.\nIt likes water.")
    update = await HypothesisAgent(llm)(OBSERVED, runtime(config=ns.ExplainConfig(n_hypotheses=5)))
    assert update == {"hypotheses": ["It likes water."]}
    assert len(llm.prompts) == 5


async def test_a_draft_that_fails_is_reported_and_the_others_are_kept() -> None:
    llm = scripted("It likes water.", "I'm sorry, I can't.", "It likes milk.")
    update = await HypothesisAgent(llm)(OBSERVED, runtime())
    assert update["hypotheses"] == ["It likes water.", "It likes milk."]
    (failure,) = update["failures"]
    assert failure.agent == "hypothesis"
    assert "refuses" in failure.message


async def test_when_every_draft_fails_so_does_the_agent() -> None:
    with pytest.raises(ns.LLMError, match="hypothesis"):
        await HypothesisAgent(scripted("", "", ""))(OBSERVED, runtime())


async def test_without_exemplars_there_are_no_drafts_and_no_requests() -> None:
    llm = scripted()
    state: NeuronState = {"neuron": NEURON, "exemplars": ExemplarIds()}
    assert await HypothesisAgent(llm)(state, runtime()) == {"hypotheses": []}
    assert llm.prompts == []


async def test_marks_in_a_draft_are_taken_out() -> None:
    update = await HypothesisAgent(answering(lambda messages: "It likes << water>>."))(OBSERVED, runtime())
    assert update["hypotheses"] == ['It likes "water".']


async def test_a_model_with_a_small_context_gets_short_prompts_from_then_on() -> None:
    lines = [f"The{{ word{n}:{9 - n / 10}}} number {n} of a text stood here" for n in range(60)]
    store = ListStore([exemplar(line, n) for n, line in enumerate(lines)])
    state: NeuronState = {"neuron": NEURON, "exemplars": ExemplarIds(train=list(range(20)), maximum=9.0)}
    message = "the request exceeds the available context size, try increasing it"
    refused = Reply(status=400, body=json.dumps({"error": {"message": message, "code": 400}}))
    with fake_openai(lambda request, _: refused if len(json.dumps(request)) > 7_000 else Reply()) as server:
        context = runtime(store=store, config=ns.ExplainConfig(n_hypotheses=1))
        agent = HypothesisAgent(server.model())
        for _ in range(2):
            assert await agent(state, context) == {"hypotheses": ["It likes water."]}
    lengths = [len(json.dumps(request["messages"])) for request in server.requests]
    assert lengths[0] > 7_000
    assert lengths[-2] == lengths[-1] < 7_000


# Decomposition


async def test_drafts_become_standalone_sentences_without_repetitions_in_order() -> None:
    answers = {
        "water": ["This neuron activates when the word is water.", "it fires on ice."],
        "red": ["This neuron activates when the word is  Water", "Colour words."],
    }
    llm = answering(lambda messages: json.dumps(answers["water" if "water" in str(messages[1].content) else "red"]))
    update = await DecompositionAgent(llm)({"hypotheses": ["Likes water", "Likes red"]}, runtime())
    assert update == {
        "atoms": [
            "This neuron activates when the word is water.",
            "This neuron fires on ice.",
            "This neuron activates on colour words.",
        ]
    }


async def test_a_draft_that_cannot_be_split_is_reported_and_the_others_are_kept() -> None:
    llm = answering(lambda messages: "" if "red" in str(messages[1].content) else '["This neuron fires on ice."]')
    update = await DecompositionAgent(llm)({"hypotheses": ["Likes water", "Likes red"]}, runtime())
    assert update["atoms"] == ["This neuron fires on ice."]
    assert [failure.agent for failure in update["failures"]] == ["decomposition"]


async def test_no_drafts_make_no_atoms() -> None:
    assert await DecompositionAgent(scripted())({"hypotheses": []}, runtime()) == {"atoms": []}


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("This neuron fires when it rains.", "This neuron fires when it rains."),
        ("The neuron activates on rain.", "This neuron activates on rain."),
        ("It strongly activates on rain.", "This neuron strongly activates on rain."),
        ("Activates on rain.", "This neuron activates on rain."),
        ("When it rains.", "This neuron activates when it rains."),
        ("The word is rain.", "This neuron activates when the word is rain."),
        ('"rain" or "snow".', 'This neuron activates on "rain" or "snow".'),
        ("NASA missions", "This neuron activates on NASA missions"),
    ],
)
def test_every_condition_gets_its_subject(sentence: str, expected: str) -> None:
    assert standalone(sentence) == expected


# Refinement


async def test_all_candidates_come_from_one_request() -> None:
    llm = scripted(json.dumps(candidates(8)))
    update = await RefinementAgent(llm)(REFINING, runtime())
    assert proposed_in(update) == candidates(8)


async def test_candidates_are_never_more_than_asked_for() -> None:
    update = await RefinementAgent(scripted(json.dumps(candidates(12))))(REFINING, runtime())
    assert proposed_in(update) == candidates(8)


async def test_missing_candidates_are_asked_for_one_by_one() -> None:
    known = HISTORY[1].explanation
    more = ["This neuron activates on ice.", "I'm sorry, I can't.", candidates(1)[0]]
    llm = scripted(json.dumps([*candidates(5), candidates(1)[0].upper(), known]), *more)
    update = await RefinementAgent(llm)(REFINING, runtime())
    assert proposed_in(update) == [*candidates(5), "This neuron activates on ice."]
    assert len(llm.prompts) == 4


async def test_a_model_that_only_repeats_the_history_has_no_candidates() -> None:
    update = await RefinementAgent(answering(lambda messages: HISTORY[0].explanation))(REFINING, runtime())
    assert proposed_in(update) == []


async def test_a_model_that_says_nothing_usable_is_an_error() -> None:
    with pytest.raises(ns.LLMError, match="refinement"):
        await RefinementAgent(answering(lambda messages: "I'm sorry, I can't."))(REFINING, runtime())


@pytest.mark.parametrize(("feedback", "expected"), [("errors", True), ("history", False)])
async def test_the_mistakes_of_the_best_attempt_are_shown_where_the_setting_says_so(
    feedback: Any, expected: bool
) -> None:
    llm = scripted(json.dumps(candidates(8)))
    await RefinementAgent(llm)(REFINING, runtime(config=ns.ExplainConfig(feedback=feedback)))
    assert ("salt" in llm.prompts[0]) is expected
    assert "tea" not in llm.prompts[0]


# In the paper's form

PAPER = ns.ExplainConfig.paper()


async def test_in_the_paper_every_candidate_is_an_answer_of_its_own_to_the_same_prompt() -> None:
    llm = scripted(*candidates(8))
    update = await RefinementAgent(llm)(REFINING, runtime(config=PAPER))
    assert proposed_in(update) == candidates(8)
    assert len(llm.prompts) == 8
    assert len(set(llm.prompts)) == 1


async def test_in_the_paper_a_backend_that_knows_n_gets_one_request_without_a_schema() -> None:
    with fake_openai(Reply('This neuron activates on "word#".')) as server:
        update = await RefinementAgent(server.model())(REFINING, runtime(config=PAPER))
        (request,) = server.requests
    assert request["n"] == PAPER.n_candidates == len(proposed_in(update))
    assert "response_format" not in request


async def test_in_the_paper_one_answer_that_fails_does_not_lose_the_others() -> None:
    refuses = "I'm sorry, I can't."
    llm = scripted(*candidates(4), refuses, *candidates(7)[4:])
    update = await RefinementAgent(llm)(REFINING, runtime(config=PAPER))
    assert proposed_in(update) == candidates(7)


async def test_in_the_paper_each_agent_has_the_prompts_of_appendix_f() -> None:
    drafts, atoms, refinements = (answering(lambda _: "This neuron activates when it rains.") for _ in range(3))
    await HypothesisAgent(drafts)(OBSERVED, runtime(config=PAPER))
    await DecompositionAgent(atoms)({"hypotheses": ["It likes rain."]}, runtime(config=PAPER))
    await RefinementAgent(refinements)(REFINING, runtime(config=PAPER))
    rules = paper_prompts.hypothesis_prompt(WATER).messages[0].content
    assert all(prompt.startswith(rules) for prompt in drafts.prompts)
    assert set(atoms.prompts) == {text_of(paper_prompts.decomposition_messages("It likes rain."))}
    assert set(refinements.prompts) == {text_of(paper_prompts.refinement_messages(HISTORY))}


# All of them


async def test_without_a_model_of_its_own_an_agent_takes_the_one_that_the_context_names_for_it() -> None:
    llms = {"hypothesis": answering(lambda messages: "It likes water."), "refinement": scripted()}
    update = await HypothesisAgent()(OBSERVED, runtime(llm=llms))
    assert update == {"hypotheses": ["It likes water."]}


async def test_offline_goes_to_the_roles_without_a_model() -> None:
    context = runtime(llm="offline", embeddings=DeterministicFakeEmbedding(size=8))
    update = await HypothesisAgent("offline")(OBSERVED, context)
    assert any("water" in hypothesis for hypothesis in update["hypotheses"])
    atoms = await DecompositionAgent()(update, context)
    assert all(atom.startswith("This neuron") for atom in atoms["atoms"])


async def test_requests_and_tokens_are_counted_per_agent() -> None:
    usage = UsageTracker()
    await HypothesisAgent(answering(lambda messages: "It likes water."))(OBSERVED, runtime(usage=usage))
    await RefinementAgent(scripted(json.dumps(candidates(8))))(REFINING, runtime(usage=usage))
    usage = usage.counts()
    assert usage["requests"] == usage["answers"] == {"hypothesis": 3, "refinement": 1}
    assert usage["input_tokens"] == {"hypothesis": 30, "refinement": 10}
    assert usage["output_tokens"] == {"hypothesis": 9, "refinement": 3}


async def test_an_agent_is_a_langgraph_node_as_it_is() -> None:
    builder = StateGraph(NeuronState, context_schema=Instruments)
    builder.add_node("hypothesis", HypothesisAgent(answering(lambda messages: "It likes water.")))
    builder.add_node("decomposition", DecompositionAgent(scripted('["This neuron fires on ice."]')))
    builder.add_edge(START, "hypothesis")
    builder.add_edge("hypothesis", "decomposition")
    builder.add_edge("decomposition", END)
    state = await builder.compile().ainvoke(OBSERVED, context=runtime().context)
    assert state["atoms"] == ["This neuron fires on ice."]


# Through a real model behind a real server: control flow, not quality


@pytest.mark.slow
async def test_every_agent_gets_an_answer_from_a_real_model(local_llm: Any, heard: list[str]) -> None:
    usage = UsageTracker()
    context = runtime(llm=local_llm, usage=usage, config=ns.ExplainConfig(n_hypotheses=1, n_candidates=2))
    drafted = await HypothesisAgent()(OBSERVED, context)
    assert drafted["hypotheses"] == [heard[0].strip()]
    split = await DecompositionAgent()({"hypotheses": ["This neuron activates on water and on colours."]}, context)
    assert split["atoms"]
    assert all(atom.startswith("This neuron") for atom in split["atoms"])
    refined = await RefinementAgent()(REFINING, context)
    assert 1 <= len(proposed_in(refined)) <= 2
    assert not unheard([*split["atoms"], *proposed_in(refined)], heard)
    counted = usage.counts()
    assert set(counted["requests"]) == {"hypothesis", "decomposition", "refinement"}
    assert sum(counted["requests"].values()) <= len(heard)
    assert all(n_tokens > 50 for n_tokens in counted["input_tokens"].values())
