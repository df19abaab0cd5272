"""The roles without a language model, on planted neurons whose truth is known."""

import asyncio
import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import neuronscope as ns
from agent_helpers import runtime
from neuronscope.agents import ClusteringAgent
from neuronscope.graphs import build_neuron_graph
from neuronscope.llm.minilm import MiniLM
from neuronscope.offline.agents import LexicalDecomposition, LexicalHypothesis, LexicalRefinement
from neuronscope.offline.conditions import Condition
from neuronscope.offline.english import quotable, read, write
from neuronscope.results import Attempt, Mode, PredictionError
from neuronscope.simulators import HybridSimulator
from neuronscope.state import Instruments
from neuronscope.text import same_sentence
from neuronscope.types import ExemplarIds
from planted import BOTH, DEAD, MemorySource, PlantedSubject

MINILM = MiniLM()
MONTHS = ["january", "march", "april", "june", "august", "october"]
COLOURS = ["red", "green", "blue", "yellow", "purple", "orange"]
FILLER = "the house stood near a long road and it was quiet when they came back with some bread".split()


class TwoMeanings(PlantedSubject):
    """Neuron 0 fires at 6 on colours and at 5 on months; neuron 1 is dead."""

    def _row(self, token_id):
        word = self.tokenizer.words[token_id].strip()
        return [6.0 * (word in COLOURS) + 5.0 * (word in MONTHS), 0.0, 0.0]


class Recorder(MemorySource):
    """Remembers which splits were asked for."""

    def __init__(self, subject, documents):
        super().__init__(subject, documents)
        self.splits = []

    def exemplars(self, neuron, split="train", n=20):
        self.splits.append(split)
        return super().exemplars(neuron, split, n)

    def random_sequences(self, neuron, split="test", n=20, seed=0):
        self.splits.append(split)
        return super().random_sequences(neuron, split, n, seed)


