"""Training a simulator: what it learns from, how it goes on after a kill, and what it leaves behind."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from typer.testing import CliRunner

import neuronscope as ns
from neuronscope.cli import main as cli
from neuronscope.corpus.documents import split_of
from neuronscope.exemplars.checkpoints import Checkpoints
from neuronscope.experiments.simulators import bootstrap, correlations, plot_loss, predict, table
from neuronscope.results import Mode, NeuronExplanation
from neuronscope.simulators import TrainingSettings, train_simulator
from neuronscope.simulators.alignment import align
from neuronscope.simulators.finetuned import FinetunedSimulator
from neuronscope.simulators.training import ExplainedNeuron, TrainingReport, read_jsonl, read_results
from neuronscope.simulators.training.batches import IGNORED, Encoder, Passage, Row, carry, collate, levels_of, plan
from neuronscope.simulators.training.material import is_held_out
from neuronscope.simulators.training.progress import StepProgress
from neuronscope.simulators.training.report import simulate_unseen
from neuronscope.simulators.training.trainee import Trainee
from table_subject import TableSubject

LETTERS = "abcdefg"
QUICK = TrainingSettings(
    learning_rate=1e-2, epochs=100, max_steps=4, batch_tokens=1024, precision="float32", heldout=0.2
)


def llama(layers: int = 1, **settings: Any) -> Any:
    """A small random Llama that reads bytes; the same weights each time."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {
        "vocab_size": 259,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "initializer_range": 0.2,
        "tie_word_embeddings": True,
    }
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**sizes | settings, num_hidden_layers=layers))


@pytest.fixture
def base(tmp_path: Path, tiny_tokenizer: Any) -> Path:
    """A small model on disk."""
    folder = tmp_path / "base"
    llama().save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


def exemplar(letters: Sequence[str], named: Sequence[str], maximum: float = 5.0) -> ns.Exemplar:
    activations = np.array([maximum * (letter in named) for letter in letters], np.float32)
    return ns.Exemplar(list(letters), [], activations, 0, "toy")


def toy_neurons(n_texts: int = 40) -> list[ExplainedNeuron]:
    """Neurons that fire on the two letters that their explanation names."""
    draw = random.Random(0)
    neurons = []
    for named in itertools.combinations(LETTERS, 2):
        exemplars = [exemplar(draw.choices(LETTERS, k=10), named) for _ in range(n_texts)]
        unseen = [each for each in exemplars if split_of(each.text) == "test"]
        learnt = [each for each in exemplars if split_of(each.text) != "test"]
        neurons.append(ExplainedNeuron("".join(named), "".join(named), 5.0, learnt, unseen))
    return neurons


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "training" / "log.jsonl").read_text("utf-8").splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


# --- the whole way ----------------------------------------------------------------------------------------------------


def test_it_learns_a_rule_that_holds_for_neurons_and_texts_it_never_saw(base: Path, tmp_path: Path) -> None:
    report = train_simulator(
        toy_neurons(), tmp_path / "out", base=base, settings=QUICK.model_copy(update={"max_steps": 300}), device="cpu"
    )
    losses = [line["loss"] for line in log(tmp_path / "out")]
    assert losses[0] == pytest.approx(np.log(11), abs=1e-4)  # all levels equally likely
    assert np.mean(losses[-20:]) < 0.3 * np.mean(losses[5:15])
    assert len(report.heldout) >= 3
    assert report.correlation is not None
    assert report.correlation > 0.6


