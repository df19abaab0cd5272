"""The graph: who works when, what each may see, and what becomes of failures."""

import json
import re
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph

from neuronscope.config import ExplainConfig
from neuronscope.errors import LLMError
from neuronscope.graphs import (
    ExemplarIds,
    NeuronState,
    build_neuron_graph,
    build_refinement_graph,
    capture_activations,
    observe,
)
from neuronscope.graphs.drawing import draw, redraw
from neuronscope.graphs.objective import sequences_of
from neuronscope.graphs.reconcile import is_open
from neuronscope.metrics import pearson
from neuronscope.results import Attempt, Cluster, Mode, ProbeText
from planted import (
    AGENTS,
    ANIMAL_MODE,
    ANIMALS,
    BETTER_ANIMALS,
    BETTER_COLOURS,
    BOTH,
    COLOUR_MODE,
    COLOURS,
    DEAD,
    NEGATIVE,
    WordSimulator,
    clustering,
    hypothesis,
    instruments,
    proposed,
    refinement,
)


async def explain(neuron=BOTH, context=None, **agents):
    graph = build_neuron_graph(**(AGENTS | agents))
    state = await graph.ainvoke({"neuron": neuron}, context=context or instruments())
    return state["explanation"]


async def refine(context, agent=refinement, mode=None, neuron=BOTH):
    exemplars = (await observe({"neuron": neuron}, Runtime(context)))["exemplars"]
    graph = build_refinement_graph(refinement=agent)
    state = {"neuron": neuron, "exemplars": exemplars, "modes": [mode or Mode(COLOUR_MODE)]}
    return await graph.ainvoke(state, context=context)


class Runtime:
    def __init__(self, context):
        self.context = context


class Proposes:
    """Proposes given candidates, round after round, and counts the rounds."""

    def __init__(self, *rounds):
        self.rounds = list(rounds)
        self.calls = 0
        self.seen = []

    async def __call__(self, state, runtime):
        self.calls += 1
        self.seen.append(state)
        return proposed(state, self.rounds[min(self.calls, len(self.rounds)) - 1])


def fails(error):
    async def agent(state, runtime):
        raise error

    return agent


# The whole way


async def test_a_neuron_with_two_meanings_gets_two_refined_modes():
    x = await explain()
    assert x.status == "explained"
    assert {mode.explanation for mode in x.modes} == {BETTER_COLOURS, BETTER_ANIMALS}
    assert x.score > x.unrefined_score
    assert x.joint_score > max(mode.score for mode in x.modes)
    assert (x.hypotheses, x.atoms) == (["It activates on colours and on animals."], [COLOUR_MODE, ANIMAL_MODE])


async def test_modes_come_best_first_and_the_score_is_their_mean():
    x = await explain()
    assert x.modes == sorted(x.modes, key=attrgetter("score"), reverse=True)
    assert x.score == pytest.approx(np.mean([mode.score for mode in x.modes]))
    assert x.unrefined_score == pytest.approx(np.mean([mode.unrefined_score for mode in x.modes]))


async def test_scores_are_what_the_metric_gives_on_the_whole_test_set():
    context = instruments()
    x = await explain(context=context)
    ids = (await observe({"neuron": BOTH}, Runtime(context)))["exemplars"]
    numbers, scorer = [*ids.test, *ids.test_random], context.scorer
    for mode in x.modes:
        unrefined = mode.history[0].explanation
        expected = await scorer.score(BOTH, [mode.explanation, unrefined], numbers)
        assert (mode.score, mode.unrefined_score) == pytest.approx([score.value for score in expected])
    predictions = await scorer.predict(BOTH, [mode.explanation for mode in x.modes], numbers)
    strengths = np.array([[mode.strength] for mode in x.modes])
    joint = np.concatenate([(strengths * prediction).max(axis=0) for prediction in predictions])
    assert x.joint_score == pytest.approx(pearson(joint, await scorer.ground_truth(BOTH, numbers)).value, abs=0.001)


async def test_the_subset_score_counts_only_the_modes_own_exemplars_and_the_random_ones():
    x = await explain()
    assert all(mode.subset_score == pytest.approx(1) for mode in x.modes)  # the better sentences are exact there
    assert all(mode.score < 0.95 for mode in x.modes)


