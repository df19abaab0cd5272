"""Planted neurons: what they do is known exactly, the library takes them for real, and what is found is measured."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from typer.testing import CliRunner

import neuronscope as ns
from neuronscope.cli.main import app
from neuronscope.comparison import MethodScore
from neuronscope.errors import ConfigurationError, SubjectError
from neuronscope.experiments.concepts import Concept, load_concepts
from neuronscope.experiments.named import planted as experiment
from neuronscope.experiments.planted import (
    ConceptText,
    Found,
    HeldOut,
    Meaning,
    MeaningScores,
    PairSite,
    PlantedNeuron,
    PlantedSubject,
    UnitPair,
    clear_units,
    compare,
    draw_planted,
    match_meanings,
    pair_units,
    report,
    score_meanings,
    units,
)
from neuronscope.experiments.planted.comparison import METHODS
from neuronscope.experiments.planted.drawing import IMBALANCE
from neuronscope.experiments.planted.known import draw_held_out
from neuronscope.experiments.planted.neurons import FADING, WEAKEST
from neuronscope.experiments.planted.units import ClearUnit, UnitWorld
from neuronscope.experiments.planted.worlds import ConceptWorld
from neuronscope.experiments.texts import read_split
from neuronscope.subject import sites
from planted import FILLER, WordSimulator
from small_world import write_small_world

GROUPS = {"colours": ["red", "green", "blue"], "animals": ["cat", "dog"], "trees": ["oak", "elm", "ash"]}


@pytest.fixture(autouse=True)
def only_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    monkeypatch.setattr(sites, "registered", {name: sites.site_named(name) for name in sites.site_names()})


def concept(name: str, *words: str, held_out: bool = False) -> Concept:
    quoted = " or ".join(f'"{word}"' for word in words)
    return Concept(name=name, kind="family", author=(quoted,), words=words, held_out=held_out)


CONCEPTS = [concept(name, *words) for name, words in GROUPS.items()]
COLOURS, ANIMALS, TREES = CONCEPTS


def documents(n: int = 300) -> list[str]:
    """Ten words each, among them one of a group, or in two fifths none."""
    drawn = random.Random(0)
    texts = []
    for number in range(n):
        words = drawn.choices(FILLER, k=10)
        if number % 5 < len(CONCEPTS):
            words[drawn.randrange(10)] = drawn.choice(list(GROUPS.values())[number % 5])
        texts.append(" ".join([*words, str(number)]))
    return texts


@cache
def word_tokenizer() -> Any:
    """One token per word, with the space in front of it."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = sorted({*FILLER, *chain(*GROUPS.values()), "saw", "there", *map(str, range(600))})
    backend = Tokenizer(models.WordLevel({piece: n for n, piece in enumerate([*words, *(f" {w}" for w in words)])}))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s*\S+"), "isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def subject_of(*neurons: PlantedNeuron) -> PlantedSubject:
    return PlantedSubject(neurons, word_tokenizer())


def activations(subject: PlantedSubject, text: str, index: int = 0) -> list[float]:
    ids = subject.tokenizer(text)["input_ids"]
    assert None not in ids
    values: list[float] = subject.activations([ids], [0])[0][0][:, index].tolist()
    return values


# --- what a planted neuron does ---------------------------------------------------------------------------------------


def test_it_takes_the_largest_of_its_meanings_and_is_inactive_elsewhere() -> None:
    subject = subject_of(
        PlantedNeuron((Meaning(COLOURS, 8.0), Meaning(ANIMALS, 4.0), Meaning(concept("cat", "cat"), 6.0)))
    )
    assert activations(subject, "the red cat saw a dog there") == [0, 8, 6, 0, 0, 4, 0]
    ids = subject.tokenizer("a red cat")["input_ids"]
    assert subject.of_meanings(ns.Neuron(0, 0), ids).tolist() == [[0, 8, 0], [0, 0, 4], [0, 0, 6]]