def test_an_untrained_output_layer_says_nothing(base: Path, tmp_path: Path) -> None:
    settings = QUICK.model_copy(update={"max_steps": 1, "learning_rate": 1e-12})
    report = train_simulator(toy_neurons(4), tmp_path / "out", base=base, settings=settings, device="cpu")
    assert report.correlation == pytest.approx(0, abs=0.3)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_training_that_was_killed_ends_with_the_same_weights(
    base: Path, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.2}))
    settings = QUICK.model_copy(update={"max_steps": 6, "method": method, "lora_rank": 4})
    monkeypatch.setattr(Checkpoints, "due", lambda self: True)
    train_simulator(toy_neurons(4), tmp_path / "whole", base=base, settings=settings, device="cpu")
    steps: list[float] = []

    def killed_at_step_4(self: StepProgress, loss: float, tokens: int) -> None:
        steps.append(loss)
        if len(steps) == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(StepProgress, "step", killed_at_step_4)
        with pytest.raises(KeyboardInterrupt):
            train_simulator(toy_neurons(4), tmp_path / "cut", base=base, settings=settings, device="cpu")
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    torch.manual_seed(99)  # whatever else has happened meanwhile
    train_simulator(toy_neurons(4), tmp_path / "cut", base=base, settings=settings, device="cpu")
    expected, found = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert [line["step"] for line in log(tmp_path / "cut")] == [1, 2, 3, 4, 5, 6]
    assert [line["loss"] for line in log(tmp_path / "cut")] == [line["loss"] for line in log(tmp_path / "whole")]


