"""How documents become sequences."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronscope.corpus import Document, documents, open_corpus, split_of, windows
from neuronscope.corpus.encoding import encode, encode_in_pieces
from neuronscope.corpus.windows import MAX_REST, MIN_TAIL
from neuronscope.subject.loaded import LoadedSubject
from table_subject import character_tokenizer
from tokenizers_zoo import KINDS, tokenizers_of_all_kinds

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


def test_a_long_document_is_read_only_as_far_as_tokens_are_asked_for() -> None:
    assert sum(lengths("a" * 5_000_000, n_tokens=1000)) <= 1000 + MAX_REST + 64
    assert sum(lengths("a" * 960, "b" * (MAX_REST - 64), "c", n_tokens=1000)) == 960 + MAX_REST - 64


class CountingTokenizer:
    """Words are tokens; it counts the characters that it was given."""

    is_fast = False
    characters = 0

    def __call__(self, texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
        self.characters += sum(map(len, texts))
        return {"input_ids": [[len(word) for word in text.split()] for text in texts]}


def test_of_a_long_document_what_is_not_asked_for_is_not_tokenized() -> None:
    tokenizer = CountingTokenizer()
    document = Document("word " * 1_000_000, "book")
    assert sum(len(window.token_ids) for window in windows([document], tokenizer, n_tokens=1000)) < 2000
    assert tokenizer.characters < 100_000


def test_work_grows_with_the_length_of_a_document_not_with_its_square(monkeypatch: pytest.MonkeyPatch) -> None:
    digest_of = documents.digest_of

    def characters(n_words: int) -> int:
        """How many are tokenized or hashed for a document of so many words, read as a corpus."""
        tokenizer, hashed = CountingTokenizer(), []
        monkeypatch.setattr(documents, "digest_of", lambda text: hashed.append(len(text)) or digest_of(text))
        found = windows(open_corpus(["word " * n_words]), tokenizer)
        assert sum(len(window.token_ids) for window in found) >= n_words - MIN_TAIL
        return tokenizer.characters + sum(hashed)

    assert characters(200_000) <= 2.1 * characters(100_000) <= 4.4 * characters(50_000)


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_text_in_pieces_has_the_tokens_that_it_has_as_one(kind: str, smollm2: LoadedSubject) -> None:
    tokenizer = tokenizers_of_all_kinds(smollm2.tokenizer)[kind]
    sentences = ["A fox, 23 dogs\tand a naïve café!", "  def f(x):\n    return x", "It isn't 1999.", "日本 here"]
    drawn = random.Random(0)
    document = Document(" ".join(drawn.choices(sentences, k=1500)), "book")
    pieces = list(encode_in_pieces(document, tokenizer, 3000))
    assert len(pieces) > 5
    assert [token for piece in pieces for token in piece] == encode([document], tokenizer)[0]