async def test_excerpts_are_the_modes_own_test_exemplars_on_the_scale_of_ten():
    x = await explain()
    animals = next(mode for mode in x.modes if mode.explanation == BETTER_ANIMALS)
    assert 0 < len(animals.excerpts) <= 5
    for excerpt in animals.excerpts:
        assert {"cat", "dog", "horse"} & {token.strip() for token in excerpt.tokens}
        assert max(excerpt.activations) == pytest.approx(10 * 4 / 6, abs=0.01)
        assert excerpt.predicted == [10.0 if value else 0.0 for value in excerpt.activations]


async def test_the_negative_sign_is_a_neuron_of_its_own():
    house = 'This neuron activates on "house".'

    async def one_cluster(state, runtime):
        return {"clusters": [Cluster([house], house)]}

    x = await explain(NEGATIVE, clustering=one_cluster, refinement=Proposes([house]))
    assert x.modes[0].score == pytest.approx(1)


async def test_a_result_says_what_it_cost_and_what_made_it():
    x = await explain()
    assert x.usage.simulated_tokens > 0
    assert x.usage.seconds > 0
    assert x.provenance["subject"]["name"] == "planted"
    assert x.provenance["config"]["max_iterations"] == 5
    assert x.provenance["llm"] == "offline"
    assert x.provenance["simulator"] == "WordSimulator"


async def test_a_saved_result_loads_as_it_was(tmp_path):
    x = await explain()
    assert type(x).load(x.save(tmp_path / "x.json")) == x


# Ways to end early


async def test_a_dead_neuron_goes_from_observe_to_conclude():
    x = await explain(DEAD, hypothesis=fails(AssertionError("nobody may draft")))
    assert (x.status, x.number, x.modes) == ("dead", 0, [])
    assert (x.score, x.joint_score, x.unrefined_score, x.failures) == (None, None, None, [])


async def test_no_modes_is_a_result_too():
    async def nothing(state, runtime):
        return {"clusters": []}

    x = await explain(clustering=nothing)
    assert (x.status, x.number, x.score) == ("partial", 0, None)
    assert [failure.agent for failure in x.failures] == ["clustering"]
    assert x.atoms == [COLOUR_MODE, ANIMAL_MODE]


async def test_noise_makes_no_mode_and_the_first_clusters_come_first():
    async def many(state, runtime):
        noise = Cluster(["a", "b", "c", "d"], "a", noise=True)
        return {"clusters": [noise, Cluster([COLOUR_MODE], COLOUR_MODE), Cluster([ANIMAL_MODE, "and"], ANIMAL_MODE)]}

    x = await explain(clustering=many, context=instruments(config=ExplainConfig(max_modes=1)))
    assert [mode.history[0].explanation for mode in x.modes] == [COLOUR_MODE]


@pytest.mark.parametrize(
    ("config", "number"),
    [
        (ExplainConfig(objective="neuron"), 8),
        (ExplainConfig(objective="neuron", max_modes=None), 11),
        (ExplainConfig.paper(), 11),
    ],
)
async def test_as_many_clusters_become_modes_as_the_settings_allow_and_in_the_paper_all(config, number):
    sentences = [f'This neuron activates on "word{number}".' for number in range(11)]

    async def many(state, runtime):
        return {"clusters": [Cluster([sentence], sentence) for sentence in sentences]}

    async def proposes_nothing(state, runtime):
        return proposed(state, [])

    x = await explain(clustering=many, refinement=proposes_nothing, context=instruments(config=config))
    assert x.number == number
    assert len(x.clusters) == 11


@pytest.mark.parametrize("agent", ["hypothesis", "decomposition", "clustering"])
async def test_an_agent_without_an_answer_ends_the_graph_but_not_the_run(agent):
    x = await explain(**{agent: fails(LLMError("The model cannot be reached."))})
    assert x.status == "partial"
    assert [(failure.agent, failure.message) for failure in x.failures] == [(agent, "The model cannot be reached.")]
    assert bool(x.hypotheses) == (agent != "hypothesis")


async def test_one_mode_that_fails_loses_neither_itself_nor_the_others():
    async def no_animals(state, runtime):
        if "cat" in state["mode"].explanation:
            raise LLMError("No answer.")
        return await refinement(state, runtime)

    x = await explain(refinement=no_animals)
    assert x.status == "partial"
    assert [failure.agent for failure in x.failures] == ["refinement"]
    assert ANIMAL_MODE in x.failures[0].message
    assert {mode.explanation for mode in x.modes} == {BETTER_COLOURS, ANIMAL_MODE}
    assert all(mode.score > 0 for mode in x.modes)