def test_what_is_trained_is_not_trained_again(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = train_simulator(toy_neurons(4), tmp_path / "out", base=base, settings=QUICK, device="cpu")
    assert not (tmp_path / "out" / "training" / "checkpoint").exists()
    monkeypatch.setattr(StepProgress, "step", lambda *_: pytest.fail("trained again"))
    assert train_simulator(toy_neurons(4), tmp_path / "out", base=base, settings=QUICK, device="cpu") == first


def test_the_callers_random_state_is_left_alone(base: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    train_simulator(toy_neurons(4), tmp_path / "out", base=base, settings=QUICK, device="cpu")
    assert torch.equal(torch.rand(1), expected)


# --- the checkpoint ---------------------------------------------------------------------------------------------------


def test_the_checkpoint_is_an_ordinary_folder_that_the_simulator_loads(base: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out = tmp_path / "out"
    train_simulator(toy_neurons(4), out, base=base, settings=QUICK, device="cpu")
    tokenizer, model = AutoTokenizer.from_pretrained(out), AutoModelForCausalLM.from_pretrained(out)
    assert tokenizer.pad_token == "<PAD>"
    assert model.config.alias_tokens is False, "it is trained on the special tokens themselves"
    assert len(tokenizer) == 260 == model.get_input_embeddings().weight.shape[0]
    neuron = toy_neurons(1)[0]
    ids = Encoder(tokenizer, None).encode(neuron)
    whole = torch.tensor([[*ids.explanation_ids, *ids.passages[0].token_ids]])
    levels = model(input_ids=whole).logits[0, -10:, :11].softmax(-1) @ torch.arange(11.0)
    (found,) = FinetunedSimulator(out, device="cpu", dtype="float32").simulate([neuron.explanation], neuron.learnt[:1])
    assert found[0] == pytest.approx(levels.detach().numpy(), abs=1e-4)
    assert not list(out.glob(".checkpoint.*"))


def test_levels_are_not_tied_to_embeddings_and_those_stay_as_they_were(base: Path, tmp_path: Path) -> None:
    train_simulator(toy_neurons(4), tmp_path / "out", base=base, settings=QUICK, device="cpu")
    before, after = load_file(base / "model.safetensors"), weights(tmp_path / "out")
    embeddings = before["model.embed_tokens.weight"]
    assert torch.equal(after["model.embed_tokens.weight"][:259], embeddings)
    assert not torch.equal(after["lm_head.weight"][:11], embeddings[:11])
    assert torch.equal(after["lm_head.weight"][11:259], embeddings[11:])


def test_merged_adapters_give_the_same_logits(base: Path, tmp_path: Path) -> None:
    trainee = Trainee(base, "lora", 4, torch.float32, "cpu")
    for parameter in trainee.trained().values():
        torch.nn.init.normal_(parameter, std=0.1)
    row = Row([3, 2, 1], [Passage([4, 5, 6], [0, 0, 0])])
    expected = trainee.logits(collate([row], trainee.padding_id)).detach()
    trainee.save(tmp_path / "merged")
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    found = model(input_ids=torch.tensor([[3, 2, 1, 4, 5, 6]])).logits[..., :11]
    assert not torch.allclose(expected[0, -1], torch.zeros(11))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert not any("lora" in name for name in weights(tmp_path / "merged"))


def test_lora_trains_adapters_and_levels_only(base: Path) -> None:
    names = Trainee(base, "lora", 4, torch.float32, "cpu").trained()
    assert all("lora" in name or "lm_head" in name for name in names)
    assert any("lm_head" in name for name in names)


# --- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_exemplars_that_share_an_explanation_are_read_as_if_alone(
    tmp_path: Path, tiny_tokenizer: Any, family: str
) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    sizes = {"vocab_size": 259, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 16}
    config = AutoConfig.for_model(family, **sizes, num_key_value_heads=1, intermediate_size=32)
    trainee = Trainee((AutoModelForCausalLM.from_config(config), tiny_tokenizer), "full", 1, torch.float32, "cpu")
    trainee.model.eval()
    torch.nn.init.normal_(trainee.levels.weight)
    passages = [Passage([7, 8, 9], [1, 2, 3]), Passage([9], [4]), Passage([8, 7], [5, 6])]
    rows = [Row([3, 4, 5, 6], passages), Row([6, 5], [])]
    together = trainee.logits(collate(rows, trainee.padding_id)).detach()
    start = 4
    for passage in passages:
        alone = trainee.model(input_ids=torch.tensor([[3, 4, 5, 6, *passage.token_ids]])).logits[0, 4:]
        found = together[0, start : start + len(passage.token_ids)]
        torch.testing.assert_close(found, alone.detach(), atol=1e-5, rtol=1e-4)
        start += len(passage.token_ids)


def test_a_base_that_mixes_exemplars_is_refused(tiny_tokenizer: Any) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model("mamba", vocab_size=259, hidden_size=16, num_hidden_layers=1, state_size=4)
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(ns.SimulatorError, match="Use another model as the base"):
        Trainee((model, tiny_tokenizer), "full", 1, torch.float32, "cpu")


@given(st.lists(st.integers(0, 6), min_size=1, max_size=8), st.integers(1, 4), st.integers(1, 200), st.integers(0, 3))
def test_a_plan_has_every_exemplar_once_and_keeps_to_the_budget(
    counts: list[int], per_row: int, budget: int, seed: int
) -> None:
    from neuronscope.simulators.training.batches import Lesson

    lessons = [
        Lesson([neuron] * 5, [Passage([neuron, number], [0, 0]) for number in range(count)])
        for neuron, count in enumerate(counts)
    ]
    batches = plan(lessons, per_row, budget, [seed, 0])
    assert batches == plan(lessons, per_row, budget, [seed, 0])
    rows = [row for batch in batches for row in batch]
    found = sorted((row.explanation_ids[0], *passage.token_ids) for row in rows for passage in row.passages)
    assert found == [(neuron, neuron, number) for neuron, count in enumerate(counts) for number in range(count)]
    assert all(1 <= len(row.passages) <= per_row for row in rows)
    assert all(len(batch) == 1 or len(batch) * max(row.n_tokens for row in batch) <= budget for batch in batches)


def test_only_exemplars_have_targets() -> None:
    batch = collate([Row([3, 4], [Passage([5, 6], [0, 10])]), Row([3], [Passage([7], [2])])], padding_id=9)
    assert batch.targets.tolist() == [[IGNORED, IGNORED, 0, 10], [IGNORED, 2, IGNORED, IGNORED]]
    assert batch.input_ids.tolist() == [[3, 4, 5, 6], [3, 7, 9, 9]]


def test_the_explanation_is_written_as_the_simulator_writes_it(base: Path, tmp_path: Path) -> None:
    train_simulator(toy_neurons(4), tmp_path / "out", base=base, settings=QUICK, device="cpu")
    simulator = FinetunedSimulator(tmp_path / "out", device="cpu")
    neuron = toy_neurons(1)[0]
    lesson = Encoder(simulator.model.tokenizer, None).encode(neuron)
    assert lesson.explanation_ids == simulator.explanation_ids(neuron.explanation)
    assert lesson.passages[0].token_ids == list(simulator.text(neuron.learnt[0]).token_ids)


@given(st.lists(st.floats(0, 20), min_size=1, max_size=20), st.floats(1, 10))
def test_levels_are_tenths_of_the_maximum_within_0_and_10(activations: list[float], maximum: float) -> None:
    values = np.array(activations, np.float32)
    found = levels_of(values, maximum)
    assert ((found >= 0) & (found <= 10)).all()
    assert np.abs(found - np.minimum(values / maximum * 10, 10)).max() <= 0.5 + 1e-6


def test_a_neuron_that_never_fires_is_at_level_0() -> None:
    assert levels_of(np.zeros(3, np.float32), 0.0).tolist() == [0, 0, 0]


def test_a_simulators_token_takes_the_largest_level_of_the_subjects_tokens_it_overlaps(tiny_tokenizer: Any) -> None:
    letters = align(["ab", "c"], tiny_tokenizer)  # the simulator reads bytes
    assert carry(letters, np.array([3, 7])).tolist() == [3, 3, 7]


@given(st.lists(st.text("ab 😀é", min_size=0, max_size=4), min_size=1, max_size=6), st.data())
def test_levels_there_and_back_are_never_lower(tiny_tokenizer: Any, tokens: list[str], data: st.DataObject) -> None:
    aligned = align(tokens, tiny_tokenizer)
    values = np.array([data.draw(st.integers(0, 10)) for _ in tokens])
    if aligned.token_ids:
        assert (aligned.project(carry(aligned, values)) >= values).all()


# --- what it learns from ----------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> ns.ExemplarStore:
    """Exemplars of three planted neurons in 60 short texts."""
    table = np.array([[0, 1, 0], [4, 0, 0], [0, 2, 0]], np.float32)
    subject = TableSubject("abc", [table])
    draw = random.Random(1)
    texts = ["".join(draw.choices("abc", k=20)) for _ in range(60)]
    found = ns.collect_exemplars(subject, corpus=texts, layers=[0], seq_len=20, top_k=5, cache_dir=tmp_path / "stores")
    return found.bind(subject)


def save_results(folder: Path) -> None:
    folder.mkdir()
    modes = [Mode('Fires on "a".'), Mode('Fires on "c".')]
    NeuronExplanation(ns.Neuron(0, 1), "explained", modes).save(folder / "1.json")
    NeuronExplanation(ns.Neuron(0, 0), "explained", [Mode('Fires on "b".')]).save(folder / "0.json")
    NeuronExplanation(ns.Neuron(0, 2), "dead").save(folder / "2.json")


def test_saved_results_give_the_joint_explanation_of_each_living_neuron(store: Any, tmp_path: Path) -> None:
    save_results(tmp_path / "results")
    first, second = read_results(tmp_path / "results", store, TrainingSettings(top=4, random=3))
    assert first.explanation == 'Fires on "b".'
    assert second.explanation == 'Fires on "a". Fires on "c".'
    assert (first.maximum, second.maximum) == (4.0, 2.0)


def test_documents_of_the_test_split_are_not_learnt(store: Any, tmp_path: Path) -> None:
    save_results(tmp_path / "results")
    for neuron in read_results(tmp_path / "results", store, TrainingSettings(top=4, random=3)):
        assert {split_of(each.text) for each in neuron.learnt} == {"train", "feedback", "validation"}
        assert {split_of(each.text) for each in neuron.unseen} == {"test"}
        assert len({each.sequence_id for each in neuron.learnt}) == len(neuron.learnt)


def test_held_out_neurons_stay_held_out_when_others_join() -> None:
    names = [f"mlp/0/{index}/1" for index in range(1000)]
    held_out = {name for name in names if is_held_out(name, 0.15)}
    assert 100 < len(held_out) < 200
    assert held_out == {name for name in reversed(names) if is_held_out(name, 0.15)}
    assert held_out < {name for name in names if is_held_out(name, 0.3)}
    assert not any(is_held_out(name, 0.0) for name in names)


def write_lines(path: Path, *lines: Any) -> Path:
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


def test_lines_with_one_explanation_are_one_neuron(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "data.jsonl",
        {"explanation": "e", "tokens": ["a", "b"], "activations": [-1, 2]},
        "\n",
        {"explanation": "f", "tokens": ["a"], "activations": [1.5]},
        {"explanation": "e", "tokens": ["c"], "activations": [4]},
    )
    first, second = read_jsonl(path)
    exemplars = sorted([*first.learnt, *first.unseen], key=lambda each: each.sequence_id)
    assert (first.explanation, first.maximum, second.maximum) == ("e", 4.0, 1.5)
    assert [each.activations.tolist() for each in exemplars] == [[0, 2], [4]]


def test_a_jsonl_file_trains(base: Path, tmp_path: Path) -> None:
    lines = [
        {"explanation": n.explanation, "tokens": list(e.tokens), "activations": e.activations.tolist()}
        for n in toy_neurons(8)
        for e in [*n.learnt, *n.unseen]
    ]
    path = write_lines(tmp_path / "data.jsonl", *lines)
    report = train_simulator(path, tmp_path / "out", base=base, settings=QUICK, device="cpu")
    assert report.neurons + len(report.heldout) <= 21
    assert report.steps == 4
    assert TrainingReport.load(tmp_path / "out" / "training" / "report.json") == report


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2"),
        ({"explanation": "e", "tokens": ["a"]}, "line 2: activations"),
        ({"explanation": "", "tokens": ["a"], "activations": [1]}, "line 2: explanation"),
        ({"explanation": "e", "tokens": ["a"], "activations": ["x"]}, "line 2: activations"),
        ({"explanation": "e", "tokens": ["a"], "activations": [1, 2]}, "1 tokens, but 2 activations"),
        ('{"explanation": "e", "tokens": ["a"], "activations": [NaN]}', "line 2: activations"),
    ],
)
def test_a_line_of_another_form_is_named(tmp_path: Path, line: Any, message: str) -> None:
    path = write_lines(tmp_path / "data.jsonl", {"explanation": "e", "tokens": ["a"], "activations": [1]}, line)
    with pytest.raises(ns.ConfigurationError, match=message):
        read_jsonl(path)


