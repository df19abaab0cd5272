"""Runs that a file describes, on the command line, with a small random model and no language model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

import neuronscope as ns
from neuronscope.cli import main as cli
from neuronscope.display.costs import Cost
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


@pytest.mark.slow
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


@pytest.mark.slow
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
        ({"llms": "offline"}, "no field 'llms'. Did you mean 'llm'"),
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


FAULTY = """
subjct: a model
neurons:
  - 2/5
  - twelve
  - layers: [1]
    n: 0
llm: off
config:
  n_candidate: 3
  noise: "dropp"
budget: a lot
"""


def test_all_that_is_wrong_with_a_file_is_said_at_once_with_its_lines(tmp_path: Path) -> None:
    (tmp_path / "faulty.yaml").write_text(FAULTY)
    with pytest.raises(ns.ConfigurationError) as refused:
        RunSpec.load(tmp_path / "faulty.yaml")
    message = str(refused.value)
    for part in [
        "faulty.yaml has 9 faults",
        "'subject' is missing",
        "'out' is missing",
        "line 2: there is no field 'subjct'. Did you mean 'subject'?",
        "line 5: 'twelve' names no neuron",
        "line 7: neurons.2.n is 0",
        "line 8: llm is False: expected text, in quotes if it is on, off, yes or no",
        "line 10: there is no field 'config.n_candidate'. Did you mean 'n_candidates'?",
        "line 11: config.noise is 'dropp': expected 'drop' or 'keep'. Did you mean 'drop'?",
        "line 12: The budget 'a lot'",
    ]:
        assert part in message


GOOD = "subject: a\nneurons: [0/1]\nout: b\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty: expected fields such as subject"),
        ("just words", "holds 'just words': expected fields"),
        (GOOD + "\tllm: offline\n", "line 4: a tab: YAML is indented with spaces"),
        (GOOD + "out: c\n", "line 4: 'out' stands in line 3 already"),
        (GOOD + "config: {seed: 1, seed: 2}\n", "line 4: 'seed' stands in line 4 already"),
        (GOOD + "llm: openai: gpt\n", "line 4: a colon where none can stand"),
        (GOOD + "parallel: !!int many\n", "line 4: parallel: 'many' cannot be read as int"),
        (GOOD + "cache_dir: 2001-02-31\n", "line 4: cache_dir: '2001-02-31' cannot be read as timestamp"),
        (GOOD + f"parallel: {'7' * 6000}\n", "line 4: parallel: .* cannot be read as int"),
        (GOOD + "config: !!set {a, b}\n", "line 4: config: the tag .*set' is not understood"),
        (GOOD + "---\n" + GOOD, "line 4: a second document"),
        (GOOD + "llm: " + "{a: " * 3000, "nested too deeply|expected"),
        (GOOD.replace("0/1", f"'{'3' * 6000}/1'"), "line 2: .* names no neuron"),
        (GOOD + "".join(f"k{n}: &k{n} [{f'*k{n - 1}, ' * 9 if n else 'x'}]\n" for n in range(9)), "Use fewer aliases"),
        (GOOD + "llm: a\0b\n", r"line 4: the character '\\x00' cannot stand in YAML"),
        (GOOD.encode() + b"llm: gr\xfc\xdf\n", "line 4, is not UTF-8"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ns.ConfigurationError, match=message):
        RunSpec.load(file)


def test_an_option_may_give_what_the_file_leaves_out_and_names_may_be_reused(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("subject: &m a\nneurons: {layers: [1.0, 2], n: 3}\nllm: {default: *m}\n")
    spec = RunSpec.load(tmp_path / "run.yaml", out="elsewhere")
    assert (spec.out, spec.llm, spec.layers) == (Path("elsewhere"), {"default": "a"}, [1, 2])


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
    assert spec.config == ns.ExplainConfig.paper().model_copy(update={"seed": 3})
    assert spec.layers == [5, 9]
    assert spec.neurons[1] == Selection(layers=[5, 9], n=3, by="frequency")  # type: ignore[index]


def test_costs_are_said_in_what_is_known() -> None:
    assert str(Cost()) == "–"
    assert str(Cost(3, 1200, None)) == "1,200 tokens"
    assert str(Cost(3, 1_200_000, 0.0).plus(Cost(1, 1, 0.5))) == "$0.50"
    assert str(Cost(1, 20_000, 0.5).plus(Cost(1, 5_000, None))) == "25k tokens"


def test_the_command_plans_before_anything_is_collected(described: Path, tmp_path: Path) -> None:
    done = run("run", described, "--plan", "--json")
    assert done.exit_code == 0, done.output
    plan = json.loads(done.stdout)
    assert (plan["neurons"], plan["expected"]["requests"], plan["expected"]["dollars"]) == (6, 0, 0)
    assert set(plan["steps"]) == {"opening", "collecting exemplars", "explaining"}
    assert plan["files"]["exemplars"] > 0
    assert not (tmp_path / "run").exists()
    assert not list((tmp_path / "cache").glob("stores/*"))
    assert run("run", described).exit_code == 0
    again = run("run", described, "--plan")
    assert again.exit_code == 0, again.output
    assert "6 of 6 are finished" in again.output
    assert "collecting exemplars" not in again.output


def test_the_command_for_one_neuron_plans_it_too(described: Path, tmp_path: Path) -> None:
    given = ["--corpus", tmp_path / "texts.txt", "--llm", "offline", "--seq-len", "16", "--n-tokens", "20000"]
    done = run("explain", tmp_path / "model", "--layer", "1", "--neuron", "3", *given, "--plan")
    assert done.exit_code == 0, done.output
    assert "Plan: 1 neuron to explain" in done.output
