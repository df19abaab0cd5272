"""`neuronscope store`: what a store holds, without the model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import neuronscope as ns
from neuronscope.cli import main as cli
from neuronscope.exemplars import ExemplarStore
from table_subject import TableSubject

LETTERS = "?abcdefgh"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.app, ["store", *map(str, arguments)], prog_name="neuronscope")


@pytest.fixture
def store(tmp_path: Path) -> ExemplarStore:
    table = np.random.default_rng(0).normal(size=(len(LETTERS), 6)).astype(np.float32)
    texts = [letter * 3 + "abc" * 4 for letter in LETTERS] * 5 + [f"{letter}bc[bold]\x1b" * 2 for letter in LETTERS]
    return ns.collect_exemplars(TableSubject(LETTERS, [table]), texts, [0], 20, 5, cache_dir=tmp_path)


def test_info_tells_what_the_store_was_made_of(store: ExemplarStore) -> None:
    output = run("info", store.path).stdout
    for expected in (
        "planted",
        "texts",
        "train",
        "6, signs +1, -1",
        "per neuron and sign, train 5, feedback 5",
        "when they are asked for",
        "MB",
    ):
        assert expected in output


def test_info_as_json_is_the_stores_own_information(store: ExemplarStore) -> None:
    document = json.loads(run("info", store.path, "--json").stdout)
    assert document["subject"] == store.info["subject"]
    assert document["bytes"] > 0


@pytest.mark.parametrize("by", ["frequency", "max", "random"])
def test_top_lists_the_neurons_that_the_library_chooses(store: ExemplarStore, by: str) -> None:
    document = json.loads(
        run("top", store.path, "--layer", "0", "--by", by, "--n", "4", "--sign", "-1", "--seed", "3", "--json").stdout
    )
    chosen = store.top_neurons(0, 4, by, -1, seed=3)  # type: ignore[arg-type]
    assert [row["index"] for row in document["neurons"]] == [neuron.index for neuron in chosen]
    row = document["neurons"][0]
    assert row["maximum"] == pytest.approx(float(store.max_activation(0, -1)[row["index"]]))
    assert f"{row['frequency']:.3%}" in run("top", store.path, "--layer", "0", "--sign", "-1", "--n", "6").stdout


def test_show_prints_the_top_sequences_with_nothing_hidden(store: ExemplarStore) -> None:
    result = run("show", store.path, "--layer", "0", "--neuron", "2", "--n", "3")
    ranked = store.ranked(ns.Neuron(0, 2), n=3)
    assert result.exit_code == 0
    for each in ranked:
        assert f"{each.activation:.3g}" in result.stdout
    rows = json.loads(run("show", store.path, "--layer", "0", "--neuron", "2", "--n", "3", "--json").stdout)[
        "sequences"
    ]
    assert [row["text"] for row in rows] == ["".join(each.tokens) for each in ranked]
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("top", "--layer", "7"), "layers [0]"),
        (("show", "--layer", "0", "--neuron", "6"), "neurons 0 to 5"),
    ],
)
def test_what_a_store_does_not_hold_is_one_line_and_exit_1(
    store: ExemplarStore, arguments: tuple[str, ...], message: str
) -> None:
    result = run(arguments[0], store.path, *arguments[1:])
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_folder_that_is_no_store_is_one_line_and_exit_1(tmp_path: Path) -> None:
    result = run("info", tmp_path)
    assert result.exit_code == 1
    assert "no exemplar store" in result.stderr