def test_a_file_without_lines_or_that_is_absent_says_so(tmp_path: Path) -> None:
    with pytest.raises(ns.ConfigurationError, match="is empty"):
        read_jsonl(write_lines(tmp_path / "data.jsonl"))
    with pytest.raises(ns.ConfigurationError, match="Cannot read"):
        read_jsonl(tmp_path / "absent.jsonl")


# --- bad input --------------------------------------------------------------------------------------------------------


def test_a_folder_of_results_needs_its_store(base: Path, tmp_path: Path) -> None:
    save_results(tmp_path / "results")
    with pytest.raises(ns.ConfigurationError, match="--store"):
        train_simulator(tmp_path / "results", tmp_path / "out", base=base)


def test_a_folder_without_results_says_so(store: Any, base: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ns.ConfigurationError, match="no explanation to learn from"):
        train_simulator(tmp_path / "empty", tmp_path / "out", store=store, base=base)


def test_nothing_to_learn_says_so(base: Path, tmp_path: Path) -> None:
    nothing = ExplainedNeuron("n", "explanation", 1.0, [], [exemplar("ab", "a")])
    with pytest.raises(ns.ConfigurationError, match="nothing to learn"):
        train_simulator([nothing], tmp_path / "out", base=base, device="cpu")


def test_a_folder_belongs_to_one_training(base: Path, tmp_path: Path) -> None:
    train_simulator(toy_neurons(4), tmp_path / "out", base=base, settings=QUICK, device="cpu")
    other = QUICK.model_copy(update={"learning_rate": 0.5})
    with pytest.raises(ns.ConfigurationError, match="these differ: learning_rate"):
        train_simulator(toy_neurons(4), tmp_path / "out", base=base, settings=other, device="cpu")
    with pytest.raises(ns.ConfigurationError, match="these differ: lessons"):
        train_simulator(toy_neurons(5), tmp_path / "out", base=base, settings=QUICK, device="cpu")


