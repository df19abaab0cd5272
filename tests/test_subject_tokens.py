"""The strings of tokens, joined, are the text; a character stands on the token that completes it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerFast

import neuronscope as ns
from neuronscope.subject.tokens import bos_id, leading_ids, token_strings


def decoded(tokenizer: Any, token_ids: list[int]) -> str:
    return str(tokenizer.decode(token_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


@pytest.fixture(scope="module")
def sentencepiece() -> Any:
    """A tokenizer as Llama 2's and Gemma's are: ▁ for spaces, bytes for what the vocabulary lacks."""
    pieces = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdehlorw", "▁h", "▁w", "é"]
    merges = [("▁", "h"), ("▁", "w")]
    backend = Tokenizer(
        models.BPE({piece: rank for rank, piece in enumerate(pieces)}, merges, unk_token="<unk>", byte_fallback=True)
    )
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", unk_token="<unk>")


@given(text=st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_joined_strings_are_the_text(smollm2: Any, text: str) -> None:
    token_ids = smollm2.tokenizer.encode(text, add_special_tokens=False)
    strings = token_strings(smollm2.tokenizer, token_ids)
    assert len(strings) == len(token_ids)
    assert "".join(strings) == decoded(smollm2.tokenizer, token_ids)


@given(token_ids=st.lists(st.integers(0, 49151), max_size=40))
@settings(max_examples=200, deadline=None)
def test_joined_strings_are_the_decoded_text_for_tokens_in_any_order(smollm2: Any, token_ids: list[int]) -> None:
    assert "".join(token_strings(smollm2.tokenizer, token_ids)) == decoded(smollm2.tokenizer, token_ids)


@given(token_ids=st.lists(st.integers(0, 273), max_size=20))
@settings(max_examples=300, deadline=None)
def test_joined_strings_are_the_decoded_text_with_byte_fallback(sentencepiece: Any, token_ids: list[int]) -> None:
    assert "".join(token_strings(sentencepiece, token_ids)) == decoded(sentencepiece, token_ids)


def test_a_character_stands_on_the_token_that_completes_it(tiny_tokenizer: Any) -> None:
    token_ids = tiny_tokenizer.encode("aé😀b")
    assert token_strings(tiny_tokenizer, token_ids) == ["a", "", "é", "", "", "", "😀", "b"]


def test_a_character_of_fallback_bytes_stands_on_the_token_that_completes_it(sentencepiece: Any) -> None:
    token_ids = sentencepiece.encode("hello wörld", add_special_tokens=False)
    assert token_strings(sentencepiece, token_ids) == ["h", "e", "l", "l", "o", " w", "", "ö", "r", "l", "d"]


def test_a_window_that_starts_inside_a_character_starts_with_replacement_characters(tiny_tokenizer: Any) -> None:
    token_ids = tiny_tokenizer.encode("😀b")
    assert token_strings(tiny_tokenizer, token_ids[2:]) == ["\ufffd", "\ufffd", "b"]


def test_a_window_that_ends_inside_a_character_keeps_its_join(tiny_tokenizer: Any, sentencepiece: Any) -> None:
    for tokenizer in (tiny_tokenizer, sentencepiece):
        token_ids = tokenizer.encode("b😀", add_special_tokens=False)[:-1]
        assert "".join(token_strings(tokenizer, token_ids)) == decoded(tokenizer, token_ids)


def test_special_tokens_appear_as_their_text(smollm2: Any) -> None:
    assert token_strings(smollm2.tokenizer, [1, 28120, 2])[::2] == ["<|im_start|>", "<|im_end|>"]


def test_no_tokens_have_no_strings(smollm2: Any) -> None:
    assert token_strings(smollm2.tokenizer, []) == []


def test_spaces_before_punctuation_are_kept(smollm2: Any) -> None:
    text = "do n't stop . Why ?"
    assert "".join(token_strings(smollm2.tokenizer, smollm2.tokenizer.encode(text))) == text


def test_what_stands_in_front_is_what_the_tokenizer_puts_there_unless_asked(smollm2: Any, tiny_tokenizer: Any) -> None:
    assert (smollm2.tokenizer.bos_token_id, leading_ids(smollm2.tokenizer)) == (1, ())
    assert leading_ids(smollm2.tokenizer, True) == (1,)
    adding = copy.deepcopy(tiny_tokenizer)
    adding.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    assert [leading_ids(adding, bos) for bos in ("auto", True, False)] == [(0,), (0,), ()]
    two = copy.deepcopy(tiny_tokenizer)
    two.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<pad> <s> $A", special_tokens=[("<s>", 0), ("<pad>", 2)]
    )
    assert leading_ids(two) == (2, 0)


def test_a_bos_that_the_tokenizer_does_not_have_is_refused(tiny_tokenizer: Any) -> None:
    without = PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer.backend_tokenizer)
    assert (bos_id(without), leading_ids(without)) == (None, ())
    with pytest.raises(ns.NeuronScopeError, match="the tokenizer has no BOS"):
        leading_ids(without, True)
    with pytest.raises(ns.NeuronScopeError, match="bos is 'auto', True or False, not 'yes'"):
        leading_ids(without, "yes")
