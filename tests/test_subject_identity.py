"""A subject's identity is what it computes at the moment of asking: whatever changes that in place changes it."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from torch.nn.utils import prune

import neuronscope as ns
from neuronscope.errors import ConfigurationError, StoreError, SubjectError
from neuronscope.exemplars.identity import identify
from neuronscope.subject.tensor_digest import bits_of, digest_of_tensor, sum_of_words
from neuronscope.types import HookPoint
from test_subject_capture import FAMILIES

IDS = [[5, 6, 7, 8, 9], [10, 11, 12]]
TEXTS = [f"{word} {number} on the long road to a quiet house" for number in range(60) for word in ("red", "blue")]

Change = Callable[[Any], Any]


def double(_module: Any, inputs: Any) -> Any:
    """A hook that steers."""
    return (inputs[0] * 2, *inputs[1:])


def neuron_weights(model: Any) -> Any:
    return model.get_decoder().layers[1].mlp


def in_place(model: Any) -> None:
    with torch.no_grad():
        neuron_weights(model).up_proj.weight.add_(0.05)


def past_the_count_of_writes(model: Any) -> None:
    neuron_weights(model).up_proj.weight.data[3, 2] += 0.5


def exchanged_neurons(model: Any) -> None:
    order = torch.arange(12)
    order[[3, 8]] = order[[8, 3]]
    mlp = neuron_weights(model)
    with torch.no_grad():
        for part in (mlp.up_proj, mlp.gate_proj):
            part.weight.copy_(part.weight[order])
        mlp.down_proj.weight.copy_(mlp.down_proj.weight[:, order])


def ablating_hook(model: Any) -> None:
    neuron_weights(model).down_proj.register_forward_pre_hook(lambda _, inputs: (inputs[0] * 0,))


def in_place_hook(model: Any) -> None:
    def ablate(_module: Any, _inputs: Any, output: Any) -> None:
        output[..., 3] = 0

    neuron_weights(model).up_proj.register_forward_hook(ablate)


def pruned(model: Any) -> None:
    prune.random_unstructured(neuron_weights(model).up_proj, "weight", amount=0.3)


def other_buffer(model: Any) -> None:
    model.get_decoder().rotary_emb.inv_freq.mul_(1.5)


def other_activation_function(model: Any) -> None:
    neuron_weights(model).act_fn = torch.nn.ReLU()


def other_scale(model: Any) -> None:
    model.get_decoder().layers[0].self_attn.scaling *= 2


def replaced_forward(model: Any) -> None:
    mlp = neuron_weights(model)
    mlp.forward = lambda x: mlp.down_proj(mlp.up_proj(x))


def parametrized(model: Any) -> None:
    class Halved(torch.nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return weight / 2

    torch.nn.utils.parametrize.register_parametrization(neuron_weights(model).up_proj, "weight", Halved())


CHANGES = [
    in_place,
    past_the_count_of_writes,
    exchanged_neurons,
    ablating_hook,
    in_place_hook,
    pruned,
    other_buffer,
    other_activation_function,
    other_scale,
    replaced_forward,
    parametrized,
]


def activations(subject: Any, layers: tuple[int, ...] = (1, 2)) -> np.ndarray:
    found = subject.activations(IDS, list(layers))
    return np.concatenate([row for layer in layers for row in found[layer]])


@pytest.fixture
def subject(tiny_llama: Any, tiny_tokenizer: Any) -> Any:
    with torch.no_grad():
        for parameter in tiny_llama.parameters():
            parameter.mul_(10)  # so that no change rounds away
    return ns.load_subject((tiny_llama, tiny_tokenizer))


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_the_activations_changes_the_identity(subject: Any, change: Change) -> None:
    before, read = identify(subject), activations(subject)
    assert identify(subject) == before
    change(subject.model)
    assert not np.array_equal(activations(subject), read)
    after = identify(subject)
    assert after["fingerprint"] != before["fingerprint"]
    assert identify(subject) == after  # also after a pass


def parts_of_model(subject: Any) -> dict[str, str]:
    """Without the tokenizer: for some families transformers loads another one than was saved."""
    return {part: digest for part, digest in subject.parts.items() if part != "tokenizer"}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_model_is_the_same_after_use_in_any_mode_copied_saved_and_loaded(
    family: str, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    model = FAMILIES[family][0]().float()
    first = ns.load_subject((model, tiny_tokenizer))
    expected = parts_of_model(first)
    first.activations([[5, 6, 7]], [2])
    model(torch.tensor([[1, 2, 3]]), output_hidden_states=True)  # transformers leaves hooks of its own behind
    model.train()
    assert parts_of_model(first) == expected
    assert parts_of_model(ns.load_subject((copy.deepcopy(model), tiny_tokenizer))) == expected
    model.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    assert parts_of_model(ns.load_subject(tmp_path, dtype="float32", device="cpu")) == expected


def test_a_compiled_model_is_the_same(subject: Any) -> None:
    compiled = ns.load_subject((torch.compile(subject.model), subject.tokenizer))
    assert compiled.fingerprint == subject.fingerprint
    np.testing.assert_array_equal(activations(compiled), activations(subject))


def test_hooks_that_move_tensors_and_our_own_make_no_other_subject(subject: Any) -> None:
    expected, read = subject.fingerprint, activations(subject)
    for module in subject.model.modules():
        accelerate.hooks.add_hook_to_module(module, accelerate.hooks.AlignDevicesHook(execution_device="cpu"))
    inside: list[str] = []
    subject.visit(IDS, [HookPoint(1)], lambda _point, _activations: inside.append("read"))
    assert inside
    assert subject.fingerprint == expected
    np.testing.assert_array_equal(activations(subject), read)


def test_a_hook_is_told_by_what_it_does_and_what_it_reaches(subject: Any) -> None:
    down = neuron_weights(subject.model).down_proj
    settings, bare = {"scale": 2.0}, subject.fingerprint

    def steering(scale: float) -> Any:
        return lambda _, inputs: (inputs[0] * scale * settings["scale"],)

    def with_hook(hook: Any) -> str:
        handle = down.register_forward_pre_hook(hook)
        found = subject.fingerprint
        assert subject.fingerprint == found
        handle.remove()
        return str(found)

    names = [bare, with_hook(double), with_hook(steering(2.0)), with_hook(steering(3.0))]
    assert with_hook(steering(3.0)) == names[-1]
    settings["scale"] = 5.0
    names.append(with_hook(steering(3.0)))
    vector = torch.ones(12)
    names.append(with_hook(lambda _, inputs: (inputs[0] + vector,)))
    assert len(set(names)) == len(names)
    assert subject.fingerprint == bare


class Steered:
    """A hook with a state of its own, which nothing can look into."""

    __slots__ = ("scale",)

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, _module: Any, inputs: Any) -> Any:
        return (inputs[0] * self.scale,)


def test_a_hook_that_cannot_be_looked_into_is_never_taken_for_another(subject: Any) -> None:
    down, found = neuron_weights(subject.model).down_proj, []
    for _ in range(20):  # addresses of objects that are gone are used again
        handle = down.register_forward_pre_hook(Steered(2.0))
        found.append(subject.fingerprint)
        assert subject.fingerprint == found[-1]
        handle.remove()
        del handle
    assert len(set(found)) == 20


def test_what_a_recording_hook_has_seen_is_no_part_of_the_identity(subject: Any, tmp_path: Path) -> None:
    seen: dict[str, Any] = {}
    listed: list[Any] = []
    down = neuron_weights(subject.model).down_proj
    down.register_forward_pre_hook(lambda _, inputs: seen.update(last=inputs[0].clone()))
    down.register_forward_pre_hook(lambda _, inputs: listed.append(inputs[0].shape))
    before = subject.fingerprint
    activations(subject)
    assert seen
    assert subject.fingerprint == before
    store = ns.collect_exemplars(subject, TEXTS, [1], top_k=5, seq_len=16, cache_dir=tmp_path, progress=False)
    assert store.exemplars(ns.Neuron(1, 3), "train", 3)


def test_a_hook_that_records_and_steers_is_known_by_what_it_steers_with(subject: Any) -> None:
    class Steering:
        def __init__(self) -> None:
            self.scale, self.seen = 2.0, []

        def hook(self, _module: Any, inputs: Any) -> Any:
            self.seen.append(inputs[0])
            return (inputs[0] * self.scale,)

    steering = Steering()
    neuron_weights(subject.model).down_proj.register_forward_pre_hook(steering.hook)
    before = subject.fingerprint
    activations(subject)
    assert subject.fingerprint == before
    steering.scale = 3.0
    assert subject.fingerprint != before


def test_switching_scaling_and_disabling_adapters_makes_another_subject(tiny_llama: Any, tiny_tokenizer: Any) -> None:
    lora = LoraConfig(r=2, lora_alpha=64, target_modules=["up_proj", "down_proj"], init_lora_weights=False)
    model = get_peft_model(tiny_llama, lora, adapter_name="cats")
    model.add_adapter("dogs", lora)
    subject = ns.load_subject((model, tiny_tokenizer))
    found, read = {}, {}

    def note(name: str) -> None:
        found[name], read[name] = identify(subject), activations(subject)

    note("cats")
    model.set_adapter("dogs")
    note("dogs")
    for module in model.modules():
        if hasattr(module, "set_scale"):
            module.set_scale("dogs", 3.0)
    note("dogs, stronger")
    with model.disable_adapter():
        note("none")
    note("dogs, stronger again")
    assert found["dogs, stronger again"] == found.pop("dogs, stronger")
    again, before = read.pop("dogs, stronger again"), read.pop("dogs, stronger")
    np.testing.assert_array_equal(again, before)
    assert len({each["fingerprint"] for each in found.values()}) == 4
    assert [found[name]["adapters"].split(" (")[0] for name in ("cats", "dogs", "none")] == ["cats", "dogs", "disabled"]


def test_collecting_after_a_change_in_place_finds_no_old_store_and_after_its_undoing_the_old_one(
    subject: Any, tmp_path: Path
) -> None:
    def collect() -> ns.ExemplarStore:
        return ns.collect_exemplars(subject, TEXTS, [1], top_k=5, seq_len=16, cache_dir=tmp_path, progress=False)

    plain = collect()
    handle = neuron_weights(subject.model).down_proj.register_forward_pre_hook(double)
    steered = collect()
    np.testing.assert_allclose(steered.max_activation(1), 2 * plain.max_activation(1))
    with pytest.raises(StoreError, match=r"They differ in the hooks \(none there, 1, "):
        plain.bind(subject)
    handle.remove()
    assert collect().path == plain.path
    plain.bind(subject)


def test_a_bound_store_neither_computes_nor_serves_for_a_model_that_has_changed(subject: Any, tmp_path: Path) -> None:
    store = ns.collect_exemplars(subject, TEXTS, [1], top_k=5, seq_len=16, cache_dir=tmp_path, progress=False)
    known, unknown = ns.Neuron(1, 3), ns.Neuron(1, 4)
    served = store.exemplars(known, "train", 3)
    past_the_count_of_writes(subject.model)
    with pytest.raises(StoreError, match="the bound subject has changed, and is now"):
        store.exemplars(unknown, "train", 3)
    in_place(subject.model)
    for neuron in (known, unknown):
        with pytest.raises(StoreError, match="They differ in the weights"):
            store.exemplars(neuron, "train", 3)
    alone = ns.open_store(store.path).exemplars(known, "train", 3)  # what the store knows stays what it was
    np.testing.assert_array_equal(alone[0].activations, served[0].activations)


def test_a_model_that_changes_while_exemplars_are_collected_leaves_no_store(subject: Any, tmp_path: Path) -> None:
    def corpus() -> Any:
        yield from TEXTS
        in_place(subject.model)

    with pytest.raises(SubjectError, match=r"has changed while exemplars were collected .* They differ in the weights"):
        ns.collect_exemplars(subject, corpus(), [1], top_k=5, seq_len=16, cache_dir=tmp_path, progress=False)
    assert not list(tmp_path.glob("*/store.json"))


def test_a_run_folder_refuses_the_same_name_with_other_weights(subject: Any, tmp_path: Path) -> None:
    settings = {
        "corpus": TEXTS,
        "llm": "offline",
        "simulator": "hybrid",
        "embeddings": "minilm",
        "config": ns.ExplainConfig(seq_len=16, max_iterations=1, heldout_top=4, heldout_random=4),
        "cache_dir": tmp_path / "cache",
        "out": tmp_path / "run",
        "progress": False,
    }
    assert len(list(ns.explain_neurons([(1, 3)], subject, **settings))) == 1
    neuron_weights(subject.model).down_proj.register_forward_pre_hook(double)
    with pytest.raises(ConfigurationError, match=r"belongs to a run with another .*subject\.fingerprint"):
        list(ns.explain_neurons([(1, 3)], subject, **settings))


def test_a_store_of_another_version_of_the_fingerprint_is_refused_with_the_reason(subject: Any, tmp_path: Path) -> None:
    store = ns.collect_exemplars(subject, TEXTS, [1], top_k=5, seq_len=16, cache_dir=tmp_path, progress=False)
    del store.info["subject"]["scheme"]
    store.info["subject"]["fingerprint"] = "0123456789abcdef"
    with pytest.raises(StoreError, match="taken by another version of neuronscope"):
        store.bind(subject)


def test_dropout_never_decides_and_the_model_stays_in_its_mode(subject: Any) -> None:
    layer = subject.model.get_decoder().layers[0]
    layer.self_attn.attention_dropout = 0.5
    mlp = layer.mlp
    mlp.act_fn = torch.nn.Sequential(mlp.act_fn, torch.nn.Dropout(0.5))
    calm = activations(subject)
    subject.model.train()
    layer.input_layernorm.eval()
    np.testing.assert_array_equal(activations(subject), calm)
    assert subject.model.training
    assert mlp.act_fn[1].training
    assert not layer.input_layernorm.training


def test_autocast_around_a_call_changes_no_number(subject: Any) -> None:
    plain = activations(subject)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        np.testing.assert_array_equal(activations(subject), plain)
    assert plain.dtype == np.float32


def test_the_bos_is_the_tokenizers_own_affair_unless_asked_and_part_of_the_identity(
    tiny_llama: Any, tiny_tokenizer: Any
) -> None:
    plain, asked = (ns.load_subject((tiny_llama, tiny_tokenizer), bos=bos) for bos in ("auto", True))
    assert (plain.leading_ids, asked.leading_ids) == ((), (0,))
    seen: list[list[int]] = []
    handle = tiny_llama.get_decoder().embed_tokens.register_forward_pre_hook(lambda _, i: seen.append(i[0].tolist()))
    for each in (plain, asked):
        assert each.activations([[5, 6]], [1])[1][0].shape == (2, 12)
    handle.remove()
    assert seen == [[[5, 6]], [[0, 5, 6]]]
    assert [identify(each)["bos"] for each in (plain, asked)] == ["none", "0"]
    assert plain.fingerprint != asked.fingerprint


@pytest.mark.parametrize("active", [True, False])
def test_prompt_tuning_is_refused_by_name_while_it_is_active(
    tiny_llama: Any, tiny_tokenizer: Any, active: bool
) -> None:
    model = get_peft_model(tiny_llama, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    if active:
        with pytest.raises(SubjectError, match="an adapter of the kind PROMPT_TUNING"):
            ns.load_subject((model, tiny_tokenizer))
    else:
        with model.disable_adapter():
            subject = ns.load_subject((model, tiny_tokenizer))
            assert subject.activations([[5, 6]], [1])
        for read in (subject.identity, lambda: subject.activations([[5, 6]], [1])):
            with pytest.raises(SubjectError, match="PROMPT_TUNING"):
                read()


def test_a_model_that_travelled_has_the_same_identity(subject: Any) -> None:
    neuron_weights(subject.model).down_proj.register_forward_pre_hook(double)
    buffer = io.BytesIO()
    torch.save(subject.model, buffer)
    buffer.seek(0)
    travelled = torch.load(buffer, weights_only=False)
    assert ns.load_subject((travelled, subject.tokenizer)).fingerprint == subject.fingerprint


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int8, torch.bool])
def test_a_digest_sees_every_bit_and_the_order(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    tensor = (torch.randn(5, 7) * 3).clamp(min=0).to(dtype)
    changed = tensor.clone()
    changed[4, 6] = 1 - tensor[4, 6].to(torch.int64)
    exchanged = tensor[torch.tensor([0, 1, 3, 2, 4])]
    negated = tensor.logical_not() if dtype is torch.bool else -tensor
    others = [tensor, changed, exchanged, negated, tensor.reshape(7, 5), tensor[:, :6], tensor[:0]]
    for digest in (digest_of_tensor, lambda each: (each.shape, sum_of_words(bits_of(each)))):  # here, and on a GPU
        assert len({digest(each) for each in others}) == len(others)
        assert digest(tensor.t().contiguous().t()) == digest(tensor)