async def test_a_simulator_that_fails_on_one_mode_spares_the_others():
    context = instruments(config=ExplainConfig(objective="neuron"))
    context.simulator.fail_on = "cat"
    x = await explain(context=context)
    assert [mode.explanation for mode in x.modes] == [BETTER_COLOURS, ANIMAL_MODE]
    assert x.modes[1].score is None
    assert x.score == x.modes[0].score > 0
    assert [failure.agent for failure in x.failures] == ["refinement", "conclude"]


@pytest.mark.parametrize("agent", ["hypothesis", "clustering", "refinement"])
async def test_a_bug_is_no_failure_of_a_mode_and_surfaces(agent):
    with pytest.raises(TypeError, match="a bug"):
        await explain(**{agent: fails(TypeError("a bug"))})


async def test_without_a_train_exemplar_there_is_nothing_to_draft_from():
    context = instruments()
    context.store.documents = ["the house", "the red house", "the red road"] * 5
    x = await explain(context=context)
    assert (x.status, x.failures[0].agent) == ("partial", "observe")


# Who may see what


async def test_agents_never_get_at_test_text():
    context = instruments()
    simulate, phase, simulated, allowed = context.simulator.simulate, [], [], {}

    def spy(explanations, exemplars):
        simulated.extend((phase[-1], exemplar.sequence_id) for exemplar in exemplars)
        return simulate(explanations, exemplars)

    context.simulator.simulate = spy

    async def watched_hypothesis(state, runtime):
        phase.append("hypothesis")
        allowed["test"] = {*state["exemplars"].test, *state["exemplars"].test_random}
        return await hypothesis(state, runtime)

    async def watched_clustering(state, runtime):
        phase.append("refine")
        return await clustering(state, runtime)

    async def watched_refinement(state, runtime):
        assert not state["exemplars"].test
        assert not state["exemplars"].test_random
        context.store.by_id(BOTH, state["exemplars"].train)
        return await refinement(state, runtime)

    await explain(
        context=context, hypothesis=watched_hypothesis, clustering=watched_clustering, refinement=watched_refinement
    )
    first, *later = context.store.asked
    assert allowed["test"] <= set(first)  # observe draws everything at once
    assert not any(allowed["test"] & set(numbers) for numbers in later)
    splits = {number % 3 for when, number in simulated if number not in allowed["test"]}
    assert splits == {0, 1}  # candidates are simulated on validation text, strengths fitted on train text
    last_before_conclude = [number for _, number in simulated if number in allowed["test"]]
    assert [number for _, number in simulated][-len(last_before_conclude) :] == last_before_conclude


async def test_observe_draws_every_split_apart_and_asks_for_activations_once():
    context = instruments()
    ids = (await observe({"neuron": BOTH}, Runtime(context)))["exemplars"]
    assert {number % 3 for number in ids.train} == {0}
    assert {number % 3 for number in [*ids.validation, *ids.validation_random]} == {1}
    assert {number % 3 for number in [*ids.test, *ids.test_random]} == {2}
    assert not set(ids.test) & set(ids.test_random)
    assert ids.maximum == 6.0
    assert len(context.store.asked) == 1


async def test_the_seed_decides_which_random_sequences_are_drawn():
    draws = [
        (await observe({"neuron": BOTH}, Runtime(instruments(config=ExplainConfig(seed=seed, heldout_random=5)))))[
            "exemplars"
        ]
        for seed in (0, 0, 1)
    ]
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]
    assert draws[0].test == draws[2].test


# The loop


async def test_the_representative_is_scored_first_and_without_an_agent():
    agent = Proposes([BETTER_COLOURS])
    output = await refine(instruments(config=ExplainConfig(max_iterations=0)), agent)
    (mode,) = output["modes"]
    assert agent.calls == 0
    assert [(attempt.iteration, attempt.explanation) for attempt in mode.history] == [(0, COLOUR_MODE)]
    assert mode.val_score == mode.history[0].val_score > 0


async def test_only_the_modes_and_what_is_left_to_say_leave_the_loop():
    assert set(await refine(instruments())) <= {"modes", "failures", "unexplained"}


