"""Models of a given shape with random weights, and a tokenizer for them: what runs where no weights are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from neuronscope.simulators.finetuned import ALIAS_OF, N_LEVELS, PADDING
from scale import Model

LEVEL_SPREAD = 2.5
"""Standard deviation of the levels' logits; with a head as small as at random, all predictions would be near 5."""


def llama_tokenizer(texts: Iterable[str], size: int) -> Any:
    """Byte-level BPE learned from texts, with Llama's special tokens, its BOS in front of every text."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(ALIAS_OF),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    bos = next(iter(ALIAS_OF))
    backend.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, backend.token_to_id(bos))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=bos)


def random_model(shape: Model, n_extra_rows: int, dtype: torch.dtype, device: torch.device, seed: int) -> Any:
    """A Llama of a shape, made on the device.

    Args:
        shape: as in `config.json`.
        n_extra_rows: of embedding and head, beyond the shape's vocabulary.
        dtype: of its weights.
        device: where it is made.
        seed: equal ones give equal weights on the same kind of device.
    """
    config = LlamaConfig(
        vocab_size=shape.vocabulary + n_extra_rows,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=131_072,
        tie_word_embeddings=shape.tied,
    )
    torch.manual_seed(seed)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def random_simulator_model(shape: Model, dtype: torch.dtype, device: torch.device, seed: int) -> Any:
    """The same for a fine-tuned simulator: rows for padding and alias tokens, and levels as its first outputs."""
    model = random_model(shape, len([PADDING, *ALIAS_OF]), dtype, device, seed)
    with torch.no_grad():
        levels = model.get_output_embeddings().weight[:N_LEVELS]
        levels *= LEVEL_SPREAD / (float(levels.float().std()) * shape.hidden**0.5)
    return model
