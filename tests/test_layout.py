"""A model of unusual build is described by its user, with no change to the library."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn

import neuronscope as ns
from neuronscope.errors import ConfigurationError, SubjectError
from neuronscope.exemplars.portable import portable
from test_subject_capture import MIXTURES, NoText, causal_model

IDS = [[5, 6, 7, 8, 9], [10, 11, 12]]
LAYOUT = ns.Layout(layers="trunk.blocks", mlp_output="ffn.w2")


class Ffn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Linear(8, 12), nn.Linear(12, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.w2(self.w1(x).relu())


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ffn = Ffn()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.ffn(x.cumsum(1))


class Trunk(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(64, 8)
        self.blocks = nn.ModuleList(Block() for _ in range(3))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.words(ids)
        for block in self.blocks:
            x = block(x)
        return x


class Unusual(nn.Module):
    """No model of transformers: no get_decoder, no config, token ids by position, and names of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.head = nn.Linear(8, 64)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.trunk(ids))


@pytest.fixture
def model() -> Unusual:
    torch.manual_seed(0)
    return Unusual()


def expected(model: Unusual, layer: int, sequence: list[int]) -> np.ndarray:
    seen: list[torch.Tensor] = []
    hook = model.trunk.blocks[layer].ffn.w2.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    with torch.no_grad():
        model(torch.tensor([sequence]))
    hook.remove()
    return seen[0][0].numpy()


@pytest.mark.parametrize(
    "layout",
    [
        LAYOUT,
        ns.Layout(layers="trunk.blocks", mlp_output="ffn.w2", decoder="trunk"),
        {layer: f"trunk.blocks.{layer}.ffn.w2" for layer in range(3)},
    ],
    ids=["whole", "trunk", "paths"],
)
def test_a_model_with_names_of_its_own_is_read_where_its_user_says(model: Unusual, layout: Any) -> None:
    subject = ns.load_subject((model, NoText(None)), layout=layout)
    assert (subject.n_layers, subject.width(1)) == (3, 12)
    found = subject.activations(IDS, [0, 2])
    for layer in (0, 2):
        for row, sequence in enumerate(IDS):
            np.testing.assert_allclose(found[layer][row], expected(model, layer, sequence), rtol=1e-5, atol=1e-7)


def test_exemplars_of_it_are_collected(model: Unusual, tiny_tokenizer: Any, tmp_path: Path) -> None:
    model.trunk.words = nn.Embedding(259, 8)
    subject = ns.load_subject((model, tiny_tokenizer), layout=LAYOUT)
    texts = [f"{word} {number} on the long road" for number in range(40) for word in ("red", "blue")]
    store = ns.collect_exemplars(subject, texts, [1], 16, 3, cache_dir=tmp_path)
    (strongest,) = store.top_neurons(1, n=1, by="max")
    assert store.exemplars(strongest, "train", 3)[0].activations.max() > 0
    again = ns.load_subject((copy.deepcopy(model), tiny_tokenizer), layout=LAYOUT)
    assert ns.collect_exemplars(again, texts, [1], 16, 3, cache_dir=tmp_path).path == store.path


def test_a_layout_is_part_of_the_subjects_identity(tiny_llama: Any, tiny_tokenizer: Any) -> None:
    first, up = (
        ns.load_subject((tiny_llama, tiny_tokenizer), layout=ns.Layout("model.layers", path))
        for path in ("mlp.down_proj", "mlp.up_proj")
    )
    assert first.fingerprint != up.fingerprint
    assert (first.parts["layout"], up.parts["layout"]) == ("model.layers.*.mlp.down_proj", "model.layers.*.mlp.up_proj")
    assert (first.width(0), up.width(0)) == (12, 8)
    assert "layout" not in ns.load_subject((tiny_llama, tiny_tokenizer)).parts


def test_a_layout_travels_with_its_subject(tiny_llama: Any, tiny_tokenizer: Any, tmp_path: Path) -> None:
    tiny_llama.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    layout = ns.Layout("model.layers", "mlp.up_proj")
    for source in (tmp_path, (tiny_llama, tiny_tokenizer)):
        subject = ns.load_subject(source, layout=layout, device="cpu")
        assert portable(subject)("cpu").fingerprint == subject.fingerprint  # type: ignore[attr-defined]


def test_a_mixture_of_experts_is_read_where_its_user_says_so_explicitly() -> None:
    torch.manual_seed(0)
    config = MIXTURES["Qwen 2 MoE"]()
    config.num_experts_per_tok = 2
    model = causal_model(config).float().eval()
    layout = ns.Layout("model.layers", "mlp.shared_expert.down_proj")
    subject = ns.load_subject((model, NoText(None)), layout=layout)
    assert subject.width(0) == 8
    for row, sequence in zip(subject.activations(IDS, [1])[1], IDS, strict=True):
        seen: list[torch.Tensor] = []
        projection = model.model.layers[1].mlp.shared_expert.down_proj
        hook = projection.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        with torch.no_grad():
            model(torch.tensor([sequence]))
        hook.remove()
        np.testing.assert_allclose(row, seen[0].reshape(-1, 8), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("layout", "error", "message"),
    [
        (
            ns.Layout("trunk.blocs", "ffn.w2"),
            SubjectError,
            r"'trunk\.blocs': its trunk has words, blocks\. Did",
        ),
        (ns.Layout("tronk", "ffn.w2"), SubjectError, r"no module 'tronk': it has trunk, head\. Did you mean 'trunk'"),
        (ns.Layout("trunk.blocks", "ffn.w3"), SubjectError, r"'trunk\.blocks\.0\.ffn\.w3': its .* has w1, w2"),
        (ns.Layout("head", "w"), SubjectError, "has no layers in it"),
        (ns.Layout("trunk.blocks", "ffn"), SubjectError, r"blocks\.0\.ffn reads cannot be told: a Ffn has no weights"),
        ({1: "trunk.blocks.1.ffn.w2"}, ConfigurationError, "every layer from 0"),
        ({}, ConfigurationError, "every layer from 0"),
        ("trunk.blocks", ConfigurationError, r"Layout\(layers=\.\.\., mlp_output=\.\.\.\)"),
    ],
)
def test_a_layout_that_does_not_fit_is_answered_in_words(
    model: Unusual, layout: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ns.load_subject((model, NoText(None)), layout=layout)


def test_layers_that_paths_alone_do_not_tell_are_asked_for(model: Unusual) -> None:
    subject = ns.load_subject((model, NoText(None)), layout={0: "trunk.blocks.0.ffn.w2"})
    with pytest.raises(SubjectError, match=r"names projections only\. Give load_subject\(\.\.\., layout=ns\.Layout"):
        _ = subject.layers
    assert len(ns.load_subject((model, NoText(None)), layout=LAYOUT).layers) == 3


def test_without_a_layout_such_a_model_is_refused_with_the_way_out(model: Unusual) -> None:
    with pytest.raises(SubjectError, match=r"layout=ns\.Layout\(\.\.\.\)"):
        ns.load_subject((model, NoText(None)))


def test_a_model_that_says_how_much_it_reads_is_checked_and_another_is_not(model: Unusual) -> None:
    model.config = SimpleNamespace(vocab_size=64, max_position_embeddings=8)
    subject = ns.load_subject((model, NoText(None)), layout=LAYOUT)
    with pytest.raises(SubjectError, match="knows token ids 0 to 63, not 64"):
        subject.activations([[64]], [0])
    with pytest.raises(SubjectError, match="at most 8 tokens"):
        subject.activations([[1] * 9], [0])
    assert isinstance(model, nn.Module)
    assert not isinstance(model, transformers.PreTrainedModel)