async def test_the_best_candidate_of_an_iteration_joins_the_history_with_its_errors():
    output = await refine(instruments(), Proposes(['"road"', '"red"', BETTER_COLOURS, '"blue"']))
    (mode,) = output["modes"]
    assert mode.explanation == mode.history[1].explanation == BETTER_COLOURS
    assert mode.val_score == mode.history[1].val_score > mode.history[0].val_score
    assert mode.history[0].errors[0].token == " blue"
    assert (mode.history[0].errors[0].predicted, mode.history[0].errors[0].actual) == (0.0, 10.0)


async def test_a_worse_candidate_joins_the_history_but_replaces_nothing():
    output = await refine(instruments(), Proposes(['This neuron activates on "road".']))
    (mode,) = output["modes"]
    assert mode.history[1].val_score < mode.history[0].val_score
    assert (mode.explanation, mode.val_score) == (COLOUR_MODE, mode.history[0].val_score)


async def test_an_equal_candidate_replaces_nothing():
    again = 'This neuron activates on "green" or "red".'
    (mode,) = (await refine(instruments(), Proposes([again])))["modes"]
    assert mode.history[1].val_score == mode.history[0].val_score
    assert mode.explanation == COLOUR_MODE


async def test_what_is_better_by_rounding_alone_replaces_nothing():
    again = 'This neuron activates on "green" or "red".'

    class Rounding(WordSimulator):
        def simulate(self, explanations, exemplars):
            predicted = super().simulate(explanations, exemplars)
            blue = [[token.strip() == "blue" for token in exemplar.tokens] for exemplar in exemplars]
            better = [[1e-9 * (text == again)] for text in explanations]
            return [rows + np.array(better) * np.array(found) for rows, found in zip(predicted, blue, strict=True)]

    (mode,) = (await refine(instruments(simulator=Rounding()), Proposes([again])))["modes"]
    assert mode.history[1].val_score > mode.history[0].val_score
    assert mode.explanation == COLOUR_MODE


async def test_it_stops_at_five_iterations():
    agent = Proposes([COLOUR_MODE])
    output = await refine(instruments(config=ExplainConfig(patience=None)), agent)
    assert agent.calls == 5
    assert [attempt.iteration for attempt in output["modes"][0].history] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("patience", [1, 2, 3])
async def test_it_stops_when_the_score_has_not_improved_for_so_many_iterations(patience):
    agent = Proposes([BETTER_COLOURS], [COLOUR_MODE])
    await refine(instruments(config=ExplainConfig(patience=patience)), agent)
    assert agent.calls == min(5, 1 + patience)


def gaining(gains):
    history = [Attempt(number, "", 0.5, gain=gain if number else None) for number, gain in enumerate(gains)]
    return Mode("", history=history, val_score=0.5)


def test_small_gains_count_once_they_add_up():
    config = ExplainConfig(min_improvement=0.1, patience=2)
    assert all(is_open(gaining([0.06] * (done + 1)), done, config) for done in range(6))
    assert not is_open(gaining([0.01] * 3), 2, config)


def test_an_equal_score_is_no_improvement_even_if_any_improvement_counts():
    config = ExplainConfig(min_improvement=0, patience=1)
    assert not is_open(gaining([0.0, 0.0]), 1, config)


async def test_an_agent_with_nothing_to_propose_wastes_an_iteration_and_no_more():
    output = await refine(instruments(config=ExplainConfig(patience=2)), Proposes([], ["  "]))
    assert "failures" not in output or not output["failures"]
    assert len(output["modes"][0].history) == 1


async def test_an_agent_may_call_the_tools_itself():
    seen = []

    async def curious(state, runtime):
        if not seen:
            seen.append(None)
            call = {"name": "capture_activations", "args": {"texts": ["the red house"]}, "id": "1"}
            return {"messages": [AIMessage(content="", tool_calls=[call])]}
        seen.append(state["mode"].probes)
        return proposed(state, [BETTER_COLOURS])

    output = await refine(instruments(config=ExplainConfig(patience=2)), curious)
    (probe,) = seen[1]
    assert [(tried.text, tried.token, tried.activation) for tried in probe.texts] == [("the red house", " red", 10.0)]
    assert output["modes"][0].explanation == BETTER_COLOURS


async def test_captured_activations_have_the_neurons_sign():
    context = instruments()
    state = {"neuron": NEGATIVE, "exemplars": ExemplarIds(maximum=4)}
    runtime = type("ToolRuntime", (), {"context": context, "state": state})()
    answer, (measured,) = await capture_activations.coroutine(texts=["red house"], runtime=runtime)
    assert json.loads(answer) == [{"tokens": ["red", " house"], "activations": [0.0, 2.0]}]
    assert measured == ProbeText("red house", True, True, " house", 5.0)


