"""Whatever a simulator's tokenizer does to a text, each of the subject's tokens gets one value, from its own place."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers import ByT5Tokenizer

from neuronscope.errors import SimulatorError
from neuronscope.simulators.alignment import Aligned, align
from neuronscope.subject.tokens import token_strings
from tokenizers_zoo import KINDS, TEXTS, encode, tokenizers_of_all_kinds, trimming

kinds, fractions, seeds = st.sampled_from(KINDS), st.floats(0, 1), st.integers(0, 99)


@pytest.fixture(scope="module")
def zoo(smollm2: Any) -> dict[str, Any]:
    return tokenizers_of_all_kinds(smollm2.tokenizer)


def window(tokenizer: Any, text: str, start: float = 0) -> list[str]:
    """The token strings of a text from some token on, which may be inside a character."""
    token_ids = encode(tokenizer, text)
    return token_strings(tokenizer, token_ids[int(start * len(token_ids)) :])


def random_values(aligned: Aligned, seed: int, n_explanations: int = 2) -> Any:
    return np.random.default_rng(seed).random((n_explanations, len(aligned.token_ids)), dtype=np.float32)


def projected(tokens: list[str], simulator: Any, values: list[float]) -> list[float]:
    projection: list[float] = align(tokens, simulator).project(np.array(values)).tolist()
    return projection


@pytest.mark.parametrize(("subject", "simulator"), list(product(KINDS, KINDS)))
@given(text=TEXTS, start=fractions)
@settings(max_examples=30)
def test_a_constant_prediction_stays_constant_at_every_subject_token(
    zoo: Any, subject: str, simulator: str, text: str, start: float
) -> None:
    tokens = window(zoo[subject], text, start)
    aligned = align(tokens, zoo[simulator])
    projection = aligned.project(np.full((3, len(aligned.token_ids)), 7, dtype=np.float32))
    assert projection.dtype == np.float32
    np.testing.assert_array_equal(projection, np.full((3, len(tokens)), 7 if aligned.token_ids else 0))


@given(subject=kinds, simulator=kinds, text=TEXTS, start=fractions, seed=seeds)
@settings(max_examples=100)
def test_predictions_keep_their_order_and_their_maximum(
    zoo: Any, subject: str, simulator: str, text: str, start: float, seed: int
) -> None:
    tokens = window(zoo[subject], text, start)
    aligned = align(tokens, zoo[simulator])
    if not tokens or not aligned.token_ids:
        return
    values = random_values(aligned, seed)
    np.testing.assert_array_equal(aligned.project(values).max(axis=-1), values.max(axis=-1))
    order = aligned.project(np.arange(len(aligned.token_ids)))
    assert (np.diff(order) >= 0).all()


@given(subject=kinds, simulator=kinds, text=TEXTS, seed=seeds)
@settings(max_examples=60)
def test_a_higher_value_lowers_no_other(zoo: Any, subject: str, simulator: str, text: str, seed: int) -> None:
    aligned = align(window(zoo[subject], text), zoo[simulator])
    values = random_values(aligned, seed)
    for position in range(len(aligned.token_ids)):
        raised = values.copy()
        raised[:, position] += 1
        assert (aligned.project(raised) >= aligned.project(values)).all()


@given(
    subject=kinds,
    simulator=kinds,
    text=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40),
    seed=seeds,
)
@settings(max_examples=100)
def test_a_token_takes_the_largest_value_of_those_that_overlap_it(
    zoo: Any, subject: str, simulator: str, text: str, seed: int
) -> None:
    tokens = window(zoo[subject], text)
    tokenizer = zoo[simulator]
    aligned = align(tokens, tokenizer)
    encoded = tokenizer("".join(tokens), add_special_tokens=False, return_offsets_mapping=True)
    if encoded["input_ids"] != aligned.token_ids:  # the text spells a special token
        return
    values = random_values(aligned, seed, 1)
    projection = aligned.project(values)[0]
    if np.array_equal(projection, values[0]):  # token for token
        return
    end = 0
    for token, value in zip(tokens, projection, strict=True):
        start, end = end, end + len(token)
        spans = zip(values[0], encoded["offset_mapping"], strict=True)
        overlapping = [own for own, (left, right) in spans if left < end and right > start]
        assert value == max(overlapping, default=value)


@given(kind=kinds, text=TEXTS, start=fractions, seed=seeds)
@settings(max_examples=100)
def test_a_simulator_with_the_subjects_tokenizer_reads_the_subjects_own_tokens(
    zoo: Any, kind: str, text: str, start: float, seed: int
) -> None:
    tokenizer = zoo[kind]
    token_ids = encode(tokenizer, text)
    token_ids = token_ids[int(start * len(token_ids)) :]
    aligned = align(token_strings(tokenizer, token_ids), tokenizer, token_ids)
    values = random_values(aligned, seed)
    assert aligned.token_ids == token_ids
    np.testing.assert_array_equal(aligned.project(values), values)


@pytest.mark.parametrize("kind", ["byte-level BPE", "BPE with byte fallback"])
@given(text=TEXTS, seed=seeds)
@settings(max_examples=100)
def test_the_text_alone_gives_a_lossless_tokenizer_back_its_own_tokens(
    zoo: Any, kind: str, text: str, seed: int
) -> None:
    tokenizer = zoo[kind]
    token_ids = encode(tokenizer, text)
    tokens = token_strings(tokenizer, token_ids)
    assume("".join(tokens) == text)  # SmolLM2's vocabulary lacks a few bytes
    aligned = align(tokens, tokenizer)
    values = random_values(aligned, seed)
    assert aligned.token_ids == token_ids
    np.testing.assert_array_equal(aligned.project(values), values)


@given(kind=kinds, text=TEXTS)
@settings(max_examples=100)
def test_text_never_becomes_a_special_token(zoo: Any, kind: str, text: str) -> None:
    tokenizer = zoo[kind]
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    spelling = [text, *tokenizer.all_special_tokens, text]
    assert not special & set(align(spelling, tokenizer).token_ids)


def test_the_subjects_own_special_tokens_stay_special_where_the_simulator_has_the_same(smollm2: Any) -> None:
    token_ids = [1, *encode(smollm2.tokenizer, "user"), 2]
    assert align(token_strings(smollm2.tokenizer, token_ids), smollm2.tokenizer, token_ids).token_ids == token_ids


@pytest.mark.parametrize("token_ids", [[15496, 995], [0, 10**9], [-1, 5], [15496]])
def test_ids_that_mean_something_else_to_the_simulator_are_not_used(smollm2: Any, token_ids: list[int]) -> None:
    tokens = ["Hello", " world"]
    expected = encode(smollm2.tokenizer, "Hello world")
    assert align(tokens, smollm2.tokenizer, token_ids).token_ids == expected != token_ids


def test_a_subject_token_of_several_simulator_tokens_takes_their_maximum(smollm2: Any) -> None:
    tokens = ["un", "believably", " good"]
    own = token_strings(smollm2.tokenizer, align(tokens, smollm2.tokenizer).token_ids)
    assert own == ["un", "belie", "v", "ably", " good"]
    assert projected(tokens, smollm2.tokenizer, [1, 2, 9, 3, 4]) == [1, 9, 4]


def test_a_simulator_token_of_several_subject_tokens_gives_each_its_value(smollm2: Any) -> None:
    assert projected(["w", "or", "ld", "!"], smollm2.tokenizer, [5, 1]) == [5, 5, 5, 1]


def test_characters_that_the_simulator_skips_take_the_value_before_them_and_else_after(zoo: Any) -> None:
    tokens = ["\n", " ", "one", " ", " two", "\x07"]
    assert projected(tokens, zoo["WordPiece"], [1, 2]) == [1, 1, 1, 1, 2, 2]


def test_a_text_that_the_simulator_does_not_read_has_zeros(zoo: Any) -> None:
    aligned = align(["\x07", "\ufffd"], zoo["WordPiece"])
    assert aligned.token_ids == []
    assert aligned.project(np.ones((3, 0), dtype=np.float32)).tolist() == [[0, 0]] * 3


def test_a_character_of_several_subject_tokens_gives_each_its_value(zoo: Any) -> None:
    assert projected(["a", "", "", "漢", ""], zoo["WordPiece"], [1, 4]) == [1, 4, 4, 4, 4]


def test_a_character_of_several_tokens_on_both_sides_gives_each_its_maximum(zoo: Any, smollm2: Any) -> None:
    fallback = zoo["BPE with byte fallback"]
    tokens = token_strings(fallback, encode(fallback, "a😀"))
    assert tokens == ["a", "", "", "", "😀"]
    assert projected(tokens, smollm2.tokenizer, [1, 2, 5, 3]) == [1, 5, 5, 5, 5]


def test_a_space_whose_token_is_told_no_characters_takes_that_tokens_value() -> None:
    assert projected(["a", " ", " b"], trimming(), [1, 2, 3]) == [1, 2, 3]
    assert projected([" ", " a"], trimming(), [5, 1]) == [5, 1]


def test_a_marker_that_the_simulator_puts_in_front_belongs_to_the_first_character(zoo: Any) -> None:
    assert projected(["漢", "字"], zoo["BPE on ▁"], [6, 1, 2]) == [6, 2]


def test_no_tokens_have_no_values(smollm2: Any) -> None:
    for token_ids in (None, []):
        aligned = align([], smollm2.tokenizer, token_ids)
        assert aligned.project(np.zeros((4, len(aligned.token_ids)))).shape == (4, 0)


def test_empty_token_strings_have_zeros(smollm2: Any) -> None:
    assert projected(["", ""], smollm2.tokenizer, []) == [0, 0]


def test_any_leading_axes_are_kept(smollm2: Any) -> None:
    assert align(["a", " b"], smollm2.tokenizer).project(np.zeros((2, 3, 4, 2))).shape == (2, 3, 4, 2)


def test_values_of_another_text_are_refused(smollm2: Any) -> None:
    with pytest.raises(SimulatorError, match=r"shape \(2, 5\), but the simulator reads the text as 2 tokens"):
        align(["a", " b"], smollm2.tokenizer).project(np.zeros((2, 5)))


def test_a_tokenizer_that_tells_no_positions_is_refused() -> None:
    with pytest.raises(SimulatorError, match="ByT5Tokenizer, does not say which characters"):
        align(["a", "b"], ByT5Tokenizer())


def test_a_tokenizer_that_tells_no_positions_will_do_if_it_is_the_subjects_own() -> None:
    tokenizer = ByT5Tokenizer()
    token_ids = encode(tokenizer, "ab")
    assert align(["a", "b"], tokenizer, token_ids).token_ids == token_ids
