"""How simulators are measured: what a planted concept is true of, what is drawn, and what the command writes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import neuronscope as ns
from neuronscope.cli.main import app
from neuronscope.errors import ConfigurationError, SimulatorError
from neuronscope.experiments.concept_reading import read_concepts, sample_concepts
from neuronscope.experiments.concepts import KINDS, Concept, load_concepts
from neuronscope.experiments.cost import measure_cost
from neuronscope.experiments.named import simulators as experiment
from neuronscope.experiments.readings import blank_exemplar, kendall, load_readings, read_neurons
from neuronscope.experiments.texts import load_tokenizer_of, read_split
from small_world import write_small_world

NAN = None


def truth(concept: Concept, marked: str, source: str = "") -> list[float | None]:
    """What a concept says of the tokens between bars; None for those that are left out."""
    values = concept.ground_truth(marked.split("|"), source).tolist()
    return [None if np.isnan(value) else value for value in values]


def concept(**fields: Any) -> Concept:
    return Concept(**({"name": "a", "kind": "exact", "author": ("a sentence",)} | fields))


class Says:
    """Predicts 10 on the tokens that a sentence has between its quotes, and counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[str], int]] = []

    def simulate(self, explanations: Sequence[str], exemplars: Sequence[ns.Exemplar]) -> list[np.ndarray]:
        self.asked.append((list(explanations), len(exemplars)))
        return [
            np.array(
                [[10.0 * (token.strip() in text.split('"')[1::2]) for token in each.tokens] for text in explanations],
                dtype=np.float32,
            )
            for each in exemplars
        ]


# --- what a concept is true of ----------------------------------------------------------------------------------------


def test_a_word_counts_at_the_token_that_completes_it_and_its_other_pieces_are_left_out() -> None:
    word = concept(words=("violin", "horn"))
    assert truth(word, "A| vi|olin| and| a| Horn|y| HORN|.") == [0, NAN, 1, 0, 0, 0, 0, 1, 0]


def test_a_span_counts_at_all_its_tokens() -> None:
    assert truth(concept(pattern=r"\[([^\[\]]+)\]", span=True), "see| [|note| 1|].") == [0, 0, 1, 1, 0]


def test_a_context_is_where_the_group_is() -> None:
    assert truth(concept(pattern=r"(?i)\bdue (to)\b"), "to| be| due| to| you") == [0, 0, 0, 1, 0]


def test_a_target_may_begin_and_end_within_tokens() -> None:
    assert truth(concept(pattern=r"\?"), 'Why|?"| He|?') == [0, 1, 0, 1]
    assert truth(concept(pattern=r"b c"), "ab| cd") == [NAN, 1]


def test_of_a_topic_only_passages_with_enough_of_its_words_count_from_the_first_on() -> None:
    topic = concept(kind="topic", pattern="the", topic=("ship", "sea", "sail"))
    assert truth(topic, "the| ship| on| the| sea| the| sail") == [NAN, 0, 0, 1, 0, 1, 0]
    assert truth(topic, "the| ship| the") == [NAN, NAN, NAN]
    assert truth(topic, "the| ship| ship| ship| the") == [NAN] * 5
    assert truth(topic, "the| road| the") == [0, 0, 0]


def test_a_source_leaves_other_text_without_the_concept() -> None:
    assert truth(concept(pattern="you", source="dialogue"), "and| you", "dialogue") == [0, 1]
    assert truth(concept(pattern="you", source="dialogue"), "and| you", "news") == [0, 0]


# --- the package's concepts -------------------------------------------------------------------------------------------


def test_the_package_has_concepts_of_every_kind_a_quarter_of_each_held_out() -> None:
    concepts = load_concepts()
    counts, held = Counter(c.kind for c in concepts), Counter(c.kind for c in concepts if c.held_out)
    assert len(concepts) >= 60
    assert all(counts[kind] >= 12 and held[kind] >= counts[kind] / 4 for kind in KINDS)
    assert len(files("neuronscope.experiments").joinpath("concepts.json").read_bytes()) <= 100_000


def test_no_sentence_of_the_package_is_there_twice() -> None:
    sentences = Counter(
        (c.name, sentence.casefold()) for c in load_concepts() for sentence in (*c.author, *c.strangers)
    )
    assert [sentence for sentence, n in sentences.items() if n > 1] == []


def test_wordings_of_strangers_are_added(tmp_path: Path) -> None:
    (tmp_path / "w.json").write_text('{"however": ["the connective however"]}')
    by_name = {c.name: c for c in load_concepts(wordings=tmp_path / "w.json")}
    assert by_name["however"].strangers[-1] == "the connective however"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{}", "form"),
        ('[{"name": "a", "kind": "exact", "author": ["x"]}]', "either `pattern` or `words`"),
        ('[{"name": "a", "kind": "exact", "author": [], "pattern": "x"}]', "sentence"),
        ('[{"name": "a", "kind": "exact", "author": ["x"], "pattern": "("}]', "regular expression"),
        ('[{"name": "a", "kind": "odd", "author": ["x"], "pattern": "x"}]', "kind"),
        ("nothing", "JSON"),
        (json.dumps([{"name": "a", "kind": "exact", "author": ["x"], "pattern": "x"}] * 2), "twice"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, document: str, message: str) -> None:
    path = tmp_path / "c.json"
    path.write_text(document)
    with pytest.raises(ConfigurationError, match=message):
        load_concepts(path)