# What a mode is refined on


OWN = ExplainConfig(objective="mode")


async def sequences(mode, others, config=OWN):
    context = instruments(config=config)
    ids = (await observe({"neuron": BOTH}, Runtime(context)))["exemplars"]
    state = {"neuron": BOTH, "exemplars": ids, "modes": [mode, *map(Mode, others)]}
    return await sequences_of(mode, state, context), ids, context


async def test_a_mode_may_be_refined_on_its_own_exemplars_and_the_random_ones():
    numbers, ids, context = await sequences(Mode(ANIMAL_MODE), [COLOUR_MODE])
    own = [number for number in numbers if number not in ids.validation_random]
    texts = [exemplar.text.split() for exemplar in context.store.by_id(BOTH, own)]
    assert texts
    assert not any({"red", "green"} & set(words) for words in texts)
    assert numbers[len(own) :] == ids.validation_random


async def test_the_assignment_stays_as_it_was_when_refinement_began():
    before, _, _ = await sequences(Mode(COLOUR_MODE), [ANIMAL_MODE])
    later = Mode(BETTER_ANIMALS, history=[Attempt(0, COLOUR_MODE, 0.1)])
    assert (await sequences(later, [ANIMAL_MODE]))[0] == before


@pytest.mark.parametrize("config", [ExplainConfig(), ExplainConfig.paper()])
async def test_other_objectives_are_the_whole_validation_set(config):
    numbers, ids, _ = await sequences(Mode(COLOUR_MODE), [ANIMAL_MODE], config)
    assert numbers == [*ids.validation, *ids.validation_random]


async def test_a_mode_that_fits_nothing_best_is_refined_on_everything():
    numbers, ids, _ = await sequences(Mode('"nowhere"'), [BETTER_COLOURS, BETTER_ANIMALS])
    assert numbers == [*ids.validation, *ids.validation_random]


# Where the modes meet


async def together(modes, proposals, config=None, **changes):
    """One round over several modes, each with candidates given by its representative."""
    context = instruments(config=config or ExplainConfig(max_iterations=1, halving=False), **changes)
    exemplars = (await observe({"neuron": BOTH}, Runtime(context)))["exemplars"]

    async def agent(state, runtime):
        return proposed(state, proposals.get(state["mode"].representative, []))

    graph = build_refinement_graph(refinement=agent)
    state = {"neuron": BOTH, "exemplars": exemplars, "modes": [Mode(text) for text in modes]}
    return (await graph.ainvoke(state, context=context))["modes"]


def on(*words):
    return f"This neuron activates on {', '.join(chr(34) + word + chr(34) for word in words)}."


async def test_a_candidate_counts_by_what_it_adds_to_all_modes_together():
    """The broad sentence has the better score of its own; the narrow one says what no other mode does."""
    broad, narrow = on("red", "green", "cat", "dog"), on("red", "green", "blue")
    candidates = {COLOUR_MODE: [broad, narrow]}
    joint = await together([COLOUR_MODE, BETTER_ANIMALS], candidates)
    assert {mode.explanation for mode in joint} == {narrow, BETTER_ANIMALS}
    alone = ExplainConfig(max_iterations=1, halving=False, objective="neuron")
    assert {mode.explanation for mode in await together([COLOUR_MODE, BETTER_ANIMALS], candidates, alone)} == {
        broad,
        BETTER_ANIMALS,
    }


async def test_an_attempt_has_its_own_score_and_that_of_all_modes_with_it():
    modes = await together([COLOUR_MODE, ANIMAL_MODE], {COLOUR_MODE: [BETTER_COLOURS], ANIMAL_MODE: [BETTER_ANIMALS]})
    for mode in modes:
        first, last = mode.history
        assert last.joint_score > first.joint_score > first.val_score
        assert (first.gain, last.gain > 0, mode.val_score) == (None, True, last.val_score)
    assert len({mode.history[0].joint_score for mode in modes}) == 1


async def test_modes_that_have_become_one_are_merged():
    one, same = on("red", "green"), on("green", "red")
    (mode,) = await together([one, same], {}, ExplainConfig(max_iterations=0))
    assert mode.representative in (one, same)
    alone = await together([one, same], {}, ExplainConfig(max_iterations=0, objective="neuron"))
    assert len(alone) == 2


