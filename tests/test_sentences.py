"""Sentences of another writer: read from a file, scored as NeuronScope's own, and set beside a strong reader."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import neuronscope as ns
from neuronscope.baselines import WrittenSentences
from neuronscope.baselines.written import load_written
from neuronscope.cli.main import app
from planted import BETTER_ANIMALS, BETTER_COLOURS, BOTH, DEAD
from small_world import write_small_world
from test_baselines import Own, lab

BEFORE, AFTER = 'This neuron activates on "road".', 'This neuron activates on "red" or "blue".'


def write(path: Path, *lines: dict[str, Any]) -> Path:
    path.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\n", encoding="utf-8")
    return path


def line(neuron: int, **fields: Any) -> dict[str, Any]:
    return {"layer": 0, "neuron": neuron, **fields}


# A file as an explainer


def test_sentences_of_a_file_score_as_any_explainers_of_theirs(tmp_path: Path) -> None:
    modes = [{"explanation": BETTER_ANIMALS, "strength": 3}, {"explanation": BETTER_COLOURS}]
    file = write(tmp_path / "w.jsonl", line(BOTH.index, form="graded", modes=modes))
    (explainer,) = WrittenSentences.load(file)
    with lab() as session:
        (row,) = session.compare(explainer.neurons, explainer)
        own = session.score_explainer(Own(BETTER_ANIMALS, BETTER_COLOURS), BOTH)
    assert (row.method, row.neuron, row.number) == ("graded", BOTH, 2)
    assert row.joint_score == own.joint_score is not None
    assert row.score == own.score


def test_a_file_has_an_explainer_for_each_form_and_its_own_name_where_a_line_has_none(tmp_path: Path) -> None:
    lines = line(1, form="prose", explanations=["A\u2028B"]), line(2, form="prose", explanations=["C"])
    found = WrittenSentences.load(write(tmp_path / "mine.jsonl", *lines, line(1, sign=-1, explanations=["D"])))
    assert {each.name: each.neurons for each in found} == {
        "prose": [ns.Neuron(0, 1), ns.Neuron(0, 2)],
        "mine": [ns.Neuron(0, 1, -1)],
    }
    assert load_written(tmp_path / "mine.jsonl")["prose"][ns.Neuron(0, 1)][0].explanation == "A\u2028B"


def test_a_neuron_of_which_there_are_no_sentences_has_a_row_that_says_so() -> None:
    with lab() as session:
        (row,) = session.compare([BOTH], WrittenSentences({DEAD: ["Something."]}))
    assert row.joint_score is None
    assert "no sentences of 0/" in row.failures[0].message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"layer": 0, "neuron": 1}', "explanation 1: it has neither `modes` nor `explanations`"),
        ('\n{"layer": 0}', "line 2"),
        ('{"layer": 0, "neuron": 1, "sign": 3, "explanations": ["A"]}', "(?s)line 1.*sign is 1 or -1"),
        ('{"layer": 0, "neuron": 1, "modes": [{"explanation": "A", "strength": 11}]}', "(?s)line 1.*strength"),
        ('{"layer": 0, "neuron": 1, "explanations": [""]}', "(?s)line 1.*explanation"),
        (2 * '{"layer": 0, "neuron": 1, "explanations": ["A"]}\n', "explanation 2: there is another of 0/1 already"),
        ("", "no sentences in"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "w.jsonl").write_text(content)
    with pytest.raises(ns.ConfigurationError, match=message):
        WrittenSentences.load(tmp_path / "w.jsonl")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ns.ConfigurationError, match=r"none\.jsonl"):
        load_written(tmp_path / "none.jsonl")


# The command


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["experiment", "sentences", *map(str, arguments)], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any) -> Iterator[list[str | Path]]:
    """Two files on a random model: one with a strong reader's predictions, one of a run, and the settings."""
    folder = tmp_path_factory.mktemp("sentences")
    world = write_small_world(folder, tiny_tokenizer)
    texts = [
        {"tokens": ["the", " red", " road"], "predicted": {"1": 8}, "actual": {"1": 9.0, "2": 1.0}},
        {"tokens": ["a", " blue", " house"], "predicted": {"2": 2}, "actual": {"1": 5.0}},
    ]
    prose = [line(n, form="prose", modes=[{"explanation": text}], texts=texts) for n, text in ((2, AFTER), (3, BEFORE))]
    history = [{"explanation": BEFORE, "val_score": 0.1}, {"explanation": AFTER, "val_score": 0.6}]
    mode = {"explanation": AFTER, "history": history, "unrefined_test_score": 0.05, "test_score": 0.15}
    settings = "--llm offline --simulator hybrid --seq-len 16 --n-tokens 4000 --max-iterations 1 --n-candidates 2 "
    settings += "--corpus-ranked 0 --corpus-random 0 --null-explanations 0"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEURONSCOPE_CACHE", str(folder / "cache"))
        yield [
            write(folder / "prose.jsonl", *prose),
            write(folder / "runs.jsonl", line(3, modes=[mode])),
            *("--readings", folder / "prose.jsonl", "--subject", world.model, "--corpus", world.texts),
            *settings.split(),
        ]