def test_a_word_has_its_own_grade_wherever_it_stands() -> None:
    subject = subject_of(PlantedNeuron((Meaning(COLOURS, 10.0, "token"),), seed=3))
    red, green, again = activations(subject, "red green red")
    assert red == again != green
    assert all(10 * WEAKEST <= each <= 10 for each in (red, green))


def test_graded_by_mention_the_first_is_strongest() -> None:
    subject = subject_of(PlantedNeuron((Meaning(COLOURS, 10.0, "mention"),)))
    found = activations(subject, " ".join(["red"] * 9))
    assert found[:3] == pytest.approx([10, 10 * FADING, 10 * FADING**2])
    assert found[-1] == pytest.approx(10 * WEAKEST)


def test_only_a_share_of_the_occurrences_counts() -> None:
    subject = subject_of(PlantedNeuron((Meaning(COLOURS, 10.0, share=0.5),), seed=1))
    found = activations(subject, " ".join(["red"] * 400))
    assert set(found) == {0, 10}
    assert 150 < found.count(10) < 250


def test_noise_depends_on_what_was_read_so_far_and_on_nothing_else() -> None:
    subject = subject_of(PlantedNeuron((Meaning(COLOURS),), noise=1.0), PlantedNeuron((Meaning(COLOURS),), 1.0, 1))
    text = " ".join(FILLER * 30)
    whole = activations(subject, text)
    assert activations(subject, text[: len(text) // 2]) == whole[: len(activations(subject, text[: len(text) // 2]))]
    assert whole != activations(subject, text, 1)
    assert min(whole) == 0
    assert 1.5 < max(whole) < 5
    assert 0.4 < np.mean(np.array(whole) > 0) < 0.6


def test_its_fingerprint_is_of_what_it_does() -> None:
    neuron = PlantedNeuron((Meaning(COLOURS, 8.0),))
    same, other = subject_of(neuron), subject_of(PlantedNeuron((Meaning(COLOURS, 7.0),)))
    redefined = subject_of(PlantedNeuron((Meaning(concept("colours", "red"), 8.0),)))
    names = {subject_of(neuron).fingerprint, same.fingerprint}
    assert len(names) == 1
    assert len(names | {other.fingerprint, redefined.fingerprint}) == 3


def test_it_has_one_layer_and_one_to_six_meanings() -> None:
    subject = subject_of(PlantedNeuron((Meaning(COLOURS),)))
    with pytest.raises(SubjectError, match="one layer, 0"):
        subject.width(1)
    with pytest.raises(ConfigurationError, match="1 to 6 meanings, not 7"):
        PlantedNeuron((Meaning(COLOURS),) * 7)


# --- drawing ----------------------------------------------------------------------------------------------------------


def read(texts: Sequence[str]) -> list[ns.Exemplar]:
    return [
        ns.Exemplar(text.replace(" ", "| ").split("|"), [], np.zeros(0, np.float32), number, "")
        for number, text in enumerate(texts)
    ]


def test_concepts_are_planted_that_are_neither_rare_nor_everywhere() -> None:
    text = ConceptText(read(documents()), [*CONCEPTS, concept("no", "zebra"), concept("all", *FILLER)])
    assert [each.name for each in text.concepts] == list(GROUPS)
    assert text.shares == [0.2] * 3


def test_meanings_of_a_neuron_share_no_tokens_and_are_not_much_rarer_than_each_other() -> None:
    rare = [f"{text} rareword" if number < 3 else text for number, text in enumerate(documents())]
    given = [COLOURS, ANIMALS, concept("red", "red"), concept("rare", "rareword")]
    text = ConceptText(read(rare), given)
    assert text.fits(1, [0])
    assert not text.fits(2, [0]), "every red is a colour"
    assert text.shares[0] > IMBALANCE * text.shares[3]
    assert not text.fits(3, [0])


def test_neurons_are_drawn_with_each_number_of_meanings_in_turn() -> None:
    held_out = [each.model_copy(update={"name": f"{each.name} too", "held_out": True}) for each in CONCEPTS]
    text = ConceptText(read(documents()), [*CONCEPTS, *held_out])
    drawn = draw_planted(text, 8, (1, 2), seed=5)
    assert [len(each.meanings) for each in drawn] == [1, 2] * 4
    assert [each.held_out for each in drawn] == [True, True, False, False] * 2
    assert all(len({meaning.concept.held_out for meaning in each.meanings}) == 1 for each in drawn)
    assert draw_planted(text, 3, (1, 2), seed=5) == drawn[:3]
    assert draw_planted(text, 3, (1, 2), seed=6) != drawn[:3]
    assert all(each.held_out for each in draw_planted(text, 4, (1, 2), held_out=True))
    with pytest.raises(ConfigurationError, match="no 4 of them together"):
        draw_planted(text, 1, (4, 4))


def test_the_package_has_sixty_concepts_of_every_kind_with_a_quarter_of_each_held_out() -> None:
    concepts = [each for each in load_concepts() if not each.source]
    assert len(concepts) >= 60
    for kind in ("exact", "family", "form", "context", "topic"):
        of_kind = [each.held_out for each in concepts if each.kind == kind]
        assert 4 * sum(of_kind) >= len(of_kind)


# --- what is found of it ----------------------------------------------------------------------------------------------


def three_meanings(n: int = 12) -> HeldOut:
    """Sequences of four tokens; the second has the first, second or third meaning in turn."""
    truth = [np.array([[0.0, float(number % 3 == k), 0, 0] for k in range(3)]) for number in range(n)]
    exemplars = [
        ns.Exemplar(["a"] * 4, [0] * 4, each.max(axis=0).astype(np.float32) * (4 + number % 3), number, "")
        for number, each in enumerate(truth)
    ]
    return HeldOut(exemplars, truth, [number % 3 for number in range(n)])


def test_perfect_modes_find_everything() -> None:
    held_out = three_meanings()
    found = score_meanings([10 * each[::-1] for each in held_out.ground_truth], held_out)
    assert (found.f1, found.number_error, found.ari) == (1.0, 0, pytest.approx(1.0))
    assert [(match.mode, match.meaning) for match in found.matches] == [(0, 2), (1, 1), (2, 0)]


def test_one_mode_for_three_meanings_has_found_one_and_tells_none_apart() -> None:
    held_out = three_meanings()
    found = score_meanings([each.max(axis=0, keepdims=True) for each in held_out.ground_truth], held_out)
    assert (found.f1, found.number_error, found.ari) == (pytest.approx(0.5), 2, 0.0)


def test_a_meaning_that_is_split_counts_once() -> None:
    held_out = three_meanings()
    halves = [
        np.concatenate([each, each[:1]]) * np.array([[number < 6], [1], [1], [number >= 6]])
        for number, each in enumerate(held_out.ground_truth)
    ]
    found = score_meanings(halves, held_out)
    assert (found.f1, found.number_error) == (pytest.approx(6 / 7), 1)


def test_no_mode_finds_nothing() -> None:
    held_out = three_meanings()
    found = score_meanings([each[:0] for each in held_out.ground_truth], held_out)
    assert (found.f1, found.number_error, found.ari) == (0.0, 3, 0.0)


def test_of_one_meaning_there_is_nothing_to_tell_apart() -> None:
    whole = three_meanings()
    held_out = HeldOut(whole.exemplars, [each[:1] for each in whole.ground_truth], [0] * 12)
    assert score_meanings(held_out.ground_truth, held_out).ari is None


def test_a_pair_counts_from_an_agreement_on_and_matches_are_the_best_together() -> None:
    truth = np.zeros((2, 200))
    truth[0, :40], truth[1, 40:80] = 1, 1
    tenth, quarter = np.zeros((2, 200))
    tenth[:4], quarter[:14] = 1, 1
    assert match_meanings(np.stack([tenth]), truth) == ()
    assert len(match_meanings(np.stack([quarter]), truth)) == 1
    both = truth.max(axis=0)
    found = match_meanings(np.stack([both, truth[0]]), truth)
    assert [(match.mode, match.meaning) for match in found] == [(0, 1), (1, 0)]


def test_what_is_a_matter_of_convention_counts_for_no_meaning() -> None:
    truth = np.array([[0, 1, np.nan, 0, 0, 0]])
    assert match_meanings(np.array([[0.0, 1, 9, 0, 0, 0]]), truth)[0].agreement == pytest.approx(1)


def test_held_out_sequences_have_every_meaning_and_none() -> None:
    subject = subject_of(PlantedNeuron((Meaning(COLOURS, 8.0), Meaning(TREES, 5.0))))
    text = read_split(subject.tokenizer, documents(), "test", 20)
    held_out = draw_held_out(subject, ns.Neuron(0, 0), text)
    assert {-1, 0, 1} == set(held_out.dominant)
    for exemplar, truth, dominant in zip(held_out.exemplars, held_out.ground_truth, held_out.dominant, strict=True):
        expected = np.array([8.0, 5.0]) @ truth
        assert exemplar.activations.tolist() == expected.tolist()
        assert dominant == (-1 if not expected.any() else int(truth.max(axis=1).argmax()))


# --- all of it --------------------------------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ConceptWorld:
    """Two planted neurons on a small text, in tokens that are words."""
    tokenizer, texts = word_tokenizer(), documents()
    subject = PlantedSubject(
        [PlantedNeuron((Meaning(COLOURS, 8.0), Meaning(ANIMALS, 5.0))), PlantedNeuron((Meaning(TREES),), noise=0.3)],
        tokenizer,
    )
    store = ns.collect_exemplars(
        subject, texts, [0], seq_len=20, signs=(1,), cache_dir=tmp_path / "stores", keep_activations=True
    )
    return ConceptWorld(subject, store, read_split(tokenizer, texts, "test", 20))


def setup(simulator: Any) -> ns.Setup:
    config = ns.ExplainConfig(seq_len=20, null_explanations=0)
    return ns.Setup(
        subject=None, llm="offline", embeddings=DeterministicFakeEmbedding(size=8), simulator=simulator, config=config
    )


def test_methods_explain_planted_neurons_as_real_ones(world: ConceptWorld, tmp_path: Path) -> None:
    simulator = WordSimulator()
    found = compare(world, setup(simulator), "token_lookup,single_pass", tmp_path / "out")
    rows = {(each.row.neuron.index, each.row.method): each for each in found}
    assert [each.row.method for each in found[:4]] == ["token_lookup", "single_pass", "own_sentences", "exact_truth"]
    own = rows[0, "own_sentences"].meanings
    assert own is not None
    assert (own.f1, own.number_error, own.ari) == (1.0, 0, 1.0)
    assert rows[0, "exact_truth"].row.joint_score == pytest.approx(1)
    assert rows[0, "token_lookup"].row.joint_score == pytest.approx(1)
    assert rows[0, "token_lookup"].meanings is None
    assert 0.9 < (rows[1, "exact_truth"].row.joint_score or 0) < 1
    asked = len(simulator.calls)
    again = compare(world, setup(simulator), "token_lookup,single_pass", tmp_path / "out")
    assert again == found
    assert len(simulator.calls) == asked


def test_the_papers_settings_are_scored_on_the_test_set_of_the_others(world: ConceptWorld, tmp_path: Path) -> None:
    found = compare(world, setup(WordSimulator()), "paper", tmp_path / "out")
    row = next(each for each in found if each.row.method == "paper" and each.row.neuron.index == 1)
    saved = ns.NeuronExplanation.load(tmp_path / "out" / "paper" / "results" / "0-1.json")
    assert sorted(row.row.sentences) == sorted({mode.explanation for mode in saved.modes})
    assert saved.provenance["config"]["prompts"] == "paper"
    assert row.meanings is not None


def hand_made(index: int, method: str, modes: int, meanings: int, *, held_out: bool | None = True) -> Found:
    matches = tuple((number, number, 0.9) for number in range(min(modes, meanings)))
    scores = MeaningScores.from_dict(
        {"meanings": meanings, "modes": modes, "matches": matches, "ari": None if meanings < 2 else 0.5}
    )
    row = MethodScore(neuron=ns.Neuron(0, index), method=method, joint_score=0.4, sentences=["a"] * modes)
    return Found(meanings, held_out, row, scores)


def test_the_report_has_a_table_for_all_for_both_sides_and_by_number() -> None:
    found = [
        hand_made(index, method, modes, 1 + index % 3, held_out=index < 6)
        for index in range(12)
        for method, modes in (("neuronscope", 1 + index % 3), ("single_pass", 1))
    ]
    made = report(found)
    assert made.data["parts"]["All neurons"]["neuronscope"]["F1"]["value"] == 1
    assert made.data["parts"]["All neurons"]["single_pass"]["F1"]["value"] == pytest.approx((1 + 2 / 3 + 0.5) / 3)
    assert made.data["parts"]["All neurons"]["single_pass"]["error of K"]["value"] == 1
    assert set(made.data["parts"]) == {"All neurons", "Concepts that nothing was tuned on", "Other concepts"}
    assert made.data["by_number"]["1"]["single_pass"]["ARI"]["value"] is None
    assert r"| single\_pass | 0.72 (" in made.markdown
    assert "F1, by meanings | 1 (4 neurons)" in made.markdown


def test_the_report_of_real_units_says_so_and_has_no_sentences_of_concepts() -> None:
    made = report([hand_made(0, "neuronscope", 2, 2, held_out=None), hand_made(1, "neuronscope", 1, 2, held_out=None)])
    assert set(made.data["parts"]) == {"Pairs of real units"}
    assert made.markdown.startswith("**Pairs of real units**, 2 neurons")
    assert "own_sentences" not in made.markdown
    assert "real unit's activations at 0.3" in made.markdown


def test_the_command_plants_compares_and_saves(
    world: ConceptWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def plant(n: int, meanings: tuple[int, int], **options: Any) -> ConceptWorld:
        asked.update(options, n=n, meanings=meanings)
        return world

    def compared(_: object, setup: ns.Setup, methods: str, out: Path, parallel: int) -> list[Found]:
        asked.update(llm=setup.llm, methods=methods)
        return [hand_made(0, "neuronscope", 2, 2)]

    monkeypatch.setattr(experiment, "plant", plant)
    monkeypatch.setattr(experiment, "compare", compared)
    options = ["--neurons", "7", "--meanings", "2-4", "--held-out", "--seed", "3", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, ["experiment", "planted", *options])
    assert result.exit_code == 0, result.output
    assert (asked["n"], asked["meanings"], asked["held_out"], asked["config"].seed) == (7, (2, 4), True, 3)
    assert (asked["llm"], asked["methods"]) == ("offline", METHODS)
    assert "| neuronscope | 1.00" in (tmp_path / "out" / "planted.md").read_text()
    assert json.loads((tmp_path / "out" / "planted.json").read_text())["rows"][0]["meanings"]["f1"] == 1
    described = json.loads((tmp_path / "out" / "neurons.json").read_text())
    assert described[0]["meanings"][0] == {"concept": "colours", "strength": 8.0, "grading": "even", "share": 1.0}
    for option, expected in ((["--tuned-on"], False), ([], None)):
        result = CliRunner().invoke(app, ["experiment", "planted", *option, "--out", str(tmp_path / "other")])
        assert result.exit_code == 0, result.output
        assert asked["held_out"] is expected
    wrong = CliRunner().invoke(app, ["experiment", "planted", "--meanings", "many", "--out", str(tmp_path / "out")])
    assert wrong.exit_code != 0


# --- made of real units -----------------------------------------------------------------------------------------------


def clear(index: int, word: str, maximum: float = 2.0) -> ClearUnit:
    return ClearUnit(ns.Neuron(1, index), word, 0.9, maximum)


def test_units_with_one_clear_meaning_are_found_by_a_look_up_and_one_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "SHOWN", 15)
    one_word, no_word = concept("red", "red"), concept("any", *FILLER, "red", "cat")
    subject = subject_of(
        PlantedNeuron((Meaning(one_word, 8.0),), noise=0.2),
        PlantedNeuron((Meaning(COLOURS), Meaning(ANIMALS), Meaning(TREES))),
        PlantedNeuron((Meaning(no_word, 1.0),), noise=3.0),
    )
    store = ns.collect_exemplars(subject, documents(600), [0], seq_len=20, signs=(1,), cache_dir=tmp_path)
    found = clear_units(store, 0, 5)
    assert [(each.neuron.index, each.word) for each in found] == [(0, "red")]
    assert found[0].lookup > units.CLEAR
    assert found[0].maximum == pytest.approx(float(store.max_activation(0)[0]))


def test_pairs_are_of_different_words_and_none_is_there_twice() -> None:
    given = [clear(0, "red"), clear(1, "red"), clear(2, "cat"), ClearUnit(ns.Neuron(0, 3), "dog", 0.9, 1.0)]
    pairs = pair_units(given, 2, seed=1)
    assert {tuple(unit.neuron.index for unit in pair.units) for pair in pairs} == {(0, 2), (1, 2)}
    assert [pair.how for pair in pairs] == ["max", "sum"]
    with pytest.raises(ConfigurationError, match="make 2 pairs, not 3"):
        pair_units(given, 3)


def test_a_pair_of_real_units_does_what_both_do(tmp_path: Path, tiny_tokenizer: Any) -> None:
    world = write_small_world(tmp_path, tiny_tokenizer)
    subject = ns.load_subject(world.model, device="cpu", dtype="float32")
    options: dict[str, Any] = {"seq_len": 32, "cache_dir": tmp_path / "stores"}
    own = ns.collect_exemplars(subject, world.texts, [1], **options)
    maxima = own.max_activation(1)
    both = clear(2, "a", float(maxima[2])), clear(5, "b", float(maxima[5]))
    site = PairSite([UnitPair(*both, "max"), UnitPair(*both, "sum")])
    store = ns.collect_exemplars(subject, world.texts, [1], site=site, **options)
    made = UnitWorld(subject, store, site, own)
    assert [str(each) for each in made.neurons] == [f"{site.name}:1/0", f"{site.name}:1/1"]
    assert float(store.max_activation(1)[0]) == pytest.approx(10)
    for neuron, together in zip(made.neurons, (np.max, np.sum), strict=True):
        for exemplar in store.exemplars(neuron, "test", 5):
            ids = [exemplar.sequence_id]
            parts = [own.by_id(unit.neuron, ids)[0].activations * 10 / unit.maximum for unit in both]
            assert exemplar.activations == pytest.approx(together(parts, axis=0), rel=1e-4)
        held_out = made.held_out(neuron, seed=0)
        for exemplar, truth, dominant in zip(held_out.exemplars, held_out.ground_truth, held_out.dominant, strict=True):
            assert exemplar.activations == pytest.approx(together(truth, axis=0), rel=1e-4)
            assert dominant in (-1, int(truth.max(axis=1).argmax()))
        assert {0, 1} <= set(held_out.dominant)
        assert score_meanings(held_out.ground_truth, held_out).f1 == 1
