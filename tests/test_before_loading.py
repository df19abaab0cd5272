"""What is wrong with a call is said before anything is loaded, collected or paid for, with the nearest name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import neuronscope as ns
from neuronscope.cli import main as cli
from neuronscope.subject.layout import find_parts
from neuronscope.subject.shape import shape_beyond


@pytest.fixture
def model(tmp_path: Path, tiny_llama: Any, tiny_tokenizer: Any) -> str:
    """A folder with a model of three layers of 12 neurons."""
    tiny_llama.save_pretrained(tmp_path / "a model")
    tiny_tokenizer.save_pretrained(tmp_path / "a model")
    return str(tmp_path / "a model")


@pytest.fixture(autouse=True)
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*arguments: Any, **others: Any) -> None:
        raise AssertionError("the weights are loaded")

    monkeypatch.setattr("neuronscope.subject.loading.load_model", load)
    monkeypatch.setattr("neuronscope.simulators.causal_lm.load_model", load)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def run_of(subject: str, layer: int, index: int, folder: Path, **changes: Any) -> list[ns.NeuronExplanation]:
    neurons = [f"{layer}/{index}", {"layers": [0], "n": 1}]
    document = {"subject": subject, "neurons": neurons, "llm": "offline", "out": str(folder / "run")}
    return list(ns.run(ns.RunSpec.of(document | changes)))


CALLS: dict[str, Callable[..., Any]] = {
    "explain_neuron": lambda model, layer, index, folder, **more: ns.explain_neuron(
        model, layer=layer, neuron=index, **({"llm": "offline"} | more)
    ),
    "explain_neurons": lambda model, layer, index, folder, **more: list(
        ns.explain_neurons([(0, 0), (layer, index)], model, **({"llm": "offline"} | more))
    ),
    "Setup": lambda model, layer, index, folder, **more: ns.Setup(**({"subject": model, "llm": "offline"} | more)).open(
        neurons=[(layer, index)]
    ),
    "evaluate": lambda model, layer, index, folder, **more: ns.evaluate("A.", (layer, index), subject=model, **more),
    "run": run_of,
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("layer", "index", "message"), [(3, 0, "layers 0 to 2"), (2, 12, "neurons 0 to 11")])
def test_a_layer_or_neuron_that_a_model_does_not_have(
    model: str, tmp_path: Path, call: str, layer: int, index: int, message: str
) -> None:
    with pytest.raises(ns.SubjectError, match=f"a model has {message}|a model has neurons|of {message}|{message}"):
        CALLS[call](model, layer, index, tmp_path)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"simulator": "transluse"}, "no simulator 'transluse'. Did you mean 'transluce'?"),
        ({"simulator": "hybird", "corpus": "x"}, "Did you mean 'hybrid'?"),
        ({"llm": "ofline"}, "Did you mean 'offline'?"),
        ({"llm": "antropic:claude"}, "Did you mean 'anthropic'?"),
        ({"embeddings": "minilmm"}, "Did you mean 'minilm'?"),
        ({"corpus": "bultin"}, "no corpus 'bultin'. Did you mean 'builtin'?"),
        ({"corpus": "texts/absent.jsonl"}, "no corpus 'texts/absent.jsonl'"),
    ],
)
def test_a_name_that_is_nearly_right(
    model: str, tmp_path: Path, call: str, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(ns.NeuronScopeError) as refused:
        CALLS[call](model, 0, 0, tmp_path, **wrong)
    assert message in " ".join(str(refused.value).split())


def test_other_names_that_are_nearly_right(model: str) -> None:
    with pytest.raises(ns.ConfigurationError, match=r"'retreival'\. Did you mean 'retrieval'"):
        ns.evaluate("A.", (0, 0), ["retreival"], subject=model)
    with pytest.raises(ns.ConfigurationError, match=r"'raay'\. Did you mean 'ray'"):
        list(ns.explain_neurons([(0, 0)], model, engine="raay"))
    with pytest.raises(ns.ConfigurationError, match=r"'refinment'\. Did you mean 'refinement'"):
        ns.explain_neuron(model, layer=0, neuron=0, llm={"refinment": "offline", "default": "offline"})
    with pytest.raises(ns.ConfigurationError, match=r"'config.sed'\. Did you mean 'seed'"):
        ns.explain_neuron(model, layer=0, neuron=0, llm="offline", config={"sed": 1})  # type: ignore[arg-type]
    with pytest.raises(ns.ConfigurationError, match=r"'simulater'\. Did you mean 'simulator'"):
        list(ns.explain_neurons([(0, 0)], model, simulater="hybrid"))  # type: ignore[call-arg]
    with pytest.raises(ns.ConfigurationError, match="nothing to evaluate on"):
        ns.evaluate("A.", (0, 0), simulator="transluce")


def test_a_runs_folder_is_looked_at_before_the_work(model: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "run" / ".lock").mkdir(parents=True)
    for out in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / "run"):
        with pytest.raises(ns.ConfigurationError, match="cannot be made or written"):
            list(ns.explain_neurons([(0, 0)], model, llm="offline", out=out))
        with pytest.raises(ns.ConfigurationError, match="cannot be made or written"):
            run_of(model, 0, 0, tmp_path, out=str(out))


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox", "phi3", "qwen2", "gemma2", "gemma3_text", "opt"])
def test_the_shape_of_a_model_is_that_of_its_modules(kind: str, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "vocab_size": 99, "pad_token_id": 0}
    width = {"gpt2": {}, "opt": {"ffn_dim": 24}}.get(kind, {"intermediate_size": 24})
    real = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes, **width))
    real.config.save_pretrained(tmp_path / kind)
    widths = find_parts(real).widths
    beyond = shape_beyond(tmp_path / kind, [(0, 0), (len(widths), 0)])
    assert beyond is not None
    assert (beyond.name, beyond.widths) == (kind, widths)
    within = shape_beyond(tmp_path / kind, [(len(widths) - 1, widths[-1] - 1)])
    assert within is None or within.widths == widths


def test_the_alias_is_known_and_what_cannot_be_read_is_left_to_the_loading(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"num_hidden_layers": "many"}))
    assert shape_beyond(tmp_path, [(99, 0)]) is None
    assert shape_beyond("no/such-model", [(99, 0)]) is None
    assert shape_beyond(tmp_path / "absent.gguf", [(99, 0)]) is None
    known = shape_beyond("smollm2-135m", [(99, 0)])
    assert known is not None
    assert (known.n_layers, known.width(29)) == (30, 1536)


# --- on the command line ----------------------------------------------------------------------------------------------


def run(*arguments: str | Path) -> Any:
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments], prog_name="neuronscope")
    result.said = " ".join(result.stderr.replace("│", " ").split())  # type: ignore[attr-defined]
    return result


def test_collect_looks_at_everything_first(model: str) -> None:
    assert "layers 0 to 2; there is no layer 3" in run("collect", model, "--layers", "0-3").said
    assert "Did you mean 'paper'?" in run("collect", model, "--layers", "0", "--corpus", "papper").said
    assert "Did you mean 'local'?" in run("collect", model, "--layers", "0", "--engine", "locall").said


@pytest.mark.parametrize("several", ["3,4", "3-9", "3 4", "9/740", "3;4"])
def test_several_neurons_are_what_run_is_for(model: str, several: str) -> None:
    for command in (["explain", model], ["evaluate", model, "--explanation", "A."]):
        result = run(*command, "--layer", "1", "--neuron", several)
        assert result.exit_code == 2
        assert "neuronscope run FILE" in result.said


@pytest.mark.parametrize("value", ["-3", "three", "3.5", "", "9" * 400])
def test_an_index_is_a_number_from_0(model: str, value: str) -> None:
    result = run("explain", model, "--layer", "1", f"--neuron={value}")
    assert result.exit_code == 2
    assert "Invalid value for '--neuron'" in result.said


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [(["top", "--by", "frequncy"], "frequency"), (["show", "--neuron", "1", "--split", "trian"], "train")],
)
def test_choices_offer_the_nearest(arguments: list[str], hint: str, tmp_path: Path) -> None:
    result = run("store", arguments[0], tmp_path, "--layer", "1", *arguments[1:])
    assert result.exit_code == 2
    assert f"Did you mean '{hint}'?" in result.said


@pytest.mark.parametrize("name", ["file/x.json", "file/deeper/x.json"])
def test_places_that_cannot_be_written_are_told_before_the_work(model: str, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    saved = ns.NeuronExplanation(ns.Neuron(0, 0), "dead").save(tmp_path / "saved.json")
    explain = ["explain", model, "--layer", "0", "--neuron", "0", "--llm", "offline"]
    evaluate = ["evaluate", model, "--layer", "0", "--neuron", "0", "--explanation", "A."]
    for command in ([*explain, "--out"], [*explain, "--html"], [*evaluate, "--out"], ["show", saved, "--html"]):
        result = run(*command, tmp_path / name)
        assert result.exit_code == 1, result.output
        assert result.said.startswith("Error: ")
        assert "cannot be written" in result.said


@pytest.mark.parametrize("option", ["--out", "--html"])
def test_a_folder_is_no_file_to_write(model: str, tmp_path: Path, option: str) -> None:
    result = run("explain", model, "--layer", "0", "--neuron", "0", option, tmp_path)
    assert result.exit_code == 2
    assert "is a directory" in result.said


def test_show_names_the_file_that_is_no_result(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"a": 1}')
    (tmp_path / "bytes.json").write_bytes(bytes(range(256)))
    for name, message in [("other.json", "not a saved"), ("bytes.json", "not a saved"), ("", "it is a folder")]:
        for command in (["show", tmp_path / name], ["evaluate", "m", "--result", tmp_path / name]):
            result = run(*command)
            assert result.exit_code == 1
            assert str(tmp_path / name) in result.said
            assert message in result.said


def test_run_takes_the_folder_that_the_file_leaves_out(model: str, tmp_path: Path) -> None:
    spec = tmp_path / "run.yaml"
    spec.write_text(f"subject: {model}\nneurons: [0/1, 7/1]\nllm: offline\n")
    assert "'out' is missing" in run("run", spec).said
    assert "there is no layer 7" in run("run", "--out", tmp_path / "out", spec).said
