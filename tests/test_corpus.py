"""What a corpus is: documents from anywhere, without duplicates, each in one split."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from importlib import metadata
from pathlib import Path

import pytest

from neuronscope.corpus import Document, open_corpus, split_of
from neuronscope.errors import CorpusError


def texts(corpus: object) -> list[str]:
    return [document.text for document in open_corpus(corpus)]


def write_jsonl(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return path


def test_strings_and_documents_are_a_corpus() -> None:
    documents = list(open_corpus(["one", Document("two", "letters")]))
    assert documents == [Document("one", "texts"), Document("two", "letters")]


def test_empty_documents_and_exact_duplicates_are_dropped() -> None:
    assert texts(["one", "", "two", " \n", "one", "One"]) == ["one", "two", "One"]


def test_lone_surrogates_are_replaced_since_no_tokenizer_takes_them() -> None:
    assert texts(["a\ud800b"]) == ["a\ufffdb"]


def test_a_corpus_without_text_is_refused() -> None:
    with pytest.raises(CorpusError, match="has no text"):
        texts(["", "  "])


def test_an_iterable_can_be_read_again_and_its_key_is_its_content() -> None:
    corpus = open_corpus(["one", "two"])
    assert list(corpus) == list(corpus)
    assert corpus.key() == open_corpus(("one", "two")).key() != open_corpus(["one two"]).key()


def test_a_generator_is_read_once_and_never_recognised_again() -> None:
    corpus = open_corpus(text for text in ["one", "two"])
    assert len(list(corpus)) == 2
    with pytest.raises(CorpusError, match="only once"):
        list(corpus)
    assert corpus.key() == corpus.key() != open_corpus(iter(["one", "two"])).key()


@pytest.mark.parametrize("corpus", [7, None, ["fine", 7]])
def test_what_is_not_text_is_refused_by_its_type(corpus: object) -> None:
    with pytest.raises(CorpusError, match=r"int|NoneType"):
        texts(corpus)


def test_a_text_file_is_read_by_paragraphs(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("\n\nfirst line\nsecond line\n\n \nnext paragraph\n", "utf-8")
    assert list(open_corpus(path)) == [Document("first line\nsecond line", "book"), Document("next paragraph", "book")]


def test_a_text_file_without_blank_lines_is_read_by_lines(tmp_path: Path) -> None:
    path = tmp_path / "reports.txt"
    path.write_text("\ufeffone\ntwo\nthree\n\n", "utf-8")
    assert texts(str(path)) == ["one", "two", "three"]


def test_a_text_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes("Stra\xdfe".encode("latin-1"))
    with pytest.raises(CorpusError, match=r"latin\.txt is not UTF-8"):
        texts(path)


def test_jsonl_has_its_text_in_the_field_text(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "web.jsonl", {"url": "a much longer string", "text": "one"}, {"text": "two"})
    assert list(open_corpus(path)) == [Document("one", "web"), Document("two", "web")]


def test_jsonl_without_that_field_has_it_in_one_of_the_usual_names(tmp_path: Path) -> None:
    path = write_jsonl(
        tmp_path / "web.jsonl", {"id": "7", "body": "some text"}, {"id": "very long identifier", "body": "x"}
    )
    assert texts(path) == ["some text", "x"]


def test_the_field_can_be_named_and_the_source_too(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "web.jsonl", {"text": "long text", "title": "one", "source": "titles"})
    corpus = open_corpus(path, text_field="title")
    assert list(corpus) == [Document("one", "titles")]
    assert corpus.key() != open_corpus(path).key()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"text": "cut', "line 2: not JSON"),
        ('["text"]', "line 2: expected a JSON object, got list"),
        ('{"title": "x"}', r"line 2: no text in the field 'text'; its fields are \['title'\]"),
        ('{"text": 7}', "line 2: no text in the field 'text'"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    path = tmp_path / "web.jsonl"
    path.write_text('{"text": "fine"}\n' + line + "\n", "utf-8")
    with pytest.raises(CorpusError, match=complaint):
        texts(path)


def test_a_first_record_without_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"no field with text, only \['id'\]"):
        texts(write_jsonl(tmp_path / "numbers.jsonl", {"id": 7}))


def test_a_folder_is_all_its_text_files_in_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("from b", "utf-8")
    (tmp_path / "inner").mkdir()
    write_jsonl(tmp_path / "inner" / "c.jsonl", {"text": "from c"})
    write_jsonl(tmp_path / "a.jsonl", {"text": "from a"})
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    assert list(open_corpus(tmp_path)) == [Document("from a", "a"), Document("from b", "b"), Document("from c", "c")]


def test_the_key_of_files_is_their_content_not_their_place_or_time(tmp_path: Path) -> None:
    first, second = tmp_path / "one" / "a.txt", tmp_path / "two" / "a.txt"
    for path in (first, second):
        path.parent.mkdir()
        path.write_text("text", "utf-8")
    assert open_corpus(first).key() == open_corpus(second).key() == open_corpus(tmp_path / "one").key()
    second.write_text("texts", "utf-8")
    assert open_corpus(first).key() != open_corpus(second).key()


@pytest.mark.parametrize("name", ["missing.txt", "empty-folder", "table.xlsx"])
def test_a_path_with_nothing_to_read_is_refused_with_what_would_do(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty-folder").mkdir()
    (tmp_path / "table.xlsx").write_text("a,b")
    with pytest.raises(CorpusError, match=r"\.jsonl"):
        open_corpus(tmp_path / name)


def test_splits_are_60_10_15_15_and_depend_on_the_text_alone() -> None:
    counts = Counter(split_of(f"document {i}") for i in range(20_000))
    assert counts["train"] / 20_000 == pytest.approx(0.60, abs=0.015)
    assert counts["feedback"] / 20_000 == pytest.approx(0.10, abs=0.01)
    assert counts["validation"] / 20_000 == pytest.approx(0.15, abs=0.01)
    assert counts["test"] / 20_000 == pytest.approx(0.15, abs=0.01)
    assert split_of("document 7") == split_of("document 7")


def test_validation_and_test_are_the_documents_that_they_were_of_three_splits() -> None:
    def of_three(text: str) -> str:
        fraction = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest()[:8], "big") / 2**64
        return "train" if fraction < 0.70 else "validation" if fraction < 0.85 else "test"

    texts = [f"document {i}" for i in range(5_000)]
    now = [{"feedback": "train"}.get(split_of(text), split_of(text)) for text in texts]
    assert now == [of_three(text) for text in texts]


@pytest.fixture(scope="module")
def builtin() -> list[Document]:
    return list(open_corpus("builtin"))


def characters(documents: list[Document]) -> Counter[str]:
    return sum((Counter({document.source: len(document.text)}) for document in documents), Counter())


def test_the_builtin_corpus_has_four_kinds_of_real_text(builtin: list[Document]) -> None:
    sizes = characters(builtin)
    assert set(sizes) == {"encyclopedia", "news", "dialogue", "technical"}
    assert sizes.total() > 3_000_000
    assert min(sizes.values()) > 100_000


def test_its_beginning_is_a_fair_sample_of_it(builtin: list[Document]) -> None:
    whole, beginning = characters(builtin), characters(builtin[: len(builtin) // 8])
    for source, size in whole.items():
        assert beginning[source] / beginning.total() == pytest.approx(size / whole.total(), rel=0.25)


def test_each_of_its_sources_is_divided_about_60_10_15_15(builtin: list[Document]) -> None:
    whole = characters(builtin)
    for split, share in {"train": 0.60, "feedback": 0.10, "validation": 0.15, "test": 0.15}.items():
        own = characters([document for document in builtin if split_of(document.text) == split])
        assert all(own[source] / size == pytest.approx(share, abs=0.07) for source, size in whole.items())


def test_it_has_no_wiki_markup_left(builtin: list[Document]) -> None:
    articles = [document.text for document in builtin if document.source == "encyclopedia"]
    assert not [
        text for text in articles if "'''" in text or "[[" in text or "{|" in text or "#redirect" in text.lower()
    ]
    assert all("\n\n" in text for text in articles)


def test_dialogues_are_labelled_turns(builtin: list[Document]) -> None:
    dialogues = [document.text for document in builtin if document.source == "dialogue"]
    assert all(text.startswith("User: ") for text in dialogues)
    assert sum("\nAssistant: " in text for text in dialogues) > 0.9 * len(dialogues)


def test_it_is_the_same_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, builtin: list[Document]) -> None:
    monkeypatch.setenv("NEURONSCOPE_CACHE", str(tmp_path))
    corpus = open_corpus("builtin")
    assert list(corpus) == builtin
    assert list(corpus) == builtin  # now from the cache


def test_without_its_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(CorpusError, match=r"pip install 'neuronscope\[demo\]'"):
        open_corpus("builtin")
