"""Files as a corpus: which field has the text, Parquet, conversations, folders with all of it."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from neuronscope.corpus import Document, Turn, open_corpus
from neuronscope.errors import CorpusError

CHAT = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hello!"}]
SAID = "User: Hello?\n\nAssistant: Hello!"


def write_parquet(path: Path, records: list[dict[str, Any]], **options: Any) -> Path:
    pq.write_table(pa.Table.from_pylist(records), path, **options)
    return path


def write_jsonl(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return path


def texts(corpus: object, **arguments: Any) -> list[str]:
    return [document.text for document in open_corpus(corpus, **arguments)]


def test_parquet_has_its_text_in_the_field_text(tmp_path: Path) -> None:
    records = [{"url": "a much longer string", "text": f"text {n}", "source": "web"} for n in range(1000)]
    path = write_parquet(tmp_path / "shard.parquet", records, row_group_size=100)
    assert list(open_corpus(path)) == [Document(f"text {n}", "web") for n in range(1000)]


def test_the_field_of_parquet_can_be_named_and_is_part_of_the_key(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "shard.parquet", [{"text": "long text", "title": "one"}])
    assert list(open_corpus(path, text_field="title")) == [Document("one", "shard")]
    assert open_corpus(path, text_field="title").key() != open_corpus(path).key()


def test_a_null_in_a_table_is_no_text(tmp_path: Path) -> None:
    assert texts(write_parquet(tmp_path / "a.parquet", [{"text": "one"}, {"text": None}, {"text": "two"}])) == [
        "one",
        "two",
    ]


@pytest.mark.parametrize(
    ("records", "field", "complaint"),
    [
        ([{"id": 7}], None, r"no field with text, only \['id'\]"),
        ([{"text": "one"}], "body", r"row 1: no text in the field 'body'; its fields are \['text'\]"),
        ([{"text": "one", "n": 7}], "n", "row 1: no text in the field 'n'"),
    ],
)
def test_parquet_without_text_is_refused(
    tmp_path: Path, records: list[dict[str, Any]], field: str | None, complaint: str
) -> None:
    with pytest.raises(CorpusError, match=complaint):
        texts(write_parquet(tmp_path / "a.parquet", records), text_field=field)


def test_what_is_not_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("not at all")
    with pytest.raises(CorpusError, match=r"a\.parquet cannot be read as Parquet"):
        texts(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    "record",
    [
        {"conversation_id": "a string much longer than any turn " * 9, "conversation": CHAT},
        {"messages": CHAT},
        {"conversations": [{"from": "human", "value": "Hello?"}, {"from": "gpt", "value": "Hello!"}]},
        {"messages": [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in CHAT]},
    ],
)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_conversations_are_found_in_the_usual_forms(tmp_path: Path, record: dict[str, Any], kind: str) -> None:
    path = tmp_path / f"chats.{kind}"
    write_jsonl(path, record) if kind == "jsonl" else write_parquet(path, [record])
    turns = (Turn("user", "Hello?"), Turn("assistant", "Hello!"))
    assert list(open_corpus(path)) == [Document(SAID, "chats", turns)]


def test_a_list_that_is_no_conversation_is_not_taken_for_one(tmp_path: Path) -> None:
    record = {"authors": [{"role": "editor", "name": "A"}], "tags": ["x"], "links": [], "body": "words"}
    assert texts(write_jsonl(tmp_path / "a.jsonl", record)) == ["words"]
    with pytest.raises(CorpusError, match="line 1: no text in the field 'authors'"):
        texts(tmp_path / "a.jsonl", text_field="authors")


def test_a_conversation_in_which_nothing_is_said_is_no_document(tmp_path: Path) -> None:
    silence = {"messages": [{"role": "user", "content": " "}, {"role": "assistant", "content": None}]}
    path = write_jsonl(tmp_path / "a.jsonl", {"messages": CHAT}, silence, {"messages": []})
    assert texts(path) == [SAID]


def test_lone_surrogates_are_replaced_in_turns_too() -> None:
    (document,) = open_corpus([Document.conversation([("user", "a\ud800b")], "chat")])
    assert document.turns == (Turn("user", "a\ufffdb"),)
    assert document.text == "User: a\ufffdb"


def test_the_key_of_conversations_knows_their_turns() -> None:
    two = Document.conversation([("user", "a"), ("assistant", "b")], "chat")
    one = Document.conversation([("user", "a\n\nAssistant: b")], "chat")
    assert one.text == two.text
    assert open_corpus([one]).key() != open_corpus([two]).key()


def test_a_folder_may_mix_text_jsonl_and_parquet(tmp_path: Path) -> None:
    write_parquet(tmp_path / "c.parquet", [{"text": "from c"}])
    write_jsonl(tmp_path / "b.jsonl", {"messages": CHAT})
    (tmp_path / "a.txt").write_text("from a", "utf-8")
    (tmp_path / "README.md").write_text("not text to read")
    assert texts(tmp_path) == ["from a", SAID, "from c"]


ONE, TWO = "She sells sea shells by the shore.", "The shells she sells are surely from the sea."
LINK = "https://shells.example/a/very/long/address/of/a/page/that/nobody/wants/to/read/as/text?id="
TALK = [{"role": "user", "content": "Any shells?"}, {"role": "model", "content": "Plenty."}]
TALKED = "User: Any shells?\n\nAssistant: Plenty."


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([{"text": None, "url": LINK}, {"text": None, "url": LINK}, {"text": ONE, "url": LINK}], [ONE]),
        ([{"text": ONE}, {"text": None}, {"text": TWO}], [ONE, TWO]),
        ([{"text": "", "url": LINK}, {"text": TWO, "url": LINK}], [TWO]),
        (
            [{"words": "Sea.", "link": LINK}, {"words": ONE, "link": LINK}, {"words": TWO, "link": LINK}],
            ["Sea.", ONE, TWO],
        ),
        ([{"title": "Of shells and of the sea", "body": ONE}], [ONE]),
        ([{"url": None, "body": ONE}, {"url": LINK, "body": TWO}], [ONE, TWO]),
        ([{"id": "a-name-of-this-record", "chat": None}, {"id": "another-name", "chat": TALK}], [TALKED]),
        ([{"id": "a-name-of-this-record", "text": None, "chat": TALK}], [TALKED]),
    ],
)
def test_the_field_is_found_by_more_than_the_first_record(
    tmp_path: Path, records: list[dict[str, Any]], expected: list[str], kind: str
) -> None:
    path = tmp_path / f"shells.{kind}"
    write_jsonl(path, *records) if kind == "jsonl" else write_parquet(path, records)
    assert texts(path) == expected


def test_an_empty_conversation_does_not_make_the_ids_the_corpus(tmp_path: Path) -> None:
    records = [{"id": "number one of the records", "talk": []}, {"id": "two", "talk": TALK}]
    assert texts(write_jsonl(tmp_path / "a.jsonl", *records)) == [TALKED]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    "record",
    [
        {"question": f"{ONE} {TWO}", "answer": "The sea."},
        {"Instruction": "Name what she sells on the shore.", "input": None, "Output": "Shells."},
        {"english": ONE, "german": "Sie verkauft Muscheln am Strand."},
        {"id": "f00d-cafe", "url": LINK},
    ],
)
def test_records_of_which_no_field_is_clearly_the_text_are_refused_with_their_fields(
    tmp_path: Path, record: dict[str, Any], kind: str
) -> None:
    path = tmp_path / f"pairs.{kind}"
    write_jsonl(path, record) if kind == "jsonl" else write_parquet(path, [record])
    with pytest.raises(CorpusError, match=r"text_field='\.\.\.'"):
        texts(path)
    chosen = next(iter(record))
    assert texts(path, text_field=chosen) == [record[chosen]]


def test_bytes_of_utf8_are_text(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array(["Müsli".encode(), b"milk"], pa.binary())}), tmp_path / "a.parquet")
    assert texts(tmp_path / "a.parquet") == ["Müsli", "milk"]
    pq.write_table(pa.table({"text": pa.array(["Müsli".encode("latin-1")], pa.binary())}), tmp_path / "b.parquet")
    with pytest.raises(CorpusError, match="row 1: no text in the field 'text'"):
        texts(tmp_path / "b.parquet")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le"])
@pytest.mark.parametrize("written", ["Nothing but plain letters.\n\nAnd more.", "Только кириллица здесь.\n\nИ ещё."])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_text_in_another_encoding_without_a_mark_is_refused_by_name(
    tmp_path: Path, encoding: str, written: str, name: str
) -> None:
    text = written if name == "a.txt" else json.dumps({"text": written}, ensure_ascii=False)
    (tmp_path / name).write_bytes(text.encode(encoding))
    with pytest.raises(CorpusError, match=rf"{name} is not UTF-8"):
        texts(tmp_path / name)


def test_a_stray_nul_is_a_character_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x" * 500 + "\0" + "y" * 500)
    assert texts(tmp_path / "a.txt") == ["x" * 500 + "\0" + "y" * 500]


COMPRESSORS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": pa.Codec("zstd").compress}


@pytest.mark.parametrize("ending", COMPRESSORS)
def test_compressed_files_are_read_and_damaged_ones_are_named(tmp_path: Path, ending: str) -> None:
    lines = "".join(json.dumps({"text": f"{ONE} {n}"}) + "\n" for n in range(2000)).encode()
    compressed = bytes(COMPRESSORS[ending](lines))
    path = tmp_path / f"shard.jsonl{ending}"
    path.write_bytes(compressed)
    documents = list(open_corpus(path))
    assert (len(documents), documents[7]) == (2000, Document(f"{ONE} 7", "shard"))
    path.write_bytes(compressed[: len(compressed) // 2])
    with pytest.raises(CorpusError, match=rf"shard\.jsonl{ending}' cannot be read"):
        texts(path)


def test_a_folder_is_its_data_and_not_what_is_said_about_it_or_hidden(tmp_path: Path) -> None:
    for name in ("README.txt", "LICENSE.txt", ".hidden.txt", "._data.jsonl", ".cache/old.txt", "sub/readme.TXT"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("not this")
    with pytest.raises(CorpusError, match=r"no \.txt, \.jsonl or \.parquet files"):
        open_corpus(tmp_path)
    (tmp_path / "data.jsonl.gz").write_bytes(gzip.compress(json.dumps({"text": ONE}).encode()))
    assert texts(tmp_path) == [ONE]
    assert texts(tmp_path / "README.txt") == ["not this"]  # whoever names it wants it


def test_files_of_a_folder_that_are_not_read_are_mentioned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "notes.txt").write_text(ONE)
    (tmp_path / "table.csv").write_text("text\n" + TWO)
    assert texts(tmp_path) == [ONE]
    assert "table.csv" in caplog.text


@pytest.mark.parametrize("corpus", ["It is a truth universally acknowledged, " * 200, "a\0b", "file.txt/below"])
def test_text_or_an_impossible_path_in_place_of_a_path_is_an_error_that_says_so(
    corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file.txt").write_text("x")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CorpusError) as caught:
        open_corpus(corpus)
    assert "list" in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("corpus", [{"text": ["a"]}, {"a text", "another"}, b"bytes", pa.table({"text": ["a"]})])
def test_tables_and_sets_are_no_corpus(corpus: object) -> None:
    with pytest.raises(CorpusError, match="is not a corpus"):
        open_corpus(corpus)


def test_deep_json_is_a_bad_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n' + "[" * 200_000)
    with pytest.raises(CorpusError, match="line 2: not JSON"):
        texts(tmp_path / "a.jsonl")