def test_an_explanation_that_is_too_long_names_its_neuron(base: Path, tmp_path: Path) -> None:
    long = ExplainedNeuron("the long one", "x" * 100, 1.0, [exemplar("abc", "a")], [])
    with pytest.raises(ns.SimulatorError, match=r"128 tokens.*the long one"):
        train_simulator([*toy_neurons(4), long], tmp_path / "out", base=base, settings=QUICK, device="cpu")


def test_a_base_that_is_none_says_so(tmp_path: Path) -> None:
    with pytest.raises(ns.SimulatorError, match="The base cannot be loaded"):
        train_simulator(toy_neurons(4), tmp_path / "out", base=tmp_path, device="cpu")


# --- the command ------------------------------------------------------------------------------------------------------


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(cli.app, ["simulator", "train", *map(str, arguments)], prog_name="neuronscope")


def test_the_command_trains_and_reports(store: Any, base: Path, tmp_path: Path) -> None:
    save_results(tmp_path / "results")
    quick = ["--epochs", 2, "--heldout", 0, "--top", 3, "--random", 2, "--device", "cpu", "--precision", "float32"]
    store.by_id(ns.Neuron(0, 0), [])
    read_results(tmp_path / "results", store, TrainingSettings(top=3, random=2))  # so that no model is needed
    result = run(tmp_path / "results", "--store", store.path, "--base", base, "--out", tmp_path / "out", *quick)
    assert result.exit_code == 0, result.output
    assert "2 neurons" in result.stdout
    assert "no neuron was held out" in result.stdout
    again = run(
        tmp_path / "results", "--store", store.path, "--base", base, "--out", tmp_path / "out", *quick, "--json"
    )
    assert json.loads(again.stdout)["steps"] == 2


