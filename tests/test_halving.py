"""Successive halving: which candidate is pruned when, what is asked for, and what the loop makes of it."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from neuronscope.config import ExplainConfig
from neuronscope.experiments.candidate_sets import CandidateSet, Recorder
from neuronscope.experiments.named.halving import app, expected_best, replay_set
from neuronscope.graphs import build_neuron_graph, build_refinement_graph, observe, score_explanations
from neuronscope.metrics import pearson_rows, successive_halving
from neuronscope.metrics.halving import most_informative
from neuronscope.results import Attempt, Mode
from planted import AGENTS, BETTER_COLOURS, BOTH, COLOUR_MODE, instruments, proposed

SEQUENCES, TOKENS = 20, 6


class Track:
    """Random sequences, and candidates that resemble the truth the less the higher their number."""

    def __init__(self, n_candidates=8, n_sequences=SEQUENCES, seed=0, noise=1.0):
        generator = np.random.default_rng(seed)
        self.truth = list(generator.exponential(size=(n_sequences, TOKENS)))
        self.candidates = [f"candidate {number}" for number in range(n_candidates)]
        scale = noise * np.arange(n_candidates)[:, None]
        self.predictions = [row + scale * generator.normal(size=(n_candidates, TOKENS)) for row in self.truth]
        self.reference = list(generator.exponential(size=(n_sequences, TOKENS)))
        self.asked = []

    async def predict(self, texts, places):
        self.asked.append((list(texts), list(places)))
        rows = [self.candidates.index(text) for text in texts]
        return [self.predictions[place][rows] for place in places]

    async def run(self):
        return await successive_halving(self.predict, self.candidates, self.truth, self.reference)

    def exhaustive(self):
        return pearson_rows(np.concatenate(self.predictions, axis=1), np.concatenate(self.truth))

    def pairs(self):
        return {(text, place) for texts, places in self.asked for text in texts for place in places}


async def test_the_best_candidate_wins_and_has_the_score_of_the_whole_set():
    track = Track()
    results = await track.run()
    assert results[0].score == track.exhaustive()[0]
    assert results[0].sequences == SEQUENCES


async def test_the_worse_half_is_dropped_after_a_fifth_and_all_but_a_quarter_after_two_fifths():
    results = await Track().run()
    assert [result.sequences for result in results] == [20, 20, 8, 8, 4, 4, 4, 4]
    assert [result.score is None for result in results] == [False, False, True, True, True, True, True, True]


async def test_eight_candidates_cost_less_than_half_of_exhaustive_scoring():
    track = Track()
    await track.run()
    assert len(track.pairs()) == 8 * 4 + 4 * 4 + 2 * 12


async def test_all_candidates_of_a_rung_are_asked_for_in_one_call_on_the_same_sequences():
    track = Track()
    await track.run()
    assert [len(texts) for texts, _ in track.asked] == [8, 4, 2]
    first, second, whole = [places for _, places in track.asked]
    assert first == second[:4]
    assert sorted(whole) == list(range(SEQUENCES))


async def test_one_candidate_is_scored_on_everything():
    track = Track(n_candidates=1)
    (result,) = await track.run()
    assert result.score == track.exhaustive()[0]
    assert len(track.asked) == 1


@pytest.mark.parametrize("n_sequences", [1, 4])
async def test_no_candidate_is_pruned_on_a_handful_of_sequences(n_sequences):
    track = Track(n_sequences=n_sequences)
    assert [result.score for result in await track.run()] == track.exhaustive()


async def test_without_a_sequence_nothing_is_measured():
    results = await successive_halving(Track().predict, ["a", "b"], [], [])
    assert [(result.score.value, result.score.constant) for result in results] == [(None, True)] * 2


async def test_of_equal_candidates_the_earlier_ones_go_on():
    track = Track(noise=0.0)
    assert [result.score is not None for result in await track.run()] == [True] * 2 + [False] * 6


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(0, 45), st.floats(0, 10))
async def test_whoever_arrives_has_the_score_that_exhaustive_scoring_gives(seed, n_candidates, n_sequences, noise):
    track = Track(n_candidates, n_sequences, seed, noise)
    results = await track.run()
    arrived = {place: result.score for place, result in enumerate(results) if result.score is not None}
    assert arrived
    if n_sequences:
        exhaustive = track.exhaustive()
        assert all(score.value == pytest.approx(exhaustive[place].value) for place, score in arrived.items())
    counts = dict.fromkeys(track.candidates, 0)
    for text, _ in track.pairs():
        counts[text] += 1
    assert [result.sequences for result in results] == list(counts.values())


def test_active_sequences_and_false_positives_come_first():
    inactive, active = np.zeros(4), np.array([0.0, 8.0, 0.0, 0.0])
    truth = [inactive, inactive, active, inactive]
    reference = [inactive, active / 2, inactive, inactive]
    assert most_informative(truth, reference) == [1, 2, 0, 3]


def test_the_scale_of_the_truth_does_not_matter():
    truth, reference = Track().truth, Track().reference
    assert most_informative([1000 * row for row in truth], reference) == most_informative(truth, reference)


# In the refinement loop


CANDIDATES = [BETTER_COLOURS, *(f'This neuron activates on "{word}".' for word in "road house was and".split())]


class Proposes:
    def __init__(self, candidates):
        self.candidates = candidates

    async def __call__(self, state, runtime):
        return proposed(state, self.candidates)


async def refine(config):
    context = instruments(config=config)
    exemplars = (await observe({"neuron": BOTH}, type("Runtime", (), {"context": context})()))["exemplars"]
    graph = build_refinement_graph(refinement=Proposes(CANDIDATES))
    state = {"neuron": BOTH, "exemplars": exemplars, "modes": [Mode(COLOUR_MODE)]}
    seen = [update async for update in graph.astream(state, context=context, stream_mode="updates")]
    answers = [json.loads(update["tools"]["messages"][-1].content) for update in seen if "tools" in update]
    return seen[-1]["reconcile"]["modes"][0], answers, context.scorer.simulated_tokens(BOTH)


async def test_successive_halving_finds_the_same_explanation_and_simulates_less():
    halved, _, fewer = await refine(ExplainConfig(max_iterations=1))
    exhaustive, _, more = await refine(ExplainConfig(max_iterations=1, halving=False))
    assert halved.explanation == exhaustive.explanation == BETTER_COLOURS
    assert halved.val_score == pytest.approx(exhaustive.val_score)
    assert fewer < 0.75 * more  # the representative and five candidates


async def test_the_answer_says_who_was_dropped_and_gives_no_score_on_part_of_the_set():
    mode, (first, second), _ = await refine(ExplainConfig(max_iterations=1))
    assert [score["sequences"] for score in first["scores"]] == [first["sequences"]]
    whole = second["sequences"]
    assert [score["explanation"] for score in second["scores"]] == CANDIDATES
    assert second["scores"][0] | {"score": mode.val_score, "sequences": whole} == second["scores"][0]
    dropped = [score for score in second["scores"] if score["sequences"] < whole]
    assert dropped
    assert all(score["score"] is None and score["constant"] is None for score in dropped)


async def test_an_explanation_that_is_given_twice_gets_the_same_answer_twice():
    context = instruments()
    exemplars = (await observe({"neuron": BOTH}, type("Runtime", (), {"context": context})()))["exemplars"]
    mode = Mode(COLOUR_MODE, val_score=0.1, history=[Attempt(0, COLOUR_MODE, 0.1)])
    state = {"neuron": BOTH, "exemplars": exemplars, "modes": [mode]}
    runtime = type("ToolRuntime", (), {"context": context, "state": state})()
    texts = [CANDIDATES[1], BETTER_COLOURS, CANDIDATES[1]]
    answer = json.loads((await score_explanations.coroutine(explanations=texts, runtime=runtime))[0])
    assert [score["explanation"] for score in answer["scores"]] == texts
    assert answer["scores"][0] == answer["scores"][2]


async def test_the_paper_scores_everything():
    _, answers, _ = await refine(ExplainConfig.paper())
    assert all(score["sequences"] == answer["sequences"] for answer in answers for score in answer["scores"])
    assert all(score["score"] is not None for answer in answers for score in answer["scores"])


# Recorded and replayed


def recorded_set(track, name="0-0-round1"):
    predictions = [
        np.vstack([before, rows]).astype(np.float32)
        for before, rows in zip(track.reference, track.predictions, strict=True)
    ]
    truth = [row.astype(np.float32) for row in track.truth]
    return CandidateSet(name, "before", tuple(track.candidates), truth, predictions, n_top=7)


def test_a_saved_set_loads_as_it_was(tmp_path):
    saved = recorded_set(Track(3))
    loaded = CandidateSet.load(saved.save(tmp_path))
    assert (loaded.name, loaded.best, loaded.candidates, loaded.n_top) == (saved.name, "before", saved.candidates, 7)
    for ours, theirs in zip([*saved.truth, *saved.predictions], [*loaded.truth, *loaded.predictions], strict=True):
        np.testing.assert_array_equal(ours, theirs)


async def test_a_replay_counts_what_is_simulated_and_what_its_choice_lacks():
    replay = await replay_set(recorded_set(Track()))
    assert (replay.tokens, replay.all_tokens) == (72 * TOKENS, 160 * TOKENS)
    assert (replay.neuron, replay.regret, replay.lost) == ("0-0", 0.0, 0.0)
    assert replay.blind_regret > 0


async def test_a_candidate_whose_strength_shows_late_is_lost_and_the_replay_says_how_much():
    track = Track(n_candidates=4)
    first = most_informative(track.truth, track.reference)[:4]
    for place, truth in enumerate(track.truth):
        wrong = place in first
        track.predictions[place] = np.array([-truth if wrong else truth, *([truth if wrong else -truth] * 3)])
    replay = await replay_set(recorded_set(track))
    best, *others = [score.value for score in track.exhaustive()]
    assert replay.regret == pytest.approx(best - max(others), abs=1e-6)
    assert replay.lost < replay.regret  # the best attempt before the round is better than what is left


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=6), st.data())
def test_the_expected_best_of_a_draw_is_the_mean_over_all_draws(scores, data):
    from itertools import combinations

    n = data.draw(st.integers(1, len(scores)))
    assert expected_best(scores, n) == pytest.approx(np.mean([max(drawn) for drawn in combinations(scores, n)]))


async def test_a_recorder_passes_candidates_on_and_keeps_what_was_predicted():
    context, recorder = instruments(config=ExplainConfig(halving=False)), Recorder(Proposes(CANDIDATES))
    await build_neuron_graph(**(AGENTS | {"refinement": recorder})).ainvoke({"neuron": BOTH}, context=context)
    recorded = next(found for found in recorder.sets if found.best == COLOUR_MODE)
    assert recorded.candidates == tuple(CANDIDATES)
    assert [row.shape for row in recorded.predictions] == [(1 + len(CANDIDATES), len(row)) for row in recorded.truth]
    assert all(truth.max() > 0 for truth in recorded.truth[: recorded.n_top])
    assert len({found.name for found in recorder.sets}) == len(recorder.sets)


def test_the_table_has_a_line_per_folder(tmp_path):
    for name in ("one", "two"):
        for number in range(3):
            recorded_set(Track(seed=number), f"0-{number}-round1").save(tmp_path / name)
    result = CliRunner().invoke(app, ["replay", str(tmp_path / "one"), str(tmp_path / "two")])
    assert result.exit_code == 0
    header, _, one, two = result.output.strip().splitlines()
    assert one.startswith("| one | 3 | 45.0% |")
    assert one.count("|") == two.count("|") == header.count("|")
