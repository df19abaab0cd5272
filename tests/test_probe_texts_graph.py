"""Probes within the refinement loop: when there is one, what it measures, and what becomes of failures."""

import json
from dataclasses import replace
from types import SimpleNamespace
from uuid import uuid4

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver

import neuronscope as ns
from fake_openai import Reply, fake_openai, refusal
from neuronscope.agents import RefinementAgent
from neuronscope.errors import LLMError, SubjectError
from neuronscope.graphs import build_neuron_graph, build_refinement_graph, observe
from neuronscope.llm import UsageTracker, forget_refusals
from neuronscope.results import Mode, Probe, ProbeText
from planted import (
    AGENTS,
    BETTER_ANIMALS,
    BETTER_COLOURS,
    BOTH,
    COLOUR_MODE,
    PlantedSubject,
    instruments,
    proposed,
)

TEXTS, HARD_NEGATIVES = ["the red house stood", "a quiet road"], ["the horse was quiet", "the house stood"]
ARGUMENTS = {"texts": TEXTS, "hard_negatives": HARD_NEGATIVES}
ON = ns.ExplainConfig(probe_texts=True)


@pytest.fixture(autouse=True)
def nothing_known():
    forget_refusals()


class Tries:
    """Proposes given candidates round after round, and writes texts; remembers the order, and what it saw."""

    def __init__(self, *rounds, texts=ARGUMENTS):
        self.rounds = rounds
        self.texts = texts
        self.done = []
        self.seen = []

    async def __call__(self, state, runtime):
        self.done.append("propose")
        self.seen.append(state)
        return proposed(state, self.rounds[min(self.done.count("propose"), len(self.rounds)) - 1])

    async def probe(self, state, runtime):
        self.done.append("probe")
        if isinstance(self.texts, Exception):
            raise self.texts
        return {"messages": [call(**self.texts)]}


def call(**arguments):
    return AIMessage("", tool_calls=[{"name": "capture_activations", "args": arguments, "id": uuid4().hex}])


async def refine(agent, config=ON, maximum=6.0, checkpointer=None, thread=None, **context):
    context = instruments(config=config, **context)
    drawn = (await observe({"neuron": BOTH}, SimpleNamespace(context=context)))["exemplars"]
    state = {"neuron": BOTH, "exemplars": replace(drawn, maximum=maximum), "modes": [Mode(COLOUR_MODE)]}
    graph = build_refinement_graph(refinement=agent, checkpointer=checkpointer)
    output = await graph.ainvoke(state, thread, context=context)
    return output["modes"][0], output.get("failures", [])


# When


async def test_by_default_nothing_is_tried_out():
    agent = Tries([BETTER_COLOURS])
    mode, _ = await refine(agent, ns.ExplainConfig(max_iterations=1))
    assert agent.done == ["propose"]
    assert (mode.probes, mode.generation_score) == ([], None)
    assert not ns.ExplainConfig.paper().probe_texts


async def test_a_probe_precedes_each_iteration_and_the_final_explanation_gets_its_own():
    agent = Tries(['This neuron activates on "road".'], [BETTER_COLOURS])
    mode, failures = await refine(agent, ON.model_copy(update={"patience": None, "max_iterations": 2}))
    assert agent.done == ["probe", "propose"] * 2 + ["probe"]
    assert [attempt.iteration for attempt in mode.history] == [0, 1, 2], "a probe is no iteration"
    assert [(each.iteration, each.explanation) for each in mode.probes] == [
        (1, COLOUR_MODE),
        (2, COLOUR_MODE),
        (3, BETTER_COLOURS),
    ]
    assert not failures


async def test_a_final_explanation_that_has_been_tried_out_is_not_tried_again():
    agent = Tries(['This neuron activates on "road".'])
    mode, _ = await refine(agent, ON.model_copy(update={"max_iterations": 1}))
    assert agent.done == ["probe", "propose"]
    assert mode.generation_score == 0.5


async def test_without_iterations_the_representative_is_tried_out():
    agent = Tries()
    mode, _ = await refine(agent, ON.model_copy(update={"max_iterations": 0}))
    assert agent.done == ["probe"]
    assert (mode.explanation, mode.generation_score) == (COLOUR_MODE, 0.5)


async def test_an_agent_that_only_ever_calls_tools_comes_to_an_end():
    class Curious(Tries):
        async def __call__(self, state, runtime):
            self.done.append("propose")
            return {"messages": [call(**ARGUMENTS)]}

    agent = Curious()
    mode, _ = await refine(agent, ON.model_copy(update={"patience": None}))
    assert agent.done.count("propose") == ON.max_iterations
    assert mode.explanation == COLOUR_MODE


