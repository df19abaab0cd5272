"""The paper's tables and figures: what they are made of, and that what is saved is not done again."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

import neuronscope as ns
from neuronscope.cli.main import app
from neuronscope.experiments.folder import ExperimentFolder
from neuronscope.experiments.paper import MODELS, papers_row
from neuronscope.experiments.spec import ExperimentSpec, depths, load_spec, preset
from small_world import write_small_world


def run(*arguments: str | Path) -> Result:
    """`neuronscope experiment …`, without wrapping."""
    return CliRunner().invoke(app, ["experiment", *map(str, arguments)], env={"COLUMNS": "200"})


def rows(out: Path, name: str = "table1") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((out / f"{name}.json").read_text())["rows"]
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any) -> Iterator[Path]:
    """A folder with a random model, a text, and the spec of an experiment on them; caches are in it, too."""
    folder = tmp_path_factory.mktemp("experiment")
    small = write_small_world(folder, tiny_tokenizer)
    setup = {"corpus": small.texts, "llm": "offline", "embeddings": "minilm", "simulator": "hybrid"}
    config = {**ns.ExplainConfig.paper().model_dump(), "n_tokens": 6000, "max_iterations": 3, "n_candidates": 4}
    subject = {"subject": small.model, "layers": [0, 1], "name": "tiny"}
    spec = {"subjects": [subject], "n": 2, "compared": 2, "parallel": 1, "setup": {**setup, "config": config}}
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEURONSCOPE_CACHE", str(folder / "cache"))
        patch.delenv("OPENAI_API_KEY", raising=False)
        yield folder


@pytest.fixture(scope="module")
def done(world: Path) -> Path:
    """An experiment that is explained, and has its table 1."""
    result = run("table1", "--spec", world / "spec.yaml", "--out", world / "done")
    assert result.exit_code == 0, result.output
    return world / "done"


@pytest.fixture
def copy(done: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(done, tmp_path / "copy"))


# --- what an experiment is made of ------------------------------------------------------------------------------------


def test_the_paper_preset_is_what_the_paper_says() -> None:
    spec, setup = preset("paper"), ns.Setup.paper("any")
    assert {each.label: each.layers for each in spec.subjects} == {
        "Llama-3.1-8B": [5, 10, 20, 31],
        "Gemma-2-2B": [5, 9, 18, 25],
        "Qwen3-4B": [5, 9, 18, 25],
    }
    assert (spec.n, spec.population) == (200, "frequent")
    assert spec.setup.llm == f"batch:{setup.llm}", "the same model, for half of the price"
    assert spec.setup.model_copy(update={"subject": "any", "llm": setup.llm}) == setup


def test_the_small_presets_layers_are_as_deep_as_the_papers() -> None:
    (smollm2, *_) = preset("small").subjects
    assert (smollm2.subject, smollm2.layers, smollm2.stands_for) == ("smollm2-135m", [5, 9, 19, 29], "Llama-3.1-8B")
    assert all(depths(name, model.n_layers) == list(model.layers) for name, model in MODELS.items())


def test_the_papers_own_figures_stand_by_the_layer_that_is_as_deep() -> None:
    row = papers_row("Gemma-2-2B", [3, 6, 12, 17], 12)
    assert row is not None
    assert (row.layer, row.unrefined, row.refined, row.number) == (18, 0.517, 0.619, 2.22)
    assert papers_row("Gemma-2-2B", [3, 6], 6) is None
    assert papers_row("", [5, 9, 19, 29], 9) is None


def test_a_file_changes_a_preset_field_by_field(tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text("{preset: paper, n: 3, setup: {llm: offline, config: {seed: 4}}}")
    spec, paper = load_spec(tmp_path / "e.yaml"), preset("paper")
    assert spec.subjects == paper.subjects
    assert spec.setup.config == paper.setup.config.model_copy(update={"seed": 4})
    assert (spec.n, spec.setup.llm, spec.setup.simulator) == (3, "offline", "transluce")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "large"}, "no preset 'large'"),
        ({"n": 0}, "n is 0"),
        ({"nn": 3}, "no field 'nn'"),
        ({"population": "best"}, "population is 'best'"),
        ({"setup": {"subject": "smollm2-135m"}}, "name the models in 'subjects'"),
        ({"subjects": [{"subject": "a/x", "layers": [1]}, {"subject": "b/x", "layers": [1]}]}, "called 'x'"),
        ({"subjects": [{"subject": "a", "layers": [1], "stands_for": "GPT-4"}]}, "one of Llama-3.1-8B"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text(yaml.safe_dump({"preset": "small", **changes}))
    with pytest.raises(ns.ConfigurationError, match=message):
        load_spec(tmp_path / "e.yaml")


def test_random_neurons_are_drawn_and_frequent_ones_are_not(world: Path) -> None:
    spec = load_spec(world / "spec.yaml")
    drawn = spec.model_copy(update={"population": "random"})
    assert [run.neurons.by for each in (spec, drawn) for run in each.runs(world)] == ["frequency", "random"]  # type: ignore[union-attr]


# --- the folder -------------------------------------------------------------------------------------------------------


def test_what_is_saved_is_not_explained_again_not_even_loaded(copy: Path, world: Path) -> None:
    before = (copy / "table1.json").read_bytes()
    (copy / "table1.json").unlink()
    hidden = (world / "model").rename(world / "hidden")
    try:
        again = run("table1", "--out", copy)
    finally:
        hidden.rename(world / "model")
    assert again.exit_code == 0, again.output
    assert (copy / "table1.json").read_bytes() == before


def test_it_goes_on_where_it_was_stopped_and_gives_the_same_numbers(copy: Path) -> None:
    before = (copy / "table1.json").read_bytes()
    results = sorted((copy / "runs" / "tiny" / "results").iterdir())
    results[0].unlink()
    untouched = {path: path.stat().st_mtime_ns for path in results[1:]}
    assert run("table1", "--out", copy).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in results[1:]} == untouched
    assert (copy / "table1.json").read_bytes() == before


def test_a_folder_of_another_experiment_is_refused_and_the_difference_named(copy: Path) -> None:
    refused = run("table1", "--out", copy, "--n", "3")
    assert refused.exit_code == 1
    assert "another n (2 then, 3 now)" in refused.output
    assert run("table1", "--out", copy, "--parallel", "2").exit_code == 0


def test_nothing_says_which_experiment(tmp_path: Path) -> None:
    refused = run("table1", "--out", tmp_path / "none")
    assert refused.exit_code == 1
    assert "--preset small" in refused.output
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_shards_give_the_numbers_of_one_machine(done: Path, world: Path, tmp_path: Path) -> None:
    given = ("table1", "--spec", world / "spec.yaml", "--out", tmp_path / "out")
    assert run(*given, "--shard", "0/2").exit_code == 0
    early = run(*given)
    assert early.exit_code == 1
    assert "There is no shard 1/2" in early.output
    assert run(*given, "--shard", "1/2").exit_code == 0
    assert run(*given).exit_code == 0
    assert (tmp_path / "out" / "table1.json").read_bytes() == (done / "table1.json").read_bytes()


# --- before paying ----------------------------------------------------------------------------------------------------


def test_a_plan_of_the_paper_needs_neither_its_models_nor_a_key_and_writes_nothing(
    tmp_path: Path, own_cache: None
) -> None:
    planned = run("table1", "--preset", "paper", "--out", tmp_path / "out", "--plan", "--json")
    assert planned.exit_code == 0, planned.output
    found = json.loads(planned.stdout)
    assert [each["left"] for each in found["subjects"].values()] == [800, 800, 800]
    assert found["total"]["dollars"] == pytest.approx(3 * found["subjects"]["Qwen3-4B"]["expected"]["dollars"])
    assert found["total"]["dollars"] > 10
    assert found["total"]["seconds"] is None
    assert not (tmp_path / "out").exists()
    in_words = run("table1", "--preset", "paper", "--out", tmp_path / "out", "--plan").stdout
    assert "by the settings alone" in in_words
    assert "asked in batches, at half of its price" in in_words


def test_a_plan_without_batches_says_what_they_would_cost(tmp_path: Path, own_cache: None) -> None:
    arguments = ("table1", "--preset", "paper", "--out", tmp_path / "out", "--plan")
    batched = json.loads(run(*arguments, "--json").stdout)["total"]["dollars"]
    single = json.loads(run(*arguments, "--llm", "openai:gpt-4o", "--json").stdout)["total"]["dollars"]
    assert batched == pytest.approx(single / 2)
    in_words = run(*arguments, "--llm", "openai:gpt-4o").stdout
    assert f"In batches, `--llm batch:openai:<model>`, the language model would cost ${batched:,.2f}." in in_words


def test_a_plan_counts_what_is_left(copy: Path, world: Path) -> None:
    assert json.loads(run("table1", "--out", copy, "--plan", "--json").stdout)["total"]["simulated_tokens"] == 0
    next((copy / "runs" / "tiny" / "results").iterdir()).unlink()
    assert json.loads(run("table1", "--out", copy, "--plan", "--json").stdout)["subjects"]["tiny"]["left"] == 1


# --- table 1 ----------------------------------------------------------------------------------------------------------


def test_table_1_has_the_means_of_what_is_saved_with_and_without_refinement(done: Path) -> None:
    (each,) = ExperimentFolder(done, ExperimentSpec(**json.loads((done / "experiment.json").read_text()))).subjects
    for row in rows(done):
        found = [x for x in each.results() if x.neuron.layer == row["layer"] and x.modes]
        assert row["with_modes"] == len(found) > 0
        assert row["test"]["value"] == pytest.approx(fmean(x.score or 0.0 for x in found))
        assert row["test_unrefined"]["value"] == pytest.approx(fmean(x.unrefined_score or 0.0 for x in found))
        assert row["number"]["value"] == pytest.approx(fmean(x.number for x in found))
        best = [fmean(mode.val_score or 0.0 for mode in x.modes) for x in found]
        first = [fmean(mode.history[0].val_score or 0.0 for mode in x.modes) for x in found]
        assert row["validation"]["value"] == pytest.approx(fmean(best))
        assert row["validation_unrefined"]["value"] == pytest.approx(fmean(first))
        assert row["validation"]["value"] >= row["validation_unrefined"]["value"]


def test_table_1_as_markdown_has_two_rows_a_layer(done: Path) -> None:
    lines = [line for line in (done / "table1.md").read_text().splitlines() if line.startswith("| tiny")]
    assert [line.split(" | ")[1:3] for line in lines] == [
        ["0", "w/o refinement"],
        ["0", "NeuronScope"],
        ["1", "w/o refinement"],
        ["1", "NeuronScope"],
    ]


# --- methods compared -------------------------------------------------------------------------------------------------


def test_compare_scores_saved_explanations_once_and_another_method_alone(copy: Path, world: Path) -> None:
    first = run("compare", "--out", copy, "--methods", "neuronscope,token_lookup")
    assert first.exit_code == 0, first.output
    scores = {path: path.stat().st_mtime_ns for path in (copy / "compare" / "tiny" / "scores").glob("*/*.json")}
    (row,) = rows(copy, "compare")
    assert len(scores) == 2 * len(row["neurons"]) == 8
    for method in row["methods"]:
        measured = [each["joint_score"] for each in row["scores"] if each["method"] == method["method"]]
        assert method["joint_score"]["value"] == pytest.approx(fmean(measured))
    before = (copy / "compare.json").read_bytes()
    hidden = (world / "model").rename(world / "hidden")
    try:
        assert run("compare", "--out", copy).exit_code == 0
    finally:
        hidden.rename(world / "model")
    assert (copy / "compare.json").read_bytes() == before
    assert run("compare", "--out", copy, "--methods", "neuronscope,token_lookup,unrefined").exit_code == 0
    assert len(rows(copy, "compare")[0]["methods"]) == 3
    assert {path: path.stat().st_mtime_ns for path in scores} == scores


# --- all of it --------------------------------------------------------------------------------------------------------

MADE = ("table1", "convergence", "clusters", "purity", "compare", "all")


@pytest.mark.slow
def test_all_makes_everything_and_the_spec_in_its_folder_makes_it_again(copy: Path, tmp_path: Path) -> None:
    whole = run("all", "--out", copy, "--methods", "neuronscope,token_lookup", "--compared", "1")
    assert whole.exit_code == 0, whole.output
    for name in MADE:
        assert {(copy / f"{name}.{kind}").exists() for kind in ("md", "json")} == {True}
    for name in ("convergence", "compare"):
        assert (copy / f"{name}-tiny.svg").exists()
        assert (copy / f"{name}-tiny.png").exists()
    said, cost = (copy / "reproduce.md").read_text(), json.loads((copy / "cost.json").read_text())
    assert "neuronscope experiment all --spec experiment.json" in said
    assert f"neuronscope | {ns.__version__}" in said
    assert cost["tiny"]["explaining"]["simulated_tokens"] > 0
    assert cost["tiny"]["explaining"]["dollars"] == 0
    again = run("all", "--spec", copy / "experiment.json", "--out", tmp_path / "again")
    assert again.exit_code == 0, again.output
    for name in MADE:
        for kind in ("md", "json"):
            assert (copy / f"{name}.{kind}").read_bytes() == (tmp_path / "again" / f"{name}.{kind}").read_bytes(), name


KILLER = Path(__file__).with_name("killed_experiments.py")


def without_cost(path: Path) -> Any:
    """What a file says but for what it cost."""
    return {name: value for name, value in json.loads(path.read_text()).items() if name != "usage"}


@pytest.mark.slow
def test_killed_while_explaining_and_while_comparing_the_same_command_makes_the_same_folder(
    copy: Path, world: Path, tmp_path: Path
) -> None:
    given = ("--methods", "neuronscope,unrefined,token_lookup", "--compared", "1")
    assert run("all", "--out", copy, *given).exit_code == 0
    out = tmp_path / "killed"
    command = ["experiment", "all", "--spec", world / "spec.yaml", "--out", out, *given]

    def killed_at(part: str, number: int, when: str) -> None:
        child = subprocess.run(
            [sys.executable, KILLER, part, str(number), when, *command], capture_output=True, text=True, check=False
        )
        assert child.returncode == -signal.SIGKILL, child.stderr

    killed_at("/results/", 2, "before")  # explained, and not yet saved
    assert len(list(out.glob("runs/tiny/results/*.json"))) == 1
    assert not (out / "table1.json").exists()
    killed_at("/scores/", 2, "after")
    assert len(list(out.glob("runs/tiny/results/*.json"))) == 4
    assert len(list(out.glob("compare/tiny/scores/*/*.json"))) == 2
    assert not (out / "compare.json").exists()
    last = run(*command[1:])
    assert last.exit_code == 0, last.output

    def files(folder: Path, pattern: str) -> set[Path]:
        return {path.relative_to(folder) for path in folder.glob(pattern)}

    timed = {Path("cost.json"), Path("reproduce.md")}
    for pattern in ("*.json", "*.md", "*.svg", "*.png"):
        assert files(out, pattern) == files(copy, pattern)
        for name in files(copy, pattern) - timed:
            assert (out / name).read_bytes() == (copy / name).read_bytes(), name
    for pattern in ("runs/*/results/*.json", "compare/*/scores/*/*.json"):
        assert files(out, pattern) == files(copy, pattern)
        for name in files(copy, pattern):
            assert without_cost(out / name) == without_cost(copy / name), name
