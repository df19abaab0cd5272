"""Small random language models with real tokenizers, and what they predict when nothing is shared, packed or cut."""

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

TEXTS = [
    "The neuron fires at words for colours, such as red and green, and at 10 numbers: 0 1 2 3 4 5 6 7 8 9.",
    "Neuron Description: activates on the end of a sentence.\n\n ## Input: \tunknown\nfünf Äpfel, naïve café — 東京",
    "def f(x):\n    return x + 1\n\n\nclass A:\n\tpass\n",
] * 3
LLAMA_SPECIAL = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]


def byte_level_tokenizer(special=("<s>",), vocab_size=420):
    """Byte-level BPE, as in GPT-2, Llama 3 and Qwen; the first special token is BOS."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=list(special), initial_alphabet=alphabet)
    backend.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=special[0] if special else None)


def sentencepiece_tokenizer(vocab_size=420):
    """BPE over ▁ for spaces, with one for the first word, and bytes for what is unknown: as in Llama 2 and Gemma."""
    backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=special)
    backend.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", unk_token="<unk>")


def unigram_tokenizer(vocab_size=200):
    """Unigram over ▁ for spaces, as in T5 and XGLM; characters it has not seen are unknown."""
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size, special_tokens=["<s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", unk_token="<unk>")


SIZES = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": 8192,
    "initializer_range": 0.5,
}


def random_llama(vocab_size, seed=0):
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(vocab_size=vocab_size, **SIZES)).eval()


def random_gpt2(vocab_size, n_positions=8192):
    """Learnt positions, tied embeddings."""
    torch.manual_seed(0)
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": n_positions, "initializer_range": 0.5}
    return GPT2LMHeadModel(GPT2Config(vocab_size=vocab_size, **sizes)).eval()


def random_gemma2(vocab_size):
    """Sliding windows shorter than a prefix, soft caps on attention and output."""
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=vocab_size,
        **SIZES,
        sliding_window=8,
        final_logit_softcapping=3.0,
        attn_logit_softcapping=5.0,
        query_pre_attn_scalar=4,
    )
    return Gemma2ForCausalLM(config).eval()


def random_gemma3(vocab_size):
    """Sliding windows in five layers of six, with rotations of their own."""
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=vocab_size, **(SIZES | {"num_hidden_layers": 6}), sliding_window=8, query_pre_attn_scalar=4
    )
    return Gemma3ForCausalLM(config).eval()


def plain_logits(model, token_ids):
    """One text, no cache, all of the vocabulary: `(tokens, vocabulary)`."""
    with torch.inference_mode():
        return model(input_ids=torch.tensor([list(token_ids)]), use_cache=False).logits[0].float()