def documents(n=180):
    """Sentences with a colour, with a month or with neither, each kind in every split."""
    rng = random.Random(1)
    kinds = [COLOURS, MONTHS, []]
    written = []
    for number in range(n):
        words = rng.choices(FILLER, k=10)
        if kind := kinds[number // 3 % 3]:
            words[rng.randrange(1, 10)] = rng.choice(kind)
        written.append(" ".join(words))
    return written


def instruments(**changes):
    subject = TwoMeanings()
    settings = {
        "subject": subject,
        "store": Recorder(subject, documents()),
        "simulator": HybridSimulator(),
        "embeddings": MINILM,
        "llm": "offline",
        "config": ns.ExplainConfig(),
    }
    return Instruments(**(settings | changes))


def running(**changes):
    return runtime(**{name: getattr(instruments(**changes), name) for name in Instruments.__dataclass_fields__})


def state(neuron=BOTH, maximum=6.0, **more):
    return {"neuron": neuron, "exemplars": ExemplarIds(maximum=maximum), **more}


def said(text):
    return {condition.text for condition in read(text).conditions}


def refining(*attempts, siblings=()):
    history = [Attempt(number, text, score, tuple(errors)) for number, (text, score, errors) in enumerate(attempts)]
    mode = Mode(explanation=history[0].explanation, history=history)
    return state(mode=mode, history=history, siblings=[Mode(text) for text in siblings])


COLOUR_MODE = 'This neuron activates on "red" and "green".'
MONTH_MODE = 'This neuron activates on "march" and "june".'


# Drafts


async def test_drafts_name_the_planted_words():
    drafts = (await LexicalHypothesis()(state(), running()))["hypotheses"]
    assert said(" ".join(drafts)) == {*COLOURS, *MONTHS}


async def test_a_draft_has_one_sentence_for_each_family_of_words():
    draft = (await LexicalHypothesis()(state(), running()))["hypotheses"][0]
    sentences = (await LexicalDecomposition()({"hypotheses": [draft]}, running()))["atoms"]
    assert len(sentences) == 2
    assert {bool(said(sentence) & set(MONTHS)) for sentence in sentences} == {True, False}
    assert all(said(sentence) <= set(MONTHS) or said(sentence) <= set(COLOURS) for sentence in sentences)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
async def test_there_are_at_most_as_many_drafts_as_asked_for(n):
    drafts = (await LexicalHypothesis()(state(), running(config=ns.ExplainConfig(n_hypotheses=n))))["hypotheses"]
    assert 1 <= len(drafts) <= n


async def test_sentences_are_short_and_have_few_examples():
    drafts = (await LexicalHypothesis()(state(), running()))["hypotheses"]
    sentences = (await LexicalDecomposition()({"hypotheses": drafts}, running()))["atoms"]
    assert all(len(sentence.split()) <= 35 and sentence.count('"') <= 12 for sentence in sentences)
    assert any("months of the year, such as" in sentence for sentence in sentences), "what its words have in common"


async def test_a_silent_neuron_has_no_drafts():
    assert await LexicalHypothesis()(state(DEAD, maximum=0.0), running()) == {"hypotheses": []}
    assert await LexicalHypothesis()(state(DEAD, maximum=5.0), running()) == {"hypotheses": []}


async def test_without_any_train_text_there_are_no_drafts():
    subject = TwoMeanings()
    assert await LexicalHypothesis()(state(), running(store=Recorder(subject, []))) == {"hypotheses": []}


async def test_drafts_are_the_same_every_time():
    first, second = [await LexicalHypothesis()(state(), running()) for _ in range(2)]
    assert first == second


async def again(*explanations):
    """What is drafted the second time, when some modes have been refined."""
    second = state(modes=[Mode(text) for text in explanations], hypotheses=["the first"], unexplained=[0, 3, 6])
    hypotheses = (await LexicalHypothesis()(second, running()))["hypotheses"]
    assert hypotheses[0] == "the first"
    return said(" ".join(hypotheses[1:]))


async def test_a_second_time_they_are_of_the_meaning_that_no_mode_has():
    assert await again(write([Condition(word, (), 10.0) for word in COLOURS])) == set(MONTHS)


async def test_leftovers_of_the_modes_are_no_meaning_of_their_own():
    most = [*COLOURS, *MONTHS[1:]]
    assert await again(write([Condition(word, (), 10.0) for word in most])) == set()
    assert await again(*(write([Condition(word, (), 10.0) for word in words]) for words in (COLOURS, MONTHS))) == set()


# Decomposition

letters = st.characters(exclude_categories=("C", "Zl", "Zp"), exclude_characters="`") | st.just("\n")
words = st.text(letters, min_size=1, max_size=6).map(lambda text: text.casefold().strip(" ")).filter(quotable)


@given(st.lists(st.lists(words, min_size=1, max_size=3), min_size=1, max_size=3))
@settings(max_examples=50)
def test_decomposition_takes_drafts_apart_where_they_were_put_together(families):
    sentences = [write([Condition(word) for word in family]) for family in families]
    update = asyncio.run(LexicalDecomposition()({"hypotheses": [" ".join(sentences)]}, None))
    assert [same_sentence(atom) for atom in update["atoms"]] == list(map(same_sentence, sentences))


async def test_every_atom_has_the_neuron_as_its_subject():
    drafts = ['It fires on "a". This neuron fires on "b"! It fires on "a".', 'this neuron fires on "B".', ""]
    atoms = (await LexicalDecomposition()({"hypotheses": drafts}, None))["atoms"]
    assert atoms == [
        'This neuron activates in this case: It fires on "a".',
        'This neuron fires on "b"!',
        'This neuron activates in this case: It fires on "a".',
        'this neuron fires on "B".',
    ]


# Clustering by what is predicted


def on(words):
    quoted = ", ".join(f'"{word}"' for word in words)
    return f"This neuron activates on {quoted}."


async def clusters_of(atoms, **settings):
    running_now = running(config=ns.ExplainConfig(**settings))
    store = running_now.context.store
    train = [exemplar.sequence_id for exemplar in store.exemplars(BOTH, "train", 60)]
    step = {"neuron": BOTH, "exemplars": ExemplarIds(train=train, maximum=6.0), "atoms": atoms}
    return (await ClusteringAgent()(step, running_now))["clusters"]


async def test_the_atom_that_explains_most_represents_its_cluster():
    atoms = [on(COLOURS[:3]), on(COLOURS[1:]), on(COLOURS), on(MONTHS[:3]), on(MONTHS), on(MONTHS[1:])]
    clusters = await clusters_of(atoms)
    assert sorted(sorted(cluster.atoms) for cluster in clusters) == sorted([sorted(atoms[:3]), sorted(atoms[3:])])
    assert {cluster.representative for cluster in clusters} == {on(COLOURS), on(MONTHS)}


async def test_noise_that_explains_something_is_a_cluster_of_its_own():
    paraphrases = [f"This neuron {verb} on {words}" for verb in ("activates", "fires") for words in ("red", "green")]
    others = ["This neuron activates on a road.", "This neuron activates on quiet bread."]
    atoms = [*(f'{text} "red", "green", "blue" and "yellow".' for text in paraphrases), *others, on(MONTHS), *others]
    by_text = await clusters_of(atoms, clustering="embeddings", few_atoms=0)
    by_evidence = await clusters_of(atoms, few_atoms=0)
    lost = [cluster for cluster in by_text if on(MONTHS) in cluster.atoms and (cluster.noise or len(cluster.atoms) > 1)]
    own = [cluster for cluster in by_evidence if cluster.atoms == [on(MONTHS)]]
    assert lost, "else there is nothing to rescue"
    assert [cluster.noise for cluster in own] == [False]


# Refinement


async def candidates_of(state, **changes):
    (candidates,) = (await LexicalRefinement()(state, running(**changes)))["proposals"].values()
    return candidates


async def test_candidates_add_words_of_the_modes_own_kind():
    candidates = await candidates_of(refining((COLOUR_MODE, 0.5, []), siblings=[MONTH_MODE]))
    assert set().union(*map(said, candidates)) == set(COLOURS)


async def test_a_neuron_of_one_mode_may_add_words_of_any_kind():
    added = set().union(*map(said, await candidates_of(refining((COLOUR_MODE, 0.5, [])))))
    assert added & set(COLOURS)
    assert added & set(MONTHS)


@pytest.mark.parametrize("n", [1, 3, 8])
async def test_candidates_are_distinct_new_and_no_more_than_asked_for(n):
    first = refining((COLOUR_MODE, 0.5, []))
    known = await candidates_of(first)
    again = refining((COLOUR_MODE, 0.5, []), *((text, 0.1, []) for text in known))
    errors = [PredictionError("it was", " teal", 0.0, 8.0), PredictionError("they", " red", 9.0, 1.0)]
    for step in (first, again, refining((COLOUR_MODE, 0.5, errors))):
        candidates = await candidates_of(step, config=ns.ExplainConfig(n_candidates=n))
        same = [same_sentence(text) for text in candidates]
        assert len(set(same)) == len(same) <= n
        assert not set(same) & {same_sentence(attempt.explanation) for attempt in step["history"]}


async def test_edits_begin_with_the_best_attempt():
    worse = 'This neuron activates on "house".'
    candidates = await candidates_of(refining((worse, 0.1, []), (COLOUR_MODE, 0.5, []), (worse, 0.2, [])))
    assert candidates
    assert all("house" not in said(text) for text in candidates)
    assert {"red", "green"} <= said(candidates[0])


async def test_false_alarms_are_dropped():
    errors = [PredictionError("a", " green", 9.0, 0.0)]
    candidates = await candidates_of(refining((COLOUR_MODE, 0.5, errors)))
    assert any("green" not in said(text) for text in candidates)


async def test_what_was_missed_is_added_only_if_train_exemplars_support_it():
    errors = [PredictionError("the", " teal", 0.0, 9.0), PredictionError("the", " blue", 0.0, 9.0)]
    candidates = await candidates_of(refining((COLOUR_MODE, 0.5, errors)))
    assert any("blue" in said(text) for text in candidates)
    assert not any("teal" in said(text) for text in candidates), "validation tokens are not learnt by heart"


async def test_exceptions_stay_exceptions():
    explanation = 'This neuron activates on "red"; but not "house".'
    for text in await candidates_of(refining((explanation, 0.5, []))):
        assert [found.strength for found in read(text).conditions if found.text == "house"] == [0.0]


async def test_no_candidate_has_nothing_but_exceptions():
    errors = [PredictionError("a", " red", 9.0, 0.0), PredictionError("the", " bread", 9.0, 0.0)]
    silent = running(store=Recorder(TwoMeanings(), []))
    step = refining(('This neuron activates on "red"; but not "house".', 0.5, errors))
    (candidates,) = (await LexicalRefinement()(step, silent))["proposals"].values()
    assert all(any(found.strength > 0 for found in read(text).conditions) for text in candidates)


async def test_a_sentence_about_a_topic_keeps_its_words():
    explanation = "This neuron activates weakly on words for colours."
    candidates = await candidates_of(refining((explanation, 0.5, [])))
    assert candidates
    for text in candidates:
        assert text.startswith(explanation.rstrip("."))
        assert (read(text).topic, read(text).topic_strength) == ("colours", 2.2)


async def test_nothing_new_to_say_is_no_candidate():
    nothing = running(store=Recorder(TwoMeanings(), []))
    step = refining(("This neuron activates on colours.", 0.5, []))
    assert await LexicalRefinement()(step, nothing) == {"proposals": {"This neuron activates on colours.": []}}


async def test_one_round_is_all_that_is_proposed_in():
    step = refining((COLOUR_MODE, 0.5, []), siblings=[MONTH_MODE])
    assert await candidates_of(step)
    assert await candidates_of(step | {"iteration": 2}) == []


async def test_candidates_are_the_same_every_time():
    step = refining((COLOUR_MODE, 0.5, []), siblings=[MONTH_MODE])
    assert await candidates_of(step) == await candidates_of(step)


# What they look at, and what comes of it


async def test_what_the_roles_look_at_is_gathered_once_a_neuron():
    running_once = running()
    await LexicalHypothesis()(state(), running_once)
    asked = list(running_once.context.store.splits)
    for _ in range(2):
        await LexicalRefinement()(refining((COLOUR_MODE, 0.5, [])), running_once)
    assert asked
    assert running_once.context.store.splits == asked
    running_once.context.scorer.forget(BOTH)
    await LexicalRefinement()(refining((COLOUR_MODE, 0.5, [])), running_once)
    assert running_once.context.store.splits == [*asked, *asked]


async def test_the_roles_see_train_text_only():
    chosen = running()
    store = chosen.context.store
    await LexicalHypothesis()(state(), chosen)
    await LexicalRefinement()(refining((COLOUR_MODE, 0.5, [])), chosen)
    assert set(store.splits) == {"train"}
    assert store.asked == []


@pytest.fixture(scope="module")
def explained():
    everything = ns.ExplainConfig(heldout_top=40)  # colours are the stronger ones: the top 20 would be colours alone
    return asyncio.run(build_neuron_graph().ainvoke({"neuron": BOTH}, context=instruments(config=everything)))[
        "explanation"
    ]


def test_two_planted_meanings_are_two_modes(explained):
    assert explained.status == "explained"
    kinds = [(said(m.explanation) <= set(COLOURS), said(m.explanation) <= set(MONTHS)) for m in explained.modes]
    assert sorted(kinds) == [(False, True), (True, False)]


def test_together_they_explain_the_neuron(explained):
    assert explained.joint_score > 0.9
    assert all(0.3 < mode.score < explained.joint_score for mode in explained.modes)


def test_a_dead_neuron_is_concluded_without_modes():
    found = asyncio.run(build_neuron_graph().ainvoke({"neuron": DEAD}, context=instruments()))["explanation"]
    assert (found.status, found.modes, found.score) == ("dead", [], None)


# Many neurons


class FourNeurons(TwoMeanings):
    """Neurons that activate on colours and months, each in its own proportions."""

    def width(self, layer):
        return 4

    def _row(self, token_id):
        word = self.tokenizer.words[token_id].strip()
        kind = [*COLOURS, *MONTHS].index(word) + 1 if word in [*COLOURS, *MONTHS] else 0
        return [1.0 + kind * (index + 2) % 7 if kind else 0.0 for index in range(4)]


def explained_together(neurons, parallel):
    """What is found about neurons, but for what it costs; nothing is shared with other calls."""
    subject = FourNeurons()
    results = ns.explain_neurons(
        neurons,
        subject,
        store=MemorySource(subject, documents()),
        llm="offline",
        embeddings=MINILM,
        simulator=HybridSimulator(),
        parallel=parallel,
        progress=False,
    )
    return {x.neuron: json.loads(x.to_json()) | {"usage": None} for x in results}


@pytest.mark.slow
def test_a_result_does_not_depend_on_the_order_or_number_of_neurons_at_once():
    neurons = [ns.Neuron(0, index) for index in range(4)]
    in_turn = explained_together(neurons, 1)
    assert len({str(found["modes"]) for found in in_turn.values()}) > 1
    assert explained_together(neurons[::-1], 4) == in_turn
    assert explained_together(neurons[:1], 1)[neurons[0]] == in_turn[neurons[0]]
