"""The recipe for training a simulator: what is trained on what, and what the checkpoint is."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import Trainer, TrainerCallback

import neuronscope as ns
from neuronscope.corpus.documents import split_of
from neuronscope.results import Mode, NeuronExplanation
from neuronscope.simulators.alignment import align
from neuronscope.simulators.finetuned import FinetunedSimulator
from table_subject import TableSubject
from train_simulator import __main__ as recipe
from train_simulator.collator import IGNORED, Collator, Encoder, Row, Sample, carry, divide, levels_of, loss
from train_simulator.compare import bootstrap, correlations, plot_loss, predict, table
from train_simulator.data import ExplainedNeuron, is_held_out, read_jsonl, read_results
from train_simulator.model import SimulatorModel

LETTERS = "abcdefg"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """So small a model computes many times faster with one, and to the same digits each time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
    """Neurons that activate on the two letters that their explanation names."""
    draw = random.Random(0)
    neurons = []
    for named in itertools.combinations(LETTERS, 2):
        exemplars = [exemplar(draw.choices(LETTERS, k=10), named) for _ in range(n_texts)]
        unseen = [each for each in exemplars if split_of(each.text) == "test"]
        trained = [each for each in exemplars if split_of(each.text) != "test"]
        neurons.append(ExplainedNeuron("".join(named), "".join(named), 5.0, trained, unseen))
    return neurons


def trained(neurons: Sequence[ExplainedNeuron], base: Any, out: Path, *more: Any, **options: Any) -> dict[str, Any]:
    """What the command does with these neurons, quickly."""
    given: dict[str, Any] = {"learning_rate": 1e-2, "max_steps": 4, "heldout": 0.2, "bf16": False}
    arguments = [str(each) for name, value in (given | options).items() for each in (f"--{name}", value)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(recipe, "read", lambda *_: neurons)
        return recipe.main(["--explanations", "", "--base", str(base), "--output_dir", str(out), *arguments, *more])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


# --- the whole way ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_learns_a_rule_that_holds_for_neurons_and_texts_it_never_saw(base: Path, tmp_path: Path) -> None:
    report = trained(toy_neurons(), base, tmp_path / "out", max_steps=300, learning_rate=3e-3)
    losses = [line["loss"] for line in report["losses"]]
    assert losses[0] == pytest.approx(np.log(11), abs=1e-3)  # all levels equally likely
    assert np.mean(losses[-20:]) < 0.3 * np.mean(losses[5:15])
    assert len(report["heldout"]) >= 3
    assert report["correlation"] > 0.6
    assert json.loads((tmp_path / "out" / "report.json").read_text("utf-8")) == report


def test_an_untrained_output_layer_says_nothing(base: Path, tmp_path: Path) -> None:
    report = trained(toy_neurons(4), base, tmp_path / "out", max_steps=1, learning_rate=1e-12)
    assert report["correlation"] == pytest.approx(0, abs=0.3)


class Stop(TrainerCallback):
    """Kills a training after its fourth step."""

    def on_step_end(self, arguments: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 4:
            raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize("lora_rank", [0, 4])
def test_a_training_that_was_killed_ends_with_the_same_weights(base: Path, tmp_path: Path, lora_rank: int) -> None:
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.2}))
    options = {"max_steps": 6, "save_steps": 3, "lora_rank": lora_rank}
    trained(toy_neurons(4), base, tmp_path / "whole", **options)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(recipe, "Trainer", lambda **given: Trainer(**given, callbacks=[Stop()]))
        with pytest.raises(KeyboardInterrupt):
            trained(toy_neurons(4), base, tmp_path / "cut", **options)
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    torch.manual_seed(99)  # whatever else has happened meanwhile
    report = trained(toy_neurons(4), base, tmp_path / "cut", **options)
    expected, found = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert [line["step"] for line in report["losses"]] == [1, 2, 3, 4, 5, 6]


# --- the checkpoint ---------------------------------------------------------------------------------------------------


