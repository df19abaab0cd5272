"""Fixtures that several test files share."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: workers share the processor's cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from filelock import FileLock
from hypothesis import settings

import neuronscope as ns

pytest_plugins = ["llm_server"]

settings.register_profile("neuronscope", deadline=None)  # a busy machine is no failure
settings.load_profile("neuronscope")

if TYPE_CHECKING:
    from neuronscope.subject import LoadedSubject


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> LoadedSubject:
    """The real small model, from the installed package; converted once into the user's cache, by one of the workers."""
    with FileLock(_shared_by_workers(tmp_path_factory) / "smollm2.lock"):
        return ns.load_subject("smollm2-135m")


@pytest.fixture
def every_gain_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted texts are a dozen sequences, too few to tell a gain from chance; `test_graphs.py` looks at that."""
    monkeypatch.setattr(import_module("neuronscope.graphs.reconcile"), "DEVIATIONS", 0.0)


@pytest.fixture
def any_rest_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second draft is made of few exemplars, too: of planted meanings each has about half."""
    monkeypatch.setattr(import_module("neuronscope.graphs.unexplained"), "LEAST_SHARE", 0.0)


def _shared_by_workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Any:
    """A byte-level tokenizer of 259 tokens: three special ones and the bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = ["<s>", "</s>", "<pad>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(models.BPE(vocab={piece: rank for rank, piece in enumerate(pieces)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


@pytest.fixture
def tiny_llama() -> Any:
    """A random Llama of three layers with 12, 12 and 12 neurons; the same weights each time."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=259,
            hidden_size=8,
            intermediate_size=12,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=32,
        )
    )


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are cached in the test's folder, no key is set, and what another test's server refused is forgotten."""
    from neuronscope.llm import forget_refusals

    monkeypatch.setenv("NEURONSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    forget_refusals()