@pytest.mark.parametrize("name", TrainingSettings.model_fields)
def test_every_setting_is_an_option(name: str) -> None:
    assert f"--{name.replace('_', '-')}" in run("--help").output


def test_bad_input_is_one_line_and_exit_1(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "data.jsonl", "{")
    result = run(path, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


def test_a_setting_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "data.jsonl", "{")
    assert "--learning-rate" in run(path, "--out", tmp_path / "out", "--learning-rate", "-1").stderr


# --- the comparison of simulators -------------------------------------------------------------------------------------


class NamedLetters:
    """Predicts what the toy neurons do."""

    def simulate(self, explanations: Sequence[str], exemplars: Sequence[ns.Exemplar]) -> list[Any]:
        return [np.array([[10.0 * (t in text) for t in e.tokens] for text in explanations]) for e in exemplars]


def test_a_simulator_that_is_right_correlates_with_every_neuron() -> None:
    neurons = toy_neurons()
    right = predict(NamedLetters(), neurons)
    assert correlations(right, neurons) == pytest.approx(np.ones(21))
    assert correlations([-row for row in right], neurons) == pytest.approx(-np.ones(21))


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30))
def test_an_interval_holds_its_mean_and_stays_within_the_values(values: list[float]) -> None:
    found = bootstrap(np.array(values))
    assert min(values) - 1e-9 <= found.low <= found.mean + 1e-9
    assert found.mean - 1e-9 <= found.high <= max(values) + 1e-9


def test_the_table_compares_with_the_reference() -> None:
    rows = table({"hybrid": np.array([0.2, 0.4]), "other": np.array([0.3, 0.5])}, "hybrid").splitlines()
    assert rows[2].startswith("| hybrid | 0.300 (0.200 to 0.400) |  |")
    assert rows[3].startswith("| other | 0.400 (0.300 to 0.500) | 0.100 (0.100 to 0.100) |")


def test_the_loss_is_drawn_from_the_log(base: Path, tmp_path: Path) -> None:
    train_simulator(toy_neurons(4), tmp_path / "out", base=base, settings=QUICK, device="cpu")
    plot_loss(tmp_path / "out", tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_a_held_out_neuron_that_never_changes_has_no_correlation() -> None:
    class Counting:
        def simulate(self, explanations: Any, exemplars: Any) -> list[Any]:
            return [
                np.tile(np.arange(len(each.tokens), dtype=np.float32), (len(explanations), 1)) for each in exemplars
            ]

    def neuron(name: str, *activations: float) -> ExplainedNeuron:
        exemplar = ns.Exemplar(["a"] * 3, [0] * 3, np.array(activations, np.float32), 0, "")
        return ExplainedNeuron(name, "It counts.", 2.0, [], [exemplar])

    found = simulate_unseen(Counting(), [neuron("silent", 0, 0, 0), neuron("counts", 0, 1, 2)])
    assert [each.correlation for each in found] == [None, pytest.approx(1.0)]
    assert TrainingReport("", "", 1, 1, 1, 1, 1.0, found).correlation == pytest.approx(1.0)
    assert TrainingReport("", "", 1, 1, 1, 1, 1.0, found[:1]).correlation is None