async def test_an_agent_that_cannot_write_texts_refines_as_without():
    async def plain(state, runtime):
        return proposed(state, [BETTER_COLOURS])

    mode, failures = await refine(plain)
    assert mode.explanation == BETTER_COLOURS
    assert (mode.probes, failures) == ([], [])


# What is measured


async def test_each_text_has_its_peak_and_what_was_expected():
    mode, _ = await refine(Tries(), ON.model_copy(update={"max_iterations": 0}))
    assert mode.probes == [
        Probe(
            1,
            COLOUR_MODE,
            [
                ProbeText("the red house stood", True, True, " red", 10.0),
                ProbeText("a quiet road", True, False, "", 0.0),
                ProbeText("the horse was quiet", False, True, " horse", 6.67),
                ProbeText("the house stood", False, False, "", 0.0),
            ],
        )
    ]


@pytest.mark.parametrize(("maximum", "fires"), [(24.0, False), (23.9, True)])
async def test_a_text_fires_above_a_quarter_of_the_largest_activation(maximum, fires):
    agent = Tries(texts={"texts": ["the red house"]})
    mode, _ = await refine(agent, ON.model_copy(update={"max_iterations": 0}), maximum)
    assert mode.generation_score == (1.0 if fires else 0.0)
    assert mode.probes[0].texts[0].activation == pytest.approx(2.5, abs=0.02)


async def test_only_texts_written_from_the_final_explanation_count():
    class Learns(Tries):
        async def probe(self, state, runtime):
            self.texts = {
                "texts": ["a road", "red"] if len(state["history"]) == 1 else ["red", "green", "blue", "house"]
            }
            return await super().probe(state, runtime)

    mode, _ = await refine(Learns([BETTER_COLOURS]), ON.model_copy(update={"max_iterations": 1}))
    assert mode.explanation == BETTER_COLOURS
    assert mode.generation_score == 0.75


async def test_the_outcome_is_what_the_next_proposal_reasons_over():
    agent = Tries([BETTER_COLOURS])
    await refine(agent, ON.model_copy(update={"max_iterations": 1}))
    (state,) = agent.seen
    assert [len(each.texts) for each in state["mode"].probes] == [4]


async def test_texts_are_cut_at_256_tokens_and_special_tokens_are_plain_text():
    long = " ".join(["road"] * 300 + ["red"])
    mode, _ = await refine(Tries(texts={"texts": [long]}), ON.model_copy(update={"max_iterations": 0}))
    (tried,) = mode.probes[0].texts
    assert len(tried.text.split()) == 256
    assert not tried.activated


async def test_a_text_of_which_the_tokenizer_leaves_nothing_is_silent():
    subject = PlantedSubject()
    read = type(subject.tokenizer).__call__

    class Forgetful(type(subject.tokenizer)):
        def __call__(self, text, **options):
            return {"input_ids": []} if text == "\u200b" else read(self, text, **options)

    subject.tokenizer = Forgetful()
    store = replace(instruments().store, subject=subject)
    agent = Tries(texts={"texts": ["\u200b", "red"]})
    mode, failures = await refine(agent, ON.model_copy(update={"max_iterations": 0}), subject=subject, store=store)
    assert [(tried.text, tried.activated) for tried in mode.probes[0].texts] == [("", False), ("red", True)]
    assert not failures


# What goes wrong


async def test_an_agent_that_fails_to_write_costs_the_probe_and_is_named():
    agent = Tries([BETTER_COLOURS], texts=LLMError("no texts"))
    mode, failures = await refine(agent, ON.model_copy(update={"max_iterations": 1}))
    assert (mode.explanation, mode.probes, mode.generation_score) == (BETTER_COLOURS, [], None)
    assert agent.done == ["probe", "propose", "probe"]
    assert {failure.message for failure in failures} == {f'no texts (mode "{COLOUR_MODE}")'}


async def test_bad_arguments_are_an_probe_that_says_so_and_the_loop_goes_on():
    agent = Tries([BETTER_COLOURS], texts={"texts": [], "hard_negatives": "none"})
    mode, failures = await refine(agent, ON.model_copy(update={"max_iterations": 1}))
    assert agent.done == ["probe", "propose", "probe"]
    assert mode.explanation == BETTER_COLOURS
    assert all(each.error and not each.texts for each in mode.probes)
    assert (len(mode.probes), mode.generation_score, failures) == (2, None, [])