def test_wordings_of_a_concept_that_there_is_not_are_refused(tmp_path: Path) -> None:
    (tmp_path / "w.json").write_text('{"howevr": []}')
    with pytest.raises(ConfigurationError, match="howevr"):
        load_concepts(wordings=tmp_path / "w.json")


# --- planted concepts on text -----------------------------------------------------------------------------------------


@pytest.fixture
def texts() -> list[ns.Exemplar]:
    lines = ["the| king| sat", "a| king| king", "no| one| came", "the| road", "a| king", "it| is", "so| king| is"]
    return [blank_exemplar(line.split("|"), number) for number, line in enumerate(lines)]


def test_as_many_sequences_are_drawn_without_a_concept_as_with_it(texts: list[ns.Exemplar]) -> None:
    (found,) = sample_concepts([concept(words=("king",))], texts, seed=0, each=2)
    assert [bool(values.any()) for values in found.ground_truth] == [True, True, False, False]
    (again,) = sample_concepts([concept(words=("king",))], texts, seed=0, each=2)
    assert [e.sequence_id for e in again.exemplars] == [e.sequence_id for e in found.exemplars]


def test_a_concept_that_too_few_sequences_have_is_left_out(texts: list[ns.Exemplar]) -> None:
    assert list(sample_concepts([concept(words=("road",)), concept(words=("queen",))], texts, seed=0)) == []


def test_who_says_the_concept_scores_1_and_who_says_nothing_0(texts: list[ns.Exemplar]) -> None:
    one = concept(words=("king",), author=('"king"', '"queen"'), strangers=('the word "king"',), held_out=True)
    simulator = Says()
    author, strangers = read_concepts(simulator, sample_concepts([one], texts, seed=0))
    assert (author.wording, author.each, author.score) == ("author", (pytest.approx(1.0), 0.0), pytest.approx(0.5))
    assert (strangers.wording, strangers.score, strangers.held_out) == ("strangers", pytest.approx(1.0), True)
    assert len(simulator.asked) == 1


# --- real sentences ---------------------------------------------------------------------------------------------------