@pytest.mark.parametrize(("objective", "of_others"), [("joint", False), ("neuron", True)])
async def test_what_another_mode_predicts_is_no_error_of_a_mode(objective, of_others):
    config = ExplainConfig(max_iterations=0, objective=objective)
    colours, animals = await together([COLOUR_MODE, BETTER_ANIMALS], {}, config)
    missed = {error.token.strip() for error in colours.best.errors if error.actual > error.predicted}
    assert "blue" in missed
    assert bool(missed & set(ANIMALS)) is of_others
    missed = {error.token.strip() for error in animals.best.errors if error.actual > error.predicted}
    assert "blue" in missed
    assert ("red" in missed) is of_others


async def test_a_mode_without_which_the_others_predict_no_worse_is_dropped():
    modes = await together([BETTER_COLOURS, BETTER_ANIMALS, on("the")], {}, ExplainConfig(max_iterations=0))
    assert [mode.explanation for mode in modes] == [BETTER_COLOURS, BETTER_ANIMALS]
    papers = ExplainConfig.paper().model_copy(update={"max_iterations": 0})
    assert len(await together([BETTER_COLOURS, BETTER_ANIMALS, on("the")], {}, papers)) == 3


async def test_a_mode_that_adds_nothing_stays_where_a_language_model_wrote_it():
    """It may say what the simulator does not read; what harms the others' prediction goes."""
    texts, once = [BETTER_COLOURS, BETTER_ANIMALS, on("red"), on("the")], ExplainConfig(max_iterations=0)
    model = GenericFakeChatModel(messages=iter([]))
    assert [mode.explanation for mode in await together(texts, {}, once)] == texts[:2]
    assert texts[2] in [mode.explanation for mode in await together(texts, {}, once, llm=model)]
    assert texts[2] in [mode.explanation for mode in await together(texts, {}, once, llm={"judge": model})]


async def test_a_language_models_candidate_gains_more_than_chance_does():
    """On so few sequences a tenth may be chance."""
    candidates = {COLOUR_MODE: [BETTER_COLOURS]}
    model = GenericFakeChatModel(messages=iter([]))
    last = {}
    for llm in ("offline", model):
        modes = await together([COLOUR_MODE, ANIMAL_MODE], candidates, llm=llm)
        (last[llm == "offline"],) = (mode.history[-1] for mode in modes if len(mode.history) > 1)
    assert last[True].accepted
    assert last[True].needed == ExplainConfig().min_improvement
    assert last[False].gain == last[True].gain < last[False].needed
    assert not last[False].accepted


async def test_strengths_are_the_activations_that_explanations_stand_for():
    x = await explain()
    strengths = {mode.explanation: mode.strength for mode in x.modes}
    assert strengths == {BETTER_COLOURS: pytest.approx(10), BETTER_ANIMALS: pytest.approx(10 * 4 / 6, abs=0.01)}
    assert x.joint_score == pytest.approx(1)


async def test_scoring_requests_of_all_modes_meet_in_one_call():
    context = instruments(config=ExplainConfig(objective="neuron", max_iterations=0))
    await explain(context=context)
    validation, train, test = context.simulator.calls  # this source has no feedback text but train's
    assert validation[0] == train[0] == [COLOUR_MODE, ANIMAL_MODE]
    assert {COLOUR_MODE, ANIMAL_MODE} < set(test[0])
    assert len(test[0]) == 2 + context.config.null_explanations, "other neurons' explanations are in the same call"


# The way back


class DraftsColoursFirst:
    """Drafts colours of the top exemplars, and animals of what is left."""

    def __init__(self, second=ANIMAL_MODE, first=BETTER_COLOURS):
        self.seen, self.first, self.second = [], first, second

    async def __call__(self, state, runtime):
        self.seen.append(state.get("unexplained"))
        if isinstance(self.second, Exception) and len(self.seen) == 2:
            raise self.second
        return {"hypotheses": [*state.get("hypotheses", []), self.first if len(self.seen) == 1 else self.second]}


async def split(state, runtime):
    return {"atoms": state["hypotheses"]}


async def drafted(agent, config=None, **settings):
    context = instruments(config=config or ExplainConfig(max_iterations=0, **settings))
    return await explain(context=context, **AGENTS | {"hypothesis": agent, "decomposition": split}), context


