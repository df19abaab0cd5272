"""What the reader compares of texts and sentences, and the vectors of words that it keeps."""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from neuronscope.llm.minilm import MiniLM
from neuronscope.offline.text import text_of
from neuronscope.simulators.reader.batch import Batch, batch_of
from neuronscope.simulators.reader.compiled import NAMED
from neuronscope.simulators.reader.features import FEATURES, features
from neuronscope.simulators.reader.literal import exact
from neuronscope.simulators.reader.sentence import PROBES
from neuronscope.simulators.reader.tokens import Pieces
from neuronscope.simulators.reader.vectors import Vectors

Array = NDArray[np.float32]

FROZEN = Path(__file__).with_name("reader_features.safetensors")
"""The features as they were when the weights were first trained on them; a change of one spoils the weights."""
TEXTS = (
    "The| king| of| France| was| killed| in| 1|7|9|3|,| and| his| wife| died| later| that| year|.| According| to| the"
    "| court|,| music| and| a| violin| went| to| Paris| quick|ly|.",
    "\"|Over| time|,| the| comp|iler|'s| run| time| grew|:| |2|0| %|\n|\n|Per|pet|ual| mo|tion| of|  | the| violin|-"
    "|maker|(|over| time|)|| such| as| this|.",
)
SENTENCES = (
    '"as" right after "such"; other uses of "as" give nothing. Words like "time" in "over time", "run time." and '
    'musical instruments (violin, piano), but not "motion".',
    'Later pieces of split words: "-iler" in the compiler, "-ual"; weakly on verbs and names of people or places after '
    '"the" or a preposition, numbers and commas.',
    'Strongly on words ending in "ly" or starting with "vi", capitalised words, line breaks and punctuation; any token '
    'after "of" or "-ing", except after "the"; first syllables.',
)


def batch(vectors: Vectors, *texts: str) -> Batch:
    """Texts, with probes that tell something by chance, and no correction of MiniLM."""
    tokens = [text.split("|") if text else [] for text in texts]
    probed = [np.random.default_rng(len(each)).random((len(each), len(PROBES)), dtype=np.float32) for each in tokens]
    return batch_of([text_of(each) for each in tokens], probed, vectors, vectors.stack)


def belongs(words: Array, phrases: Array) -> Array:
    return np.clip(words @ phrases.T, 0, 1)


def named(phrases: Array) -> Array:
    """What phrases name, by chance, as `ReaderNetwork.named` tells it."""
    odds = phrases @ np.random.default_rng(7).normal(size=(phrases.shape[1], len(NAMED) + 1)).astype(np.float32)
    shares: Array = np.exp(4 * odds) / np.exp(4 * odds).sum(axis=1, keepdims=True)
    return shares


def column(rows: Array, name: str) -> list[float]:
    values: list[float] = rows[:, FEATURES.index(name)].tolist()
    return values


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    return Vectors(on_disk=False)


def test_features_are_those_that_the_weights_were_trained_on(vectors: Vectors) -> None:
    both = batch(vectors, *TEXTS)
    rows = np.concatenate([features(sentence, both, vectors, belongs, named) for sentence in SENTENCES])
    frozen = load_file(FROZEN)["features"]
    for index, name in enumerate(FEATURES):
        np.testing.assert_allclose(rows[:, index], frozen[:, index], atol=1e-5, err_msg=name)


@pytest.mark.parametrize("sentence", SENTENCES)
def test_a_texts_features_depend_on_no_other_text(vectors: Vectors, sentence: str) -> None:
    together = batch(vectors, TEXTS[1], "", *TEXTS, TEXTS[0])
    rows = features(sentence, together, vectors, belongs, named)
    for (start, end), text in zip(together.spans, (TEXTS[1], "", *TEXTS, TEXTS[0]), strict=True):
        np.testing.assert_allclose(
            rows[start:end], features(sentence, batch(vectors, text), vectors, belongs, named), atol=1e-5
        )


@pytest.mark.parametrize("sentence", SENTENCES)
def test_features_of_a_prefix_are_the_prefix_of_the_features(vectors: Vectors, sentence: str) -> None:
    tokens = TEXTS[1].split("|")
    whole = features(sentence, batch(vectors, TEXTS[1]), vectors, belongs, named)
    for length in range(1, len(tokens)):
        both = batch(vectors, TEXTS[1])
        probed = [both.probed[:length]]
        part = batch_of([text_of(tokens[:length])], probed, vectors, vectors.stack)
        np.testing.assert_allclose(features(sentence, part, vectors, belongs, named), whole[:length], atol=1e-5)


