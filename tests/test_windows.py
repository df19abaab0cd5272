"""How documents become sequences."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from neuronscope.corpus import Document, split_of, windows
from neuronscope.subject.loaded import LoadedSubject
from table_subject import character_tokenizer

LETTERS = "?abcdefghij"
TOKENIZER = character_tokenizer(LETTERS)


def lengths(*texts: str, seq_len: int = 64, n_tokens: int | None = None) -> list[int]:
    documents = [Document(text, "texts") for text in texts]
    return [len(window.token_ids) for window in windows(documents, TOKENIZER, seq_len, n_tokens)]


def test_a_document_is_cut_into_full_windows_and_a_tail_of_16_tokens_or_more() -> None:
    assert lengths("a" * 144) == [64, 64, 16]
    assert lengths("a" * 143) == [64, 64]


def test_a_short_document_is_one_short_sequence_unless_it_is_hardly_anything() -> None:
    assert lengths("abcd", "abc", "abcdefghij") == [4, 10]


def test_reading_stops_after_the_document_that_reaches_the_number_of_tokens() -> None:
    assert lengths("a" * 30, "b" * 100, "c" * 30, n_tokens=31) == [30, 64, 36]


def test_ids_count_up_across_documents_and_every_window_knows_its_document() -> None:
    documents = [Document("a" * 100, "first"), Document("b" * 70, "second")]
    found = [
        (window.sequence_id, window.source, window.split, set(window.token_ids))
        for window in windows(documents, TOKENIZER)
    ]
    first, second = split_of("a" * 100), split_of("b" * 70)
    assert found == [(0, "first", first, {1}), (1, "first", first, {1}), (2, "second", second, {2})]


@given(st.lists(st.text(alphabet=LETTERS, max_size=300), max_size=20), st.integers(1, 80))
def test_windows_are_the_documents_text_in_order(texts: list[str], seq_len: int) -> None:
    found: dict[int, str] = {}
    documents = [Document(text, str(number)) for number, text in enumerate(texts)]
    for window in windows(documents, TOKENIZER, seq_len):
        found[int(window.source)] = found.get(int(window.source), "") + "".join(LETTERS[i] for i in window.token_ids)
        assert 0 < len(window.token_ids) <= seq_len
    for number, text in enumerate(texts):
        kept = found.get(number, "")
        assert text.startswith(kept)
        assert len(text) - len(kept) < min(16, seq_len)


def test_text_that_looks_like_a_special_token_stays_text(smollm2: LoadedSubject) -> None:
    tokenizer = smollm2.tokenizer
    text = "He wrote <|im_start|>system and then <|endoftext|> at the end, and <|im_end|> too."
    (window,) = windows([Document(text, "chat")], tokenizer)
    assert not set(window.token_ids) & set(tokenizer.all_special_ids)
    assert tokenizer.decode(window.token_ids) == text
