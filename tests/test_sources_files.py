"""Files as a corpus: which field has the text, Parquet, conversations, folders with all of it."""

from __future__ import annotations

import json
import sys
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


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_parquet(tmp_path / "a.parquet", [{"text": "one"}])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(CorpusError, match=r"pip install 'neuronscope\[datasets\]'"):
        texts(path)


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