def test_a_quoted_phrase_counts_as_far_as_it_goes(vectors: Vectors) -> None:
    rows = features(
        'The phrase "over time"', batch(vectors, "Over| time| and| over| the| time"), vectors, belongs, named
    )
    assert column(rows, "phrase_ends") == [0, 1, 0, 0, 0, 0]
    assert column(rows, "phrase_goes_on") == [0.5, 0, 0, 0.5, 0, 0]


def test_a_sentence_of_quotes_alone_is_read_by_the_letter(vectors: Vectors) -> None:
    texts = batch(vectors, TEXTS[1], "", "un|happi|ness| was| his| kind|ness|.")
    values = exact('Activates strongly on "-ness" after "-ppi" and "kind".', texts, vectors)
    assert values is not None
    start, end = texts.spans[2]
    assert values[start:end].tolist() == pytest.approx([0, 0, 6, 0, 0, 6, 0.14, 0], abs=0.02)
    assert exact("Kindness.", texts, vectors) is None


def test_no_text_has_no_features(vectors: Vectors) -> None:
    assert features(SENTENCES[0], batch(vectors), vectors, belongs, named).shape == (0, len(FEATURES))
    assert features(SENTENCES[0], batch(vectors, ""), vectors, belongs, named).shape == (0, len(FEATURES))


def test_vectors_of_packed_texts_are_those_of_texts_alone() -> None:
    texts = ["king", "a sentence of some more words", "", "word " * 400, "ünïcode"]
    minilm = MiniLM()
    np.testing.assert_allclose(minilm.embed_packed(texts), minilm.embed_documents(texts), atol=1e-5)
    assert minilm.embed_packed([]).shape == (0, 384)


class Absent(Vectors):
    """Vectors where MiniLM cannot be asked."""

    def embed(self, texts: Sequence[str]) -> Array:
        raise AssertionError(f"asked for {texts}")


def test_words_are_embedded_once_for_all_processes(own_cache: None) -> None:
    words = ["king", "queen", "ünïcode"]
    first = Vectors().stack(words)
    np.testing.assert_array_equal(Absent().stack(words), first)


def test_vectors_can_be_sent_to_another_process(own_cache: None) -> None:
    vectors = Vectors()
    first = vectors.stack(["king"])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(vectors)).stack(["king"]), first)


def test_phrases_are_not_kept_on_disk(own_cache: None, tmp_path: Path) -> None:
    Vectors().stack(["a phrase that someone wrote"])
    with pytest.raises(AssertionError):
        Absent().stack(["a phrase that someone wrote"])


def test_a_damaged_vector_is_made_anew(own_cache: None, tmp_path: Path) -> None:
    first = Vectors().stack(["king", "queen"])
    (path,) = (tmp_path / "cache").rglob("*.sqlite")
    with sqlite3.connect(path) as database:
        database.execute("UPDATE vectors SET vector = zeroblob(1536)")
    np.testing.assert_allclose(Vectors().stack(["king", "queen"]), first, atol=1e-5)


def test_without_a_cache_folder_vectors_are_made_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.joinpath("file").write_text("no folder")
    monkeypatch.setenv("NEURONSCOPE_CACHE", str(tmp_path / "file"))
    vectors = Vectors()
    assert vectors.stack(["king"]).shape == vectors.stack(["queen"]).shape == (1, 384)
    assert len(caplog.records) == 1


def test_more_vectors_than_are_remembered_can_be_asked_for_at_once() -> None:
    words = ["one", "two", "three", "four", "five"]
    few = Vectors(capacity=3, on_disk=False)
    np.testing.assert_allclose(few.stack(words), Vectors(on_disk=False).stack(words), atol=1e-5)
    np.testing.assert_allclose(few.stack(words[::-1]), few.stack(words)[::-1], atol=1e-5)


class Letters:
    """A tokenizer with an id for each letter."""

    def __call__(self, texts: list[str], **_: object) -> dict[str, list[list[int]]]:
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}


def test_tokens_are_encoded_one_by_one_however_few_are_remembered() -> None:
    pieces = Pieces(Letters(), capacity=3)
    for _ in range(2):
        assert pieces.encode(["ab", "c", "", "ab", "d"]) == ([97, 98, 99, 32, 97, 98, 100], [1, 2, 3, 5, 6])
        assert pieces.encode(["ab", "e"]) == ([97, 98, 101], [1, 2])