@pytest.mark.usefixtures("any_rest_counts")
async def test_what_no_mode_explains_is_drafted_from_once_more():
    agent = DraftsColoursFirst()
    x, context = await drafted(agent)
    first, second = agent.seen
    assert not first
    texts = ["".join(one.tokens) for one in context.store.by_id(BOTH, second)]
    assert all(any(animal in text for animal in ANIMALS) for text in texts)
    assert not any(colour in text for colour in COLOURS for text in texts)
    assert [mode.explanation for mode in x.modes] == [BETTER_COLOURS, ANIMAL_MODE]
    assert (x.hypotheses, x.atoms) == ([BETTER_COLOURS, ANIMAL_MODE], [BETTER_COLOURS, ANIMAL_MODE])
    assert [cluster.representative for cluster in x.clusters] == [BETTER_COLOURS, ANIMAL_MODE]
    assert x.status == "explained"


@pytest.mark.usefixtures("any_rest_counts")
@pytest.mark.parametrize(
    ("second", "config", "passes"),
    [
        (on("road"), None, 2),  # nor does the second draft explain it
        (BETTER_COLOURS, None, 2),  # nor is it another
        (ANIMAL_MODE, ExplainConfig(max_iterations=0, second_hypothesis=False), 1),
        (ANIMAL_MODE, ExplainConfig.paper(), 1),
    ],
)
async def test_the_way_back_is_taken_at_most_once(second, config, passes):
    agent = DraftsColoursFirst(second)
    x, _ = await drafted(agent, config)
    assert len(agent.seen) == passes
    assert len(x.modes) == 1


@pytest.mark.parametrize(("llm", "passes"), [("offline", 1), (GenericFakeChatModel(messages=iter([])), 2)])
async def test_what_is_a_small_part_only_a_language_model_drafts_from(llm, passes, monkeypatch):
    monkeypatch.setattr("neuronscope.graphs.unexplained.LEAST_SHARE", 1.1)
    agent = DraftsColoursFirst()
    context = instruments(llm=llm, config=ExplainConfig(max_iterations=0))
    await explain(context=context, **AGENTS | {"hypothesis": agent, "decomposition": split})
    assert len(agent.seen) == passes


@pytest.mark.usefixtures("any_rest_counts")
async def test_a_second_draft_that_fails_loses_nothing_of_the_first():
    x, _ = await drafted(DraftsColoursFirst(LLMError("No more credit.")))
    assert [mode.explanation for mode in x.modes] == [BETTER_COLOURS]
    assert x.hypotheses == [BETTER_COLOURS]
    assert [str(failure) for failure in x.failures] == ["hypothesis: No more credit."]
    assert x.status == "partial"


async def test_a_neuron_that_is_explained_is_not_drafted_again():
    agent = DraftsColoursFirst(first=on("red", "green", "blue", "cat", "dog", "horse"))
    await drafted(agent)
    assert len(agent.seen) == 1


# Composition


async def test_nodes_compose_with_langgraph_itself():
    graph = StateGraph(NeuronState)
    graph.add_node("observe", observe)
    graph.add_node("hypothesis", hypothesis)
    graph.add_edge(START, "observe")
    graph.add_edge("observe", "hypothesis")
    graph.add_edge("hypothesis", END)
    state = await graph.compile().ainvoke({"neuron": BOTH}, context=instruments())
    assert state["hypotheses"]
    assert state["exemplars"].maximum == 6.0


async def test_a_loop_of_ones_own_takes_the_place_of_refinement():
    agent = Proposes([BETTER_COLOURS])
    await explain(refinement=build_refinement_graph(refinement=agent))
    assert agent.calls


async def test_a_run_with_a_checkpointer_goes_on_where_it_was_interrupted():
    saver, context = InMemorySaver(), instruments()
    thread = {"configurable": {"thread_id": "1"}}
    stopped = build_neuron_graph(**AGENTS, checkpointer=saver)
    await stopped.ainvoke({"neuron": BOTH}, thread, context=context, interrupt_before=["clustering"])

    graph = build_neuron_graph(**(AGENTS | {"hypothesis": fails(AssertionError("drafted again"))}), checkpointer=saver)
    state = await graph.ainvoke(None, thread, context=context)
    assert state["explanation"].number == 2


