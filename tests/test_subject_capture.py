"""Activations are the inputs of the MLPs' output projections, exactly as a plain forward pass has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn

import neuronscope as ns
from neuronscope.errors import SubjectError
from neuronscope.subject.capture import capture

TEXTS = ["The capital of France is Paris.", "In 1999, 12 people", "A much longer text: " + "one two three, " * 8]
RAGGED = [[5, 6, 7, 8, 9], [10], [11, 12, 13], list(range(20, 37))]

SMALL = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
SLIDING = SMALL | {"sliding_window": 4}


def _without(settings: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}


def _gemma3_multimodal() -> Any:
    text = transformers.Gemma3TextConfig(**SLIDING)
    vision = transformers.SiglipVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=14, patch_size=7
    )
    config = transformers.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=1)
    return transformers.Gemma3ForConditionalGeneration(config)


def causal_model(config: Any) -> Any:
    return transformers.AutoModelForCausalLM.from_config(config)


FAMILIES: dict[str, tuple[Callable[[], Any], str]] = {
    "Llama": (lambda: causal_model(transformers.LlamaConfig(**SMALL)), "model.layers.{}.mlp.down_proj"),
    "Mistral": (lambda: causal_model(transformers.MistralConfig(**SLIDING)), "model.layers.{}.mlp.down_proj"),
    "Gemma 2": (lambda: causal_model(transformers.Gemma2Config(**SLIDING)), "model.layers.{}.mlp.down_proj"),
    "Gemma 3": (lambda: causal_model(transformers.Gemma3TextConfig(**SLIDING)), "model.layers.{}.mlp.down_proj"),
    "Gemma 3, multimodal": (_gemma3_multimodal, "model.language_model.layers.{}.mlp.down_proj"),
    "Qwen 2": (
        lambda: causal_model(transformers.Qwen2Config(**_without(SMALL, "head_dim"))),
        "model.layers.{}.mlp.down_proj",
    ),
    "Qwen 3": (lambda: causal_model(transformers.Qwen3Config(**SMALL)), "model.layers.{}.mlp.down_proj"),
    "Phi-3": (
        lambda: causal_model(transformers.Phi3Config(**_without(SMALL, "head_dim"))),
        "model.layers.{}.mlp.down_proj",
    ),
    "GPT-2": (
        lambda: causal_model(transformers.GPT2Config(vocab_size=64, n_embd=16, n_inner=24, n_layer=3, n_head=2)),
        "transformer.h.{}.mlp.c_proj",
    ),
    "GPT-NeoX": (
        lambda: causal_model(transformers.GPTNeoXConfig(**_without(SMALL, "head_dim", "num_key_value_heads"))),
        "gpt_neox.layers.{}.mlp.dense_4h_to_h",
    ),
}
LAYERS = [2, 0]


class NoText:
    """A tokenizer of which only the BOS is used."""

    def __init__(self, bos: int | None) -> None:
        self.bos_token_id = bos


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> tuple[Any, str]:
    """A tiny random model, and where its output projections are."""
    torch.manual_seed(1)
    build, path = FAMILIES[request.param]
    return build().float().eval(), path


def plain_activations(
    model: Any, path: str, layers: Sequence[int], sequence: Sequence[int], bos: int | None
) -> dict[int, np.ndarray]:
    """One sequence through the whole model, with a hook per layer: nothing of ours takes part."""
    seen: dict[int, torch.Tensor] = {}
    hooks = [
        model.get_submodule(path.format(layer)).register_forward_hook(
            lambda _module, inputs, _output, layer=layer: seen.__setitem__(layer, inputs[0])
        )
        for layer in layers
    ]
    with torch.no_grad():
        model(input_ids=torch.tensor([[*([] if bos is None else [bos]), *sequence]], device=model.device))
    for hook in hooks:
        hook.remove()
    return {layer: value[0, 0 if bos is None else 1 :].float().numpy() for layer, value in seen.items()}


@pytest.mark.parametrize("bos", [None, 1])
def test_a_padded_batch_gives_what_a_plain_forward_pass_gives_for_each_sequence(
    family: tuple[Any, str], bos: int | None
) -> None:
    model, path = family
    subject = ns.load_subject((model, NoText(bos)))
    found = subject.activations(RAGGED, LAYERS)
    assert set(found) == set(LAYERS)
    for row, sequence in enumerate(RAGGED):
        expected = plain_activations(model, path, LAYERS, sequence, bos)
        for layer in LAYERS:
            assert found[layer][row].shape == (len(sequence), 24)
            np.testing.assert_allclose(found[layer][row], expected[layer], rtol=1e-4, atol=1e-6)


def test_every_family_reports_its_layers_and_width(family: tuple[Any, str]) -> None:
    subject = ns.load_subject((family[0], NoText(None)))
    assert (subject.n_layers, [subject.width(layer) for layer in range(3)]) == (3, [24, 24, 24])


def smollm2_beside_a_plain_forward_pass(subject: Any, *, batched: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    """Ours and the plain activations of layers 0 and 29, text by text."""
    sequences = [subject.tokenizer.encode(text, add_special_tokens=False) for text in TEXTS]
    batches = [sequences] if batched else [[sequence] for sequence in sequences]
    found = [subject.activations(batch, [0, 29]) for batch in batches]
    pairs = []
    for layer in (0, 29):
        ours = [row for activations in found for row in activations[layer]]
        for row, sequence in zip(ours, sequences, strict=True):
            plain = plain_activations(subject.model, "model.layers.{}.mlp.down_proj", [layer], sequence, bos=None)
            pairs.append((row, plain[layer]))
    return pairs


def test_smollm2_in_float32_equals_a_plain_forward_pass() -> None:
    subject = ns.load_subject("smollm2-135m", dtype="float32", device="cpu")
    for ours, plain in smollm2_beside_a_plain_forward_pass(subject, batched=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-3, atol=1e-4)


def test_smollm2_as_loaded_by_default_equals_a_plain_forward_pass(smollm2: Any) -> None:
    for ours, plain in smollm2_beside_a_plain_forward_pass(smollm2, batched=False):
        assert (ours.shape[1], ours.dtype) == (1536, np.float32)
        np.testing.assert_array_equal(ours, plain)


def test_smollm2_as_loaded_by_default_differs_in_a_batch_by_rounding_only(smollm2: Any) -> None:
    """In bfloat16 the matrix kernels round differently for different batch sizes."""
    for ours, plain in smollm2_beside_a_plain_forward_pass(smollm2, batched=True):
        assert np.linalg.norm(ours - plain) < 0.05 * np.linalg.norm(plain)


def test_the_forward_pass_stops_at_the_deepest_layer_and_computes_no_logits(tiny_llama: Any) -> None:
    calls: list[str] = []
    watched = {"layer 1": tiny_llama.model.layers[1], "down_proj 1": tiny_llama.model.layers[1].mlp.down_proj}
    watched |= {"layer 2": tiny_llama.model.layers[2], "norm": tiny_llama.model.norm, "lm_head": tiny_llama.lm_head}
    for name, module in watched.items():
        inner = module.forward
        module.forward = lambda *args, name=name, inner=inner, **kwargs: (calls.append(name), inner(*args, **kwargs))[1]
    ns.load_subject((tiny_llama, NoText(0))).activations([[1, 2]], [0, 1])
    assert calls == ["layer 1"]


def test_logits_are_not_computed_for_the_last_layer_either(tiny_llama: Any) -> None:
    calls: list[str] = []
    tiny_llama.lm_head.register_forward_pre_hook(lambda *_: calls.append("lm_head"))
    ns.load_subject((tiny_llama, NoText(0))).activations([[1, 2]], [2])
    assert calls == []


def test_no_hook_stays_behind_even_when_the_pass_fails(tiny_llama: Any) -> None:
    subject = ns.load_subject((tiny_llama, NoText(0)))
    subject.activations([[1, 2]], [0, 2])
    tiny_llama.model.layers[1].forward = None
    with pytest.raises(TypeError):
        subject.activations([[1, 2]], [0, 2])
    assert not any(module._forward_pre_hooks for module in tiny_llama.modules())


def test_tensors_come_in_the_models_dtype_without_bos_and_without_gradients(tiny_llama: Any) -> None:
    subject = ns.load_subject((tiny_llama.to(torch.bfloat16), NoText(0)))
    captured, mask = capture(subject, RAGGED, [1])
    assert captured[1].shape == (4, 17, 12)
    assert captured[1].dtype == torch.bfloat16
    assert not captured[1].requires_grad
    assert mask.dtype == torch.bool
    assert mask.sum(dim=1).tolist() == [len(sequence) for sequence in RAGGED]


def test_tensors_of_any_other_subject_are_its_arrays_padded() -> None:
    class Planted:
        tokenizer = None
        n_layers = 1

        def width(self, layer: int) -> int:
            return 2

        def activations(self, token_ids: Sequence[Sequence[int]], layers: Sequence[int]) -> dict[int, list[np.ndarray]]:
            rows = [np.stack([np.array(ids, dtype=np.float32)] * 2, axis=1) for ids in token_ids]
            return dict.fromkeys(layers, rows)

    captured, mask = capture(Planted(), [[1, 2, 3], [4]], [0])
    assert captured[0][:, :, 1].tolist() == [[1, 2, 3], [4, 0, 0]]
    assert mask.tolist() == [[True, True, True], [True, False, False]]


@pytest.mark.parametrize("token_ids", [[], [[]], [[], [3, 4]]])
def test_empty_batches_and_empty_sequences_have_empty_activations(tiny_llama: Any, token_ids: list[list[int]]) -> None:
    found = ns.load_subject((tiny_llama, NoText(None))).activations(token_ids, [1])
    assert [row.shape for row in found[1]] == [(len(sequence), 12) for sequence in token_ids]


def test_threads_may_share_a_subject(tiny_llama: Any) -> None:
    subject = ns.load_subject((tiny_llama, NoText(0)))
    jobs = [([list(range(3, 3 + n))], [n % 3]) for n in range(1, 20)]
    expected = [subject.activations(*job) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda job: subject.activations(*job), jobs))
    for (_, [layer]), left, right in zip(jobs, found, expected, strict=True):
        np.testing.assert_array_equal(left[layer][0], right[layer][0])


def test_a_layer_that_does_not_exist_is_answered_with_the_layers_there_are(smollm2: Any) -> None:
    with pytest.raises(SubjectError, match=r"smollm2-135m has layers 0 to 29; there is no layer 30"):
        smollm2.activations([[5]], [3, 30])
    with pytest.raises(SubjectError, match="no layer -1"):
        smollm2.width(-1)


def test_a_neuron_that_does_not_exist_is_answered_with_the_neurons_there_are(smollm2: Any) -> None:
    smollm2.check(ns.Neuron(9, 1535))
    with pytest.raises(SubjectError, match="Layer 9 of smollm2-135m has neurons 0 to 1535; there is no neuron 1536"):
        smollm2.check(ns.Neuron(9, 1536))
    with pytest.raises(SubjectError, match="no layer 30"):
        smollm2.check(ns.Neuron(30, 0))
    with pytest.raises(SubjectError, match="site 'sae'"):
        smollm2.check(ns.Neuron(9, 0, site="sae"))


def test_a_token_of_another_tokenizer_is_named(tiny_llama: Any) -> None:
    with pytest.raises(SubjectError, match="knows token ids 0 to 258, not 49000"):
        ns.load_subject((tiny_llama, NoText(0))).activations([[49000]], [0])


def test_a_sequence_beyond_the_models_context_is_refused(tiny_llama: Any) -> None:
    subject = ns.load_subject((tiny_llama, NoText(0)))
    assert subject.activations([[1] * 31], [0])[0][0].shape == (31, 12)
    with pytest.raises(SubjectError, match="at most 32 tokens at once, BOS included; got 33"):
        subject.activations([[1] * 32], [0])


MIXTURES = {
    "Mixtral": lambda: transformers.MixtralConfig(**SMALL, num_local_experts=2),
    "Qwen 2 MoE": lambda: transformers.Qwen2MoeConfig(
        **_without(SMALL, "head_dim"), num_experts=2, moe_intermediate_size=8, shared_expert_intermediate_size=8
    ),
    "DeepSeek-like, first layers dense": lambda: transformers.Dots1Config(
        **SMALL, n_routed_experts=2, moe_intermediate_size=8, first_k_dense_replace=1, n_shared_experts=1
    ),
}


@pytest.mark.parametrize("name", MIXTURES)
def test_a_mixture_of_experts_is_refused_with_what_is_supported(name: str) -> None:
    model = causal_model(MIXTURES[name]())
    with pytest.raises(SubjectError, match=r"mixture of experts.*Supported are .*Llama.*GPT-NeoX"):
        ns.load_subject((model, NoText(None)))


def test_a_mixture_of_experts_that_its_configuration_hides_is_refused(tiny_llama: Any) -> None:
    tiny_llama.model.layers[1].mlp.experts = nn.ModuleList([nn.Linear(2, 2)])
    with pytest.raises(SubjectError, match="mixture of experts"):
        ns.load_subject((tiny_llama, NoText(None)))


def _mamba() -> Any:
    return causal_model(transformers.MambaConfig(vocab_size=64, hidden_size=8, num_hidden_layers=1, state_size=2))


def _t5() -> Any:
    return transformers.T5ForConditionalGeneration(
        transformers.T5Config(vocab_size=64, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    )


@pytest.mark.parametrize("build", [_mamba, _t5, lambda: nn.Linear(2, 2)])
def test_an_unknown_layout_is_refused_with_what_is_supported(build: Callable[[], Any]) -> None:
    with pytest.raises(SubjectError, match=r"Supported are decoder-only models .*Llama.*Mixtures of experts"):
        ns.load_subject((build(), NoText(None)))