def test_the_checkpoint_is_an_ordinary_folder_that_the_simulator_loads(base: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out = tmp_path / "out"
    trained(toy_neurons(4), base, out)
    tokenizer, model = AutoTokenizer.from_pretrained(out), AutoModelForCausalLM.from_pretrained(out)
    assert tokenizer.pad_token == "<PAD>"
    assert model.config.alias_tokens is False, "it is trained on the special tokens themselves"
    assert len(tokenizer) == 260 == model.get_input_embeddings().weight.shape[0]
    neuron = toy_neurons(1)[0]
    row = Encoder(tokenizer, None).encode(neuron)
    whole = torch.tensor([[*row.explanation_ids, *row.samples[0].token_ids]])
    levels = model(input_ids=whole).logits[0, -10:, :11].softmax(-1) @ torch.arange(11.0)
    simulator = FinetunedSimulator(out, device="cpu", dtype="float32")
    (found,) = simulator.simulate([neuron.explanation], neuron.trained[:1])
    assert found[0] == pytest.approx(levels.detach().numpy(), abs=1e-4)
    assert row.explanation_ids == simulator.explanation_ids(neuron.explanation)
    assert row.samples[0].token_ids == list(simulator.text(neuron.trained[0]).token_ids)


def test_levels_are_not_tied_to_embeddings_and_those_stay_as_they_were(base: Path, tmp_path: Path) -> None:
    trained(toy_neurons(4), base, tmp_path / "out")
    before, after = load_file(base / "model.safetensors"), weights(tmp_path / "out")
    embeddings = before["model.embed_tokens.weight"]
    assert torch.equal(after["model.embed_tokens.weight"][:259], embeddings)
    assert not torch.equal(after["lm_head.weight"][:11], embeddings[:11])
    assert torch.equal(after["lm_head.weight"][11:259], embeddings[11:])


def test_lora_trains_adapters_and_levels_only_and_merges_them(base: Path, tmp_path: Path) -> None:
    simulator = SimulatorModel(base, 4)
    parameters = {name: each for name, each in simulator.model.named_parameters() if each.requires_grad}
    assert all("lora" in name or "lm_head" in name for name in parameters)
    assert any("lm_head" in name for name in parameters)
    for parameter in parameters.values():
        torch.nn.init.normal_(parameter, std=0.1)
    ids = torch.tensor([[3, 2, 1, 4, 5, 6]])
    expected = simulator.model(input_ids=ids).logits.detach()
    simulator.save(tmp_path / "merged")
    from transformers import AutoModelForCausalLM

    found = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")(input_ids=ids).logits[..., :11]
    assert not torch.allclose(expected[0, -1], torch.zeros(11))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert not any("lora" in name for name in weights(tmp_path / "merged"))


# --- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_exemplars_that_share_an_explanation_are_read_as_if_alone(tiny_tokenizer: Any, family: str) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    sizes = {"vocab_size": 259, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 16}
    config = AutoConfig.for_model(family, **sizes, num_key_value_heads=1, intermediate_size=32)
    simulator = SimulatorModel((AutoModelForCausalLM.from_config(config), tiny_tokenizer))
    assert (len(simulator.tokenizer), len(tiny_tokenizer), tiny_tokenizer.pad_token) == (260, 259, "<pad>")
    model = simulator.model.eval()
    torch.nn.init.normal_(model.get_output_embeddings().weight)
    samples = [Sample([7, 8, 9], [1, 2, 3]), Sample([9], [4]), Sample([8, 7], [5, 6])]
    batch = Collator(simulator.padding_id)([Row([3, 4, 5, 6], samples), Row([6, 5], [])])
    del batch["labels"]
    together = model(**batch).logits.detach()
    start = 4
    for sample in samples:
        alone = model(input_ids=torch.tensor([[3, 4, 5, 6, *sample.token_ids]])).logits[0, 4:]
        found = together[0, start : start + len(sample.token_ids)]
        torch.testing.assert_close(found, alone.detach(), atol=1e-5, rtol=1e-4)
        start += len(sample.token_ids)


def test_a_base_that_mixes_exemplars_is_refused(tiny_tokenizer: Any) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model("mamba", vocab_size=259, hidden_size=16, num_hidden_layers=1, state_size=4)
    with pytest.raises(ns.SimulatorError, match="Use another model as the base"):
        SimulatorModel((AutoModelForCausalLM.from_config(config), tiny_tokenizer))


@given(st.lists(st.integers(0, 6), min_size=1, max_size=8), st.integers(1, 4), st.integers(0, 3))
def test_the_rows_have_every_exemplar_once(counts: list[int], per_row: int, seed: int) -> None:
    encoded = [
        Row([neuron] * 5, [Sample([neuron, number], [0, 0]) for number in range(count)])
        for neuron, count in enumerate(counts)
    ]
    rows = divide(encoded, per_row, seed)
    assert rows == divide(encoded, per_row, seed)
    found = sorted((row.explanation_ids[0], *sample.token_ids) for row in rows for sample in row.samples)
    assert found == [(neuron, neuron, number) for neuron, count in enumerate(counts) for number in range(count)]
    assert all(1 <= len(row.samples) <= per_row for row in rows)


def test_only_exemplars_have_labels() -> None:
    rows = [Row([3, 4], [Sample([5, 6], [0, 10])]), Row([3], [Sample([7], [2])])]
    batch = Collator(padding_id=9)(rows)
    assert batch["labels"].tolist() == [[IGNORED, IGNORED, 0, 10], [IGNORED, 2, IGNORED, IGNORED]]
    assert batch["input_ids"].tolist() == [[3, 4, 5, 6], [3, 7, 9, 9]]


def test_the_loss_is_that_of_each_token_at_its_own_place() -> None:
    class Outputs:
        logits = torch.zeros(1, 3, 11)

    Outputs.logits[0, 1, 4] = 100.0
    assert loss(Outputs, torch.tensor([[IGNORED, 4, IGNORED]])).item() == pytest.approx(0)
    assert loss(Outputs, torch.tensor([[IGNORED, 4, 4]])).item() == pytest.approx(np.log(11) / 2)
    assert loss(Outputs, torch.tensor([[IGNORED, 4, 4]]), 4).item() == pytest.approx(np.log(11) / 4)


@given(st.lists(st.floats(0, 20), min_size=1, max_size=20), st.floats(1, 10))
def test_levels_are_tenths_of_the_maximum_within_0_and_10(activations: list[float], maximum: float) -> None:
    values = np.array(activations, np.float32)
    found = levels_of(values, maximum)
    assert ((found >= 0) & (found <= 10)).all()
    assert np.abs(found - np.minimum(values / maximum * 10, 10)).max() <= 0.5 + 1e-6


def test_a_neuron_that_never_activates_is_at_level_0() -> None:
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


# --- what it is trained on -------------------------------------------------------------------------------------------


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
    first, second = read_results(tmp_path / "results", store, top=4, random=3)
    assert first.explanation == 'Fires on "b".'
    assert second.explanation == 'Fires on "a". Fires on "c".'
    assert (first.maximum, second.maximum) == (4.0, 2.0)


def test_documents_of_the_test_split_are_not_trained(store: Any, tmp_path: Path) -> None:
    save_results(tmp_path / "results")
    for neuron in read_results(tmp_path / "results", store, top=4, random=3):
        assert {split_of(each.text) for each in neuron.trained} == {"train", "feedback", "validation"}
        assert {split_of(each.text) for each in neuron.unseen} == {"test"}
        assert len({each.sequence_id for each in neuron.trained}) == len(neuron.trained)


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
    exemplars = sorted([*first.trained, *first.unseen], key=lambda each: each.sequence_id)
    assert (first.explanation, first.maximum, second.maximum) == ("e", 4.0, 1.5)
    assert [each.activations.tolist() for each in exemplars] == [[0, 2], [4]]


@pytest.mark.slow
@pytest.mark.parametrize("lora_rank", ["0", "4"])
def test_the_command_trains_on_a_jsonl_file(base: Path, tmp_path: Path, lora_rank: str) -> None:
    lines = [
        {"explanation": n.explanation, "tokens": list(e.tokens), "activations": e.activations.tolist()}
        for n in toy_neurons(8)
        for e in [*n.trained, *n.unseen]
    ]
    path = write_lines(tmp_path / "data.jsonl", *lines)
    options = ["--max_steps", "2", "--base", str(base), "--output_dir", str(tmp_path / "out"), "--lora_rank", lora_rank]
    report = recipe.main(["--explanations", str(path), *options])
    assert report["neurons"] + len(report["heldout"]) <= 21
    assert report["steps"] == 2
    FinetunedSimulator(tmp_path / "out", device="cpu")


@pytest.mark.slow
def test_the_command_trains_on_saved_results(store: Any, base: Path, tmp_path: Path) -> None:
    save_results(tmp_path / "results")
    read_results(tmp_path / "results", store, top=3, random=2)  # so that no model is needed
    options = {"store": store.path, "top": 3, "random": 2, "heldout": 0, "max_steps": 1}
    arguments = [str(each) for name, value in options.items() for each in (f"--{name}", value)]
    results, out = str(tmp_path / "results"), str(tmp_path / "out")
    report = recipe.main(["--explanations", results, "--base", str(base), "--output_dir", out, *arguments])
    assert (report["neurons"], report["steps"], report["correlation"]) == (2, 1, None)


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


def test_a_folder_of_results_needs_its_store(tmp_path: Path) -> None:
    save_results(tmp_path / "results")
    with pytest.raises(ns.ConfigurationError, match="--store"):
        recipe.main(["--explanations", str(tmp_path / "results"), "--output_dir", str(tmp_path / "out")])


def test_a_folder_without_results_says_so(store: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ns.ConfigurationError, match="no explanation to train on"):
        read_results(tmp_path / "empty", store)


def test_nothing_to_train_on_says_so(base: Path, tmp_path: Path) -> None:
    nothing = ExplainedNeuron("n", "explanation", 1.0, [], [exemplar("ab", "a")])
    with pytest.raises(ns.ConfigurationError, match="nothing to train on"):
        trained([nothing], base, tmp_path / "out")


def test_an_explanation_that_is_too_long_names_its_neuron(base: Path, tmp_path: Path) -> None:
    long = ExplainedNeuron("the long one", "x" * 100, 1.0, [exemplar("abc", "a")], [])
    with pytest.raises(ns.SimulatorError, match=r"128 tokens.*the long one"):
        trained([*toy_neurons(4), long], base, tmp_path / "out")


def test_a_base_that_is_none_says_so(tmp_path: Path) -> None:
    with pytest.raises(ns.SimulatorError, match="The base cannot be loaded"):
        SimulatorModel(tmp_path)


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


def test_the_loss_is_drawn_from_the_report(base: Path, tmp_path: Path) -> None:
    trained(toy_neurons(4), base, tmp_path / "out")
    plot_loss(tmp_path / "out", tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