def edges(drawing):
    """The nodes that each arrow of a drawing joins, of a subgraph's without the subgraph's name."""
    arrows = re.findall(r"^\s*(\S+) +-[-.]+.*> +(\S+?);?$", drawing, re.MULTILINE)
    return [tuple(re.sub(r".*\\3a", "", end) for end in arrow) for arrow in arrows]


def test_a_drawing_shows_how_the_nodes_follow_one_another():
    inside = {("propose", "tools"), ("tools", "reconcile"), ("reconcile", "propose")}
    outside = {("observe", "hypothesis"), ("hypothesis", "decomposition"), ("decomposition", "clustering")}
    assert inside <= set(edges(draw("refinement")))
    assert inside | outside <= set(edges(draw("neuron")))
    assert "error" not in draw("neuron")


@pytest.mark.parametrize(("page", "diagrams"), [("graphs.md", 6), ("architecture.md", 1)])
def test_the_diagrams_in_the_documentation_are_of_the_graphs_as_they_are(page, diagrams):
    path = Path(__file__).parent.parent / "docs" / page
    text = path.read_text(encoding="utf-8")
    assert text.count("<!-- drawn from: ") == text.count("```mermaid\n---") == diagrams
    command = f"A graph has changed: python -m neuronscope.graphs.drawing docs/{page}"
    assert edges(redraw(text, path.parent)) == edges(text), command


def test_a_diagram_is_drawn_anew_in_its_place():
    page = "Before.\n\n<!-- drawn from: refinement -->\n```mermaid\ngraph TD;\n```\n\nAfter.\n"
    drawn = redraw(page)
    assert drawn == page.replace("graph TD;\n", draw("refinement"))
    assert redraw(drawn) == drawn


# What cannot be measured


def only_in(store, *splits):
    """The same store, whose other splits have no document."""
    of = store.of_split
    store.of_split = lambda split: of(split) if split in splits else []
    return store


async def test_without_test_text_there_is_no_score_and_the_failures_say_why():
    context = instruments()
    only_in(context.store, "train", "validation")
    x = await explain(context=context)
    assert (x.status, x.score, x.joint_score, x.unrefined_score) == ("partial", None, None, None)
    assert [(mode.score, mode.subset_score, mode.unrefined_score) for mode in x.modes] == [(None, None, None)] * 2
    assert all(mode.val_score > 0 and mode.explanation in (BETTER_COLOURS, BETTER_ANIMALS) for mode in x.modes)
    assert [failure.agent for failure in x.failures] == ["conclude"]
    assert "no test document" in x.failures[0].message


async def test_without_validation_text_nothing_is_refined_and_nobody_is_asked():
    context = instruments(config=ExplainConfig(patience=None))
    only_in(context.store, "train", "test")
    x = await explain(context=context, refinement=fails(AssertionError("nobody may propose")))
    assert (x.status, [mode.val_score for mode in x.modes]) == ("partial", [None, None])
    assert [[attempt.val_score for attempt in mode.history] for mode in x.modes] == [[None]] * 2
    assert x.score == x.unrefined_score > 0
    assert [(failure.agent, "no validation document" in failure.message) for failure in x.failures] == [
        ("refinement", True)
    ]


async def test_where_the_neuron_does_the_same_on_all_test_text_nothing_is_correlated_with_it():
    context = instruments()
    texts = context.store.documents
    for number in range(2, len(texts), 3):  # the test split
        texts[number] = "the long road and it " * 2
    x = await explain(context=context)
    assert (x.status, x.score, x.joint_score) == ("partial", None, None)
    assert not any(mode.constant for mode in x.modes)
    assert "does the same on all 8 test sequences" in x.failures[0].message


async def test_a_constant_prediction_was_measured_and_scores_0():
    async def empty(state, runtime):
        return {"atoms": ['This neuron activates on "zebra".']}

    x = await explain(decomposition=empty, refinement=None, context=instruments(config=ExplainConfig(max_iterations=0)))
    assert (x.status, x.score, x.failures) == ("explained", 0.0, [])
    assert x.modes[0].constant


async def test_a_simulator_that_always_fails_leaves_no_number():
    context = instruments()
    context.simulator.fail_on = "neuron"
    x = await explain(context=context)
    assert (x.status, x.score, x.joint_score, x.unrefined_score) == ("partial", None, None, None)
    assert {mode.score for mode in x.modes} == {mode.val_score for mode in x.modes} == {None}
    assert "out of memory" in x.failures[0].message
