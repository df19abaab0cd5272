"""The command line: what it prints where, and how it answers bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import neuronscope as ns
from neuronscope.cli import main as cli
from neuronscope.results import Mode, NeuronExplanation
from neuronscope.types import Neuron

EXPLAIN = ["explain", "smollm2-135m", "--layer", "9", "--neuron", "421"]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments], prog_name="neuronscope")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A saved result."""
    mode = Mode("Words for colours.", score=0.5, unrefined_score=0.25)
    explanation = NeuronExplanation(Neuron(9, 421), "explained", [mode], score=0.5, unrefined_score=0.25)
    return explanation.save(tmp_path / "n.json")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `explain_neuron` was called with; it answers with a result at once."""
    arguments: dict[str, Any] = {}

    def explain_neuron(subject: str, **others: Any) -> NeuronExplanation:
        arguments.update(others, subject=subject)
        return NeuronExplanation(Neuron(9, 421), "explained", [Mode("Words for colours.", score=0.5)], score=0.5)

    monkeypatch.setitem(vars(ns), "explain_neuron", explain_neuron)
    return arguments


# --- show -------------------------------------------------------------------------------------------------------------


def test_show_prints_a_saved_result(saved: Path) -> None:
    result = run("show", saved)
    assert result.exit_code == 0
    assert "Words for colours." in result.stdout
    assert "0.25 → 0.50" in result.stdout


@pytest.mark.parametrize("place", ["before", "after"])
def test_json_prints_the_whole_result_and_nothing_else(saved: Path, place: str) -> None:
    result = run("--json", "show", saved) if place == "before" else run("show", saved, "--json")
    assert NeuronExplanation.from_json(result.stdout) == NeuronExplanation.load(saved)


def test_json_is_valid_utf8_whatever_the_text(tmp_path: Path) -> None:
    explanation = NeuronExplanation(Neuron(0, 0), "explained", [Mode("half \ud83d, whole 🙂")])
    result = run("show", explanation.save(tmp_path / "n.json"), "--json")
    assert json.loads(result.stdout_bytes.decode())["modes"][0]["explanation"] == "half \ud83d, whole 🙂"


def test_show_writes_the_page(saved: Path, tmp_path: Path) -> None:
    page = tmp_path / "pages" / "n.html"
    result = run("show", saved, "--html", page)
    assert page.read_text("utf-8").startswith("<!doctype html>")
    assert str(page) in result.stderr.replace("\n", "")


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), ("{", "not a saved explanation"), ('{"schema_version": 99}', "form 99")],
)
def test_a_file_that_is_no_result_is_one_line_and_exit_1(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "n.json"
    if content is not None:
        path.write_text(content)
    result = run("show", path, "--json")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = run("--debug", "show", tmp_path / "absent.json")
    assert isinstance(result.exception, ns.ResultError)


# --- explain ----------------------------------------------------------------------------------------------------------


def test_explain_is_one_call_of_the_library(asked: dict[str, Any]) -> None:
    result = run(*EXPLAIN, "--sign", "-1", "--llm", "offline", "--simulator", "hybrid", "--embeddings", "minilm")
    assert result.exit_code == 0, result.output
    assert asked == {
        "subject": "smollm2-135m",
        "layer": 9,
        "neuron": 421,
        "sign": -1,
        "llm": "offline",
        "embeddings": "minilm",
        "simulator": "hybrid",
        "config": None,
    }
    assert "Words for colours." in result.stdout


def test_a_model_per_agent_an_address_and_a_budget(asked: dict[str, Any]) -> None:
    models = ["--llm", "refinement=openai:a=b", "--llm", "default=offline"]
    result = run(*EXPLAIN, *models, "--base-url", "http://127.0.0.1:8080/v1", "--budget", "5$")
    assert result.exit_code == 0, result.output
    assert asked["llm"] == {"refinement": "openai:a=b", "default": "offline"}
    assert (asked["base_url"], asked["budget"]) == ("http://127.0.0.1:8080/v1", "5$")


def test_without_a_model_it_is_auto_and_one_name_may_hold_anything(asked: dict[str, Any]) -> None:
    run(*EXPLAIN)
    assert "llm" not in asked
    run(*EXPLAIN, "--llm", "openai:m@http://127.0.0.1/v1?x=y")
    assert asked["llm"] == "openai:m@http://127.0.0.1/v1?x=y"


@pytest.mark.parametrize("models", [["--llm", "openai:a", "--llm", "openai:b"], ["--llm", "a=b", "--llm", "judge=c"]])
def test_several_models_that_are_nobodys_are_bad_usage(asked: dict[str, Any], models: list[str]) -> None:
    result = run(*EXPLAIN, *models)
    assert result.exit_code == 2
    assert "hypothesis" in result.stderr


def test_explain_saves_the_result_and_the_page(asked: dict[str, Any], tmp_path: Path) -> None:
    out, html = tmp_path / "new" / "n.json", tmp_path / "n.html"
    assert run(*EXPLAIN, "--out", out, "--html", html).exit_code == 0
    assert NeuronExplanation.load(out).modes[0].explanation == "Words for colours."
    assert "Words for colours." in html.read_text("utf-8")


def test_explain_with_json_prints_the_result_and_nothing_else(asked: dict[str, Any], tmp_path: Path) -> None:
    result = run(*EXPLAIN, "--json", "--out", tmp_path / "n.json")
    assert NeuronExplanation.from_json(result.stdout).score == 0.5


@pytest.mark.parametrize("name", ns.ExplainConfig.model_fields)
def test_every_setting_is_an_option_with_its_description(name: str) -> None:
    field = ns.ExplainConfig.model_fields[name]
    option = next(
        parameter
        for parameter in cli.typer.main.get_command(cli.app).commands["explain"].params
        if parameter.name == name
    )
    assert option.opts == [f"--{name.replace('_', '-')}"]
    assert field.description
    assert field.description.split(":")[0] in option.help


def test_what_has_no_default_is_said_to_have_none() -> None:
    command = cli.typer.main.get_command(cli.app).commands["explain"]
    told = {parameter.name: parameter.help for parameter in command.params}
    assert "(default" not in told["subject"]
    assert told["corpus"].endswith("(default: builtin)")


def test_settings_reach_the_library(asked: dict[str, Any]) -> None:
    result = run(*EXPLAIN, "--n-tokens", "150000", "--noise", "keep", "--patience", "none", "--min-improvement", "0.01")
    assert result.exit_code == 0, result.output
    assert asked["config"] == ns.ExplainConfig(n_tokens=150_000, noise="keep", patience=None, min_improvement=0.01)


def test_paper_starts_from_the_papers_settings(asked: dict[str, Any]) -> None:
    assert run(*EXPLAIN, "--paper", "--seed", "3").exit_code == 0
    assert asked["config"] == ns.ExplainConfig.paper().model_copy(update={"seed": 3})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-iterations", "many"], "--max-iterations many"),
        (["--noise", "louder"], "--noise louder"),
        (["--n-tokens", "0"], "--n-tokens 0"),
        (["--n-tokenz", "10"], "No such option"),
        (["--layer", "-1"], "Invalid value"),
        (["--sign", "up"], "Invalid value"),
    ],
)
def test_bad_usage_is_exit_2_and_names_the_option(asked: dict[str, Any], arguments: list[str], message: str) -> None:
    result = run(*EXPLAIN, *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert not asked


def test_a_result_that_cannot_be_saved_is_told_before_the_work(asked: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run(*EXPLAIN, "--out", tmp_path / "file" / "n.json")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert not asked


def test_ctrl_c_is_one_line_and_exit_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: Any, **others: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(vars(ns), "explain_neuron", interrupt)
    result = run(*EXPLAIN)
    assert result.exit_code == 130
    assert result.stderr == "Interrupted. Run the same again to go on.\n"


def test_control_characters_of_an_error_do_not_reach_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **others: Any) -> None:
        raise ns.LLMError("the model said \x1b[31mno\x1b[0m\nand more")

    monkeypatch.setitem(vars(ns), "explain_neuron", fail)
    assert run(*EXPLAIN).stderr == "Error: the model said ␛[31mno␛[0m and more\n"


# --- collect ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "layers"), [("5,9", [5, 9]), ("9, 5,5", [5, 9]), ("0-3", [0, 1, 2, 3]), ("0-1,7", [0, 1, 7])]
)
def test_layers_are_lists_and_ranges(text: str, layers: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def check(subject: str, neurons: list[tuple[int, int]]) -> None:
        asked.extend(layer for layer, _ in neurons)
        raise ns.SubjectError("That is enough.")

    monkeypatch.setattr("neuronscope.resources.check_before_loading", check)
    assert run("collect", "smollm2-135m", "--layers", text).exit_code == 1
    assert asked == layers


@pytest.mark.parametrize("text", ["", "a", "3-1", "-1", "1-", "1;2", "5,"])
def test_layers_that_are_neither_are_bad_usage(text: str) -> None:
    assert run("collect", "smollm2-135m", f"--layers={text}").exit_code == 2


@pytest.fixture
def model_at_hand(monkeypatch: pytest.MonkeyPatch, smollm2: Any) -> None:
    """Commands get the real small model that the tests have loaded already."""
    monkeypatch.setattr("neuronscope.subject.loading.load_subject", lambda name: smollm2)


@pytest.mark.slow
@pytest.mark.usefixtures("model_at_hand")
def test_collect_prints_where_the_store_is_and_what_is_in_it(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(f"Sentence number {n} is about the weather in town {n}." for n in range(60)))
    arguments = ["collect", "smollm2-135m", "--layers", "0,1", "--corpus", corpus, "--cache-dir", tmp_path / "stores"]
    printed = json.loads(run(*arguments, "--json").stdout)
    assert printed["layers"] == [0, 1]
    assert set(printed["n_tokens"]) == {"train", "feedback", "validation", "test"}
    assert ns.open_store(printed["path"]).layers == [0, 1]
    assert printed["path"] in run(*arguments).stdout.replace("\n", "")
    kept = ns.open_store(json.loads(run(*arguments, "--keep-activations", "--json").stdout)["path"])
    assert kept.exemplars(kept.top_neurons(1, 1)[0], "test", 3)  # without the model


@pytest.mark.usefixtures("model_at_hand")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["collect", "smollm2-135m", "--layers", "30"], "there is no layer 30"),
        (["collect", "smollm2-135m", "--layers", "0", "--corpus", "absent.txt"], "There is no corpus 'absent.txt'"),
        (["explain", "smollm2-135m", "--layer", "30", "--neuron", "0", "--llm", "offline"], "there is no layer 30"),
        (["explain", "smollm2-135m", "--layer", "9", "--neuron", "1536", "--llm", "offline"], "no neuron 1536"),
        (["explain", "smollm2-135m", "--layer", "9", "--neuron", "0", "--sign", "0"], "sign is 1 or -1, not 0"),
        ([*EXPLAIN, "--llm", "offline", "--simulator", "oracle"], "no simulator 'oracle'"),
        ([*EXPLAIN, "--llm", "offline", "--corpus", "absent.txt"], "There is no corpus 'absent.txt'"),
    ],
)
def test_what_does_not_exist_is_one_line_and_exit_1(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("Error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


# --- the command itself -----------------------------------------------------------------------------------------------


def test_version() -> None:
    assert run("--version").stdout == f"neuronscope {ns.__version__}\n"


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from neuronscope.cli.main import app; app(['--help'], standalone_mode=False);"
        "heavy = {'torch', 'transformers', 'langchain_core', 'langgraph', 'numpy', 'jinja2'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines()[-1] == "[]"


def test_python_m_neuronscope_is_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "neuronscope", "show", str(tmp_path / "absent.json")]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 1
    assert finished.stderr.startswith("Error: Cannot read ")
    assert finished.stderr.count("\n") == 1


def test_every_kind_of_error_has_its_section_in_the_documentation() -> None:
    page = (Path(__file__).parents[1] / "docs" / "errors.md").read_text("utf-8")
    kinds = [kind.__name__ for kind in ns.NeuronScopeError.__subclasses__() if kind.__module__ == "neuronscope.errors"]
    assert [kind for kind in kinds if f"## `{kind}`" not in page] == []