def line(neuron: int, modes: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    texts = [
        {"tokens": ["the", " king", " sat"], "predicted": {"1": 8}, "actual": {"1": 9.0, "2": 1.0}},
        {"tokens": ["a", " cat", " sat"], "predicted": {"1": 2}, "actual": {"1": 1.0}},
    ]
    return {"layer": 5, "neuron": neuron, "sign": 1, "form": "short", "modes": modes, "texts": texts} | fields


@pytest.fixture
def readings(tmp_path: Path) -> Path:
    modes = [{"explanation": '"king"', "strength": 8}, {"explanation": '"cat"', "strength": 2}]
    lines = [line(1, modes), line(1, [{"explanation": '"sat"'}], form="long"), line(2, [{"explanation": '"the"'}])]
    path = tmp_path / "readings.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_modes_are_joined_by_their_strengths_and_compared_with_both(readings: Path) -> None:
    first, _ = load_readings(readings, None, None, seed=0)
    assert first.explanations == ['"king"', '"cat"', '"sat"', '"the"']
    ((scores, ranking),) = read_neurons(Says(), [first])
    assert [score.form for score in scores] == ["short", "long"]
    assert scores[0].agreement == pytest.approx(1.0)  # 8 on king and 2 on cat, as the strong reader says
    assert (
        scores[0].score == scores[0].strong == pytest.approx(np.corrcoef([0, 8, 0, 0, 2, 0], [0, 9, 1, 0, 1, 0])[0, 1])
    )
    assert scores[1].score < 0
    assert ranking == sorted(ranking, reverse=True)[:2] + ranking[2:]


def test_a_strong_reader_may_have_predicted_every_mode_apart(tmp_path: Path) -> None:
    apart = line(1, [{"explanation": '"king"'}, {"explanation": '"cat"'}])
    for text, predicted in zip(apart["texts"], [[{"1": 8}, {}], [{}, {"1": 2, "0": 1}]], strict=True):
        text["predicted"] = predicted
    (tmp_path / "r.jsonl").write_text(json.dumps(apart))
    (found,) = load_readings(tmp_path / "r.jsonl", None, None, seed=0)
    assert found.readings[0].predicted.tolist() == [0, 8, 0, 1, 2, 0]


def test_neurons_and_texts_can_be_drawn(readings: Path) -> None:
    (found,) = load_readings(readings, neurons=1, texts=1, seed=3)
    assert len(found.exemplars) == 1
    assert len(found.actual) == len(found.readings[0].predicted) == 3


def test_a_line_of_another_form_is_named(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text(json.dumps(line(1, [])) + '\n{"layer": 5}')
    with pytest.raises(ConfigurationError, match="line 2"):
        load_readings(tmp_path / "r.jsonl", None, None, seed=0)


def test_rankings_agree_as_far_as_pairs_have_one_order() -> None:
    assert kendall([0.1, 0.2, 0.3], [1, 2, 3]) == pytest.approx(1.0)
    assert kendall([0.1, 0.2, 0.3], [1, 3, 2]) == pytest.approx(1 / 3)
    assert kendall([0.0, 0.0], [1, 2]) is None


# --- cost -------------------------------------------------------------------------------------------------------------


def test_cost_is_of_explanations_and_texts_that_are_new(texts: list[ns.Exemplar]) -> None:
    simulator = Says()
    cost = measure_cost(simulator, texts)
    assert [n for _, n in simulator.asked] == [1, 6, 6, 6]
    assert len({text for asked, _ in simulator.asked for text in asked}) == sum(
        len(asked) for asked, _ in simulator.asked
    )
    assert (cost.texts, cost.tokens) == (6, None)
    assert cost.per_text >= 0


# --- the command ------------------------------------------------------------------------------------------------------


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["experiment", *map(str, arguments)], prog_name="neuronscope")


def test_the_experiments_are_listed_and_each_has_help() -> None:
    shown = run("--help").stdout
    for name in ("halving", "offline", "simulators"):
        assert name in shown
        assert run(name, "--help").exit_code == 0
    assert run("halvin").exit_code == 2


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, readings: Path, texts: list[ns.Exemplar]) -> list[Any]:
    """The command with its concepts and texts; "reader" says what is in quotes, "prompted:…" cannot be loaded."""

    def resolve(name: str, **_: Any) -> Says:
        if name == "prompted:absent":
            raise SimulatorError("There is no such model.")
        return Says()

    many = [blank_exemplar(each.tokens, number) for number, each in enumerate(20 * texts)]
    monkeypatch.setattr(experiment, "SEQ_LEN", 3)
    monkeypatch.setattr(experiment, "resolve_simulator", resolve)
    monkeypatch.setattr(experiment, "read_split", lambda tokenizer, corpus, split, seq_len: many)
    concepts = [
        {"name": f"king {n}", "kind": "exact", "author": [f'"king" {n}'], "words": ["king"], "held_out": n > 3}
        for n in range(5)
    ]
    (tmp_path / "c.json").write_text(json.dumps(concepts))
    options = ["--readings", readings, "--concepts", tmp_path / "c.json", "--sequences", 3, "--out", tmp_path / "out"]
    return ["simulators", *options]


def test_simulators_are_compared_on_all_of_it_and_those_that_cannot_run_have_a_reason(
    command: list[Any], tmp_path: Path
) -> None:
    result = run(*command, "--simulators", "hybrid,prompted:absent,transluce,reader")
    assert result.exit_code == 0, result.output
    saved = json.loads((tmp_path / "out" / "simulators.json").read_text())
    assert list(saved["measured"]) == ["hybrid", "reader"]
    assert saved["not_measured"]["prompted:absent"] == "There is no such model."
    found = saved["measured"]["reader"]
    assert [each["score"] for each in found["planted"]] == [pytest.approx(1.0)] * 5
    assert len(found["readings"]) == 3
    assert found["cost"]["texts"] == 20
    assert saved["agreement"][0]["tau"] == pytest.approx(1.0)
    assert saved["settings"]["seed"] == 0
    assert saved["settings"]["versions"]["neuronscope"] == ns.__version__
    tables = (tmp_path / "out" / "simulators.md").read_text()
    assert tables.startswith(result.stdout.strip())
    assert "| reader | author | 1.000 (1.00 to 1.00) n=5 | – n=0 |" in tables
    assert "| reader | author | 1.000 (1.00 to 1.00) n=1 |" in tables  # held out
    assert "There is no such model." in tables


def test_a_few_concepts_of_each_kind_can_be_drawn(command: list[Any], tmp_path: Path) -> None:
    run(*command, "--simulators", "hybrid", "--per-kind", 4)
    assert json.loads((tmp_path / "out" / "simulators.json").read_text())["settings"]["planted"] == 4


def test_a_name_of_no_simulator_is_refused_before_anything_is_measured(command: list[Any], tmp_path: Path) -> None:
    result = run(*command, "--simulators", "hybrid,reeder")
    assert result.exit_code == 1
    assert not (tmp_path / "out").exists()


def test_the_test_split_is_read_in_the_subjects_tokens(tmp_path: Path, tiny_tokenizer: Any) -> None:
    world = write_small_world(tmp_path, tiny_tokenizer)
    exemplars = read_split(load_tokenizer_of(world.model), world.texts, "test")
    assert 0 < len(exemplars) < 150 * 5
    assert all(not each.activations.any() for each in exemplars)
    assert "the" in "".join(exemplars[0].tokens)