@pytest.fixture(scope="module")
def out(arguments: list[str | Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    result = run(*arguments, "--out", folder)
    assert result.exit_code == 0, result.output
    assert "| prose | 2 | 1.0 |" in result.stdout
    return folder


def test_each_form_stands_beside_a_null_the_strong_reader_and_the_other_methods(out: Path) -> None:
    found = json.loads((out / "sentences.json").read_text())
    scores = {(row["neuron"], row["method"]): row["joint_score"] for row in found["scores"]}
    forms = {row["form"]: row for row in found["forms"]}
    assert {"prose", "runs, before refinement", "runs, after refinement"} == forms.keys()
    for form, neurons in (("prose", ["0/2", "0/3"]), ("runs, after refinement", ["0/3"])):
        for method in ("neuronscope", "token_lookup"):
            assert forms[form][method]["value"] == pytest.approx(fmean(scores[each, method] for each in neurons))
        assert forms[form]["joint"]["value"] == pytest.approx(fmean(scores[each, form] for each in neurons))
    read = [each["strong"] for each in found["readings"] if each["form"] == "prose"]
    assert forms["prose"]["strong_reader"]["value"] == pytest.approx(fmean(read))
    assert forms["runs, after refinement"]["strong_reader"]["value"] is None
    null = {each: scores[each, "prose, another neuron's"] for each in ("0/2", "0/3")}
    assert null["0/3"] == scores["0/3", "runs, after refinement"], "the other neuron's sentence is the same one"
    pairs = {(each["first"], each["second"]): each["mean"] for each in found["differences"]}
    assert pairs["prose", "token_lookup"] == pytest.approx(
        forms["prose"]["joint"]["value"] - forms["prose"]["token_lookup"]["value"]
    )
    assert pairs["runs, after refinement", "prose"] == pytest.approx(
        scores["0/3", "runs, after refinement"] - scores["0/3", "prose"]
    )


def test_a_run_has_what_it_recorded_beside_what_is_measured(out: Path) -> None:
    (found,) = json.loads((out / "sentences.json").read_text())["refinement"]
    rows = {row["what"]: (row["before"]["value"], row["after"]["value"]) for row in found["rows"]}
    assert rows["Score, validation, as recorded"] == (0.1, 0.6)
    assert rows["Score, test, as recorded"] == (0.05, 0.15)
    assert rows["joint, test"][0] != rows["joint, test"][1]
    assert rows["joint, test"] == rows["Score, test"], "with one mode they are one"


def test_no_sentence_is_copied_into_the_data(out: Path) -> None:
    assert AFTER not in (out / "sentences.json").read_text()


def test_scores_are_kept_and_other_sentences_are_scored_anew(
    out: Path, arguments: list[str | Path], tmp_path: Path
) -> None:
    kept = {path: path.stat().st_mtime_ns for path in out.glob("**/scores/*/*.json")}
    before = (out / "sentences.json").read_bytes()
    assert run(*arguments, "--out", out).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in out.glob("**/scores/*/*.json")} == kept
    assert (out / "sentences.json").read_bytes() == before
    other = write(tmp_path / "runs.jsonl", line(3, explanations=['This neuron activates on "cat".']))
    assert run(other, *arguments[4:], "--methods", "token_lookup", "--out", out).exit_code == 0
    found = json.loads((out / "sentences.json").read_text())
    assert [row["method"] for row in found["scores"]] == ["runs", "token_lookup"]


def test_two_files_with_one_form_are_refused(arguments: list[str | Path], tmp_path: Path) -> None:
    refused = run(arguments[0], *arguments, "--out", tmp_path)
    assert refused.exit_code == 1
    assert "Two files have sentences of the form 'prose'" in refused.output
