"""Runs that a file describes, on the command line, with a small random model and no language model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

import neuronscope as ns
from neuronscope import cli
from neuronscope.runs.costs import Cost
from neuronscope.runs.spec import RunSpec, Selection

WORDS = ["red", "green", "cat", "dog", "house", "road", "quiet", "near"]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments], prog_name="neuronscope")


@pytest.fixture
def described(tmp_path: Path, tiny_llama: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that describes a run of a random model on a small text."""
    monkeypatch.setenv("NEURONSCOPE_CACHE", str(tmp_path / "cache"))
    tiny_llama.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    lines = [" ".join(WORDS[(number * step) % len(WORDS)] for step in range(1, 6)) for number in range(200)]
    (tmp_path / "texts.txt").write_text("\n\n".join(f"{number} {line}" for number, line in enumerate(lines)))
    spec = tmp_path / "run.yaml"
    spec.write_text(
        f"""
subject: {tmp_path / "model"}
corpus: {tmp_path / "texts.txt"}
neurons:
  - 1/3
  - 1/3/-
  - {{layers: [0, 2], n: 2, by: random, seed: 4}}
llm: offline
embeddings: minilm
simulator: hybrid
config: {{seq_len: 16, max_iterations: 1, n_tokens: 20000}}
out: {tmp_path / "run"}
"""
    )
    return spec


def test_a_described_run_is_explained_shown_and_gone_on_with(described: Path, tmp_path: Path) -> None:
    first = run("run", described)
    assert first.exit_code == 0, first.output
    saved = sorted(file.name for file in (tmp_path / "run" / "results").glob("*.json"))
    assert len(saved) == 6
    assert {"1-3.json", "1-3-negative.json"} <= set(saved)
    assert "1/3/-" in first.output
    assert "6 neurons" in first.output
    before = {name: (tmp_path / "run" / "results" / name).stat().st_mtime_ns for name in saved}
    again = run("run", described, "--json")
    assert again.exit_code == 0, again.output
    rows = json.loads(again.stdout)["neurons"]
    assert [(row["layer"], row["index"], row["sign"]) for row in rows if row["layer"] == 1] == [(1, 3, -1), (1, 3, 1)]
    assert {name: (tmp_path / "run" / "results" / name).stat().st_mtime_ns for name in saved} == before


def test_options_go_before_the_file(described: Path, tmp_path: Path) -> None:
    done = run("run", described, "--out", tmp_path / "other", "--parallel", "2", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["out"] == str(tmp_path / "other")
    assert len(list((tmp_path / "other" / "results").glob("*.json"))) == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"neurons": ["nine"]}, "'nine' names no neuron"),
        ({"neurons": {"layers": [0], "n": 0}}, "neurons"),
        ({"neurons": {"layers": [], "n": 1}}, "neurons"),
        ({"llms": "offline"}, "llms: Extra inputs are not permitted"),
        ({"config": {"max_iteration": 2}}, "max_iteration"),
        ({"out": None}, "out"),
        ({"engine": "slurm"}, "engine"),
        ({"parallel": 0}, "parallel"),
    ],
)
def test_a_field_that_is_wrong_is_named(change: dict[str, Any], message: str) -> None:
    good = {"subject": "smollm2-135m", "neurons": ["9/740"], "out": "runs/demo"}
    with pytest.raises(ns.ConfigurationError, match=message):
        RunSpec.of(good | change)


@pytest.mark.parametrize("content", [None, "a: b: c", "- 1", "!!python/object/apply:os.system ['true']"])
def test_a_file_that_is_no_description_is_one_line(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "run.yaml").write_text(content)
    failed = run("run", tmp_path / "run.yaml")
    assert failed.exit_code == 1
    assert failed.output.startswith("Error: ")
    assert len(failed.output.splitlines()) == 1


def test_paper_settings_and_selections() -> None:
    spec = RunSpec.of(
        {
            "subject": "s",
            "neurons": ["9/740", {"layers": [5, 9], "n": 3}],
            "out": "o",
            "paper": True,
            "config": {"seed": 3},
        }
    )
    assert spec.settings() == ns.ExplainConfig.paper().model_copy(update={"seed": 3})
    assert spec.layers == [5, 9]
    assert spec.neurons[1] == Selection(layers=[5, 9], n=3, by="frequency")  # type: ignore[index]


def test_costs_are_said_in_what_is_known() -> None:
    assert str(Cost()) == "–"
    assert str(Cost(3, 1200, None)) == "1,200 tokens"
    assert str(Cost(3, 1_200_000, 0.0).plus(Cost(1, 1, 0.5))) == "$0.50"
    assert str(Cost(1, 20_000, 0.5).plus(Cost(1, 5_000, None))) == "25k tokens"