async def test_a_subject_that_fails_on_the_texts_costs_the_probe_and_is_named():
    class Fails(PlantedSubject):
        def activations(self, token_ids, layers):
            if any(len(ids) == 3 for ids in token_ids):
                raise SubjectError("Layer 0 has activations that are infinite.")
            return super().activations(token_ids, layers)

    subject = Fails()
    agent = Tries([BETTER_COLOURS])
    store = replace(instruments().store, subject=subject)
    mode, failures = await refine(agent, ON.model_copy(update={"max_iterations": 1}), subject=subject, store=store)
    assert mode.explanation == BETTER_COLOURS
    assert mode.probes[0].error == "Layer 0 has activations that are infinite."
    assert len(failures) == 2
    assert {failure.agent for failure in failures} == {"refinement"}


async def test_a_bug_of_an_agents_probe_surfaces():
    with pytest.raises(TypeError, match="a bug"):
        await refine(Tries(texts=TypeError("a bug")))


# With the Refinement Agent, through a real client and a real server


def answers(can_call):
    """A server that writes texts by a tool call, or as lists; and candidates."""

    def answer(request, number):
        if "tools" in request:
            arguments = json.dumps(ARGUMENTS)
            return Reply("", tool_calls=[("capture_activations", arguments)]) if can_call else refusal(400, "no tools")
        if "hard_negatives" in json.dumps(request.get("response_format", "")):
            return Reply(json.dumps(ARGUMENTS))
        return Reply(json.dumps({"explanations": [BETTER_COLOURS, BETTER_ANIMALS]}))

    return answer


@pytest.mark.usefixtures("every_gain_counts")
@pytest.mark.parametrize("can_call", [True, False], ids=["tools", "lists"])
async def test_both_ways_of_writing_texts_lead_to_the_same_result(can_call):
    config = ON.model_copy(update={"n_candidates": 2, "max_iterations": 1, "halving": False})
    with fake_openai(answers(can_call)) as server:
        context = instruments(config=config, llm=server.model(), usage=(usage := UsageTracker()))
        agents = AGENTS | {"refinement": RefinementAgent()}
        state = await build_neuron_graph(**agents).ainvoke({"neuron": BOTH}, context=context)
    x = state["explanation"]
    assert x.status == "explained"
    assert {mode.explanation: mode.generation_score for mode in x.modes} == {BETTER_COLOURS: 0.5, BETTER_ANIMALS: 0.5}
    assert [[each.iteration for each in mode.probes] for mode in x.modes] == [[1, 2], [1, 2]]
    candidates = [
        json.dumps(request["messages"])
        for request in server.requests
        if "tools" not in request and "hard_negatives" not in json.dumps(request.get("response_format", ""))
    ]
    assert len(candidates) == 2, "one a mode"
    assert all(TEXTS[0] in prompt for prompt in candidates), "with the outcome in view"
    refused = 0 if can_call else sum("tools" in request for request in server.requests)
    assert usage.counts()["requests"] == {"refinement": len(server.requests) - refused}


async def test_states_of_the_loop_can_be_kept_and_hold_no_objects_of_the_run():
    saver, thread = InMemorySaver(), {"configurable": {"thread_id": "1"}}
    with fake_openai(answers(can_call=True)) as server:
        config = ON.model_copy(update={"n_candidates": 2, "max_iterations": 1})
        llm = server.model(api_key="sk-sentinel-1234567890abcdef")
        mode, _ = await refine(RefinementAgent(), config, checkpointer=saver, thread=thread, llm=llm)
        last = [
            snapshot.values async for snapshot in build_refinement_graph(checkpointer=saver).aget_state_history(thread)
        ]
    assert last[0]["modes"][0].probes == mode.probes
    assert {type(message).__name__ for message in last[0]["messages"]} == {"AIMessage", "ToolMessage"}
    assert "sk-sentinel" not in repr(last)


def test_probes_of_a_run_without_a_model_are_refused_before_anything_is_loaded():
    with pytest.raises(ns.ConfigurationError, match="probe_texts=True needs a language model"):
        ns.explain_neuron("no such model", layer=0, neuron=0, llm="offline", config=ON)


# What is kept


async def test_a_result_with_probes_loads_as_it_was(tmp_path):
    mode, _ = await refine(Tries([BETTER_COLOURS]), ON.model_copy(update={"max_iterations": 1}))
    x = ns.NeuronExplanation(BOTH, "explained", modes=[mode])
    assert ns.NeuronExplanation.load(x.save(tmp_path / "x.json")) == x
