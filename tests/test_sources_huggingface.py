"""Hugging Face datasets: streamed, pinned to one revision, and every failure an error that says what to do."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterator
from http.client import IncompleteRead
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

import neuronscope as ns
from neuronscope.cli import main as cli
from neuronscope.corpus import Document, Turn, open_corpus
from neuronscope.corpus.huggingface import DatasetReference
from neuronscope.errors import CorpusError
from neuronscope.subject.loaded import LoadedSubject
from small_hub import COMMIT, SmallHub

CHAT = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hello!"}]


@pytest.fixture(autouse=True)
def caches(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is remembered from one test to the next, nor left in the user's caches."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache / "hub"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", cache / "datasets")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset of two Parquet shards of training text, and one of test text."""
    home = tmp_path / "web"
    (home / "data").mkdir(parents=True)
    for shard, start in (("train-00000", 0), ("train-00001", 50), ("test-00000", 100)):
        records = [{"url": "a much longer string", "text": f"text {n}"} for n in range(start, start + 50)]
        pq.write_table(pa.Table.from_pylist(records), home / "data" / f"{shard}.parquet")
    return home


@pytest.fixture
def hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A hub on this computer, with that dataset as someone/web."""
    with SmallHub({"someone/web": folder}) as running:
        running.attach(monkeypatch)
        yield running


def texts(corpus: object, **arguments: Any) -> list[str]:
    return [document.text for document in open_corpus(corpus, **arguments)]


def test_a_folder_is_read_as_the_package_datasets_reads_it(folder: Path) -> None:
    assert list(open_corpus(f"hf:{folder}")) == [Document(f"text {n}", "web") for n in range(100)]
    assert texts(f"hf:{folder}?split=test") == [f"text {n}" for n in range(100, 150)]


def test_a_folder_may_be_relative_or_in_the_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    assert len(texts("hf:./web")) == len(texts("hf:web")) == len(texts("hf:~/web")) == 100


def test_a_folder_with_configurations_has_one_chosen_by_name(tmp_path: Path) -> None:
    configurations = "".join(f"- config_name: {name}\n  data_files: {name}.jsonl\n" for name in ("big", "small"))
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{configurations}---\n")
    for name in ("big", "small"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": name}) + "\n")
    assert texts(f"hf:{tmp_path}?name=small") == ["small"]
    with pytest.raises(CorpusError, match=r"'big', 'small'.*\?name="):
        texts(f"hf:{tmp_path}")


TABLE = 'text,n,source\n"Shells, by the sea",1,shore\n"two\nlines",x,\n,3,\n'
"""The last record has no text, a number stands where a name did, and a field goes on over a line."""


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("shells.csv", TABLE),
        ("shells.csv.gz", TABLE),
        ("shells.tsv", TABLE.replace(", by", "; by").replace(",", "\t").replace("; by", ", by")),
        ("shells.json", json.dumps([{"text": "Shells, by the sea", "source": "shore"}, {"text": "two\nlines"}])),
    ],
)
def test_files_of_other_formats_are_read_by_datasets(tmp_path: Path, name: str, content: str) -> None:
    data = content.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    (tmp_path / "README.md").write_text("---\nconfigs:\n- config_name: other\n  data_files: other.jsonl\n---\n")
    expected = [Document("Shells, by the sea", "shore"), Document("two\nlines", "shells")]
    assert list(open_corpus(tmp_path / name)) == list(open_corpus(f"hf:{tmp_path / name}")) == expected


def test_the_key_of_such_a_file_is_its_content_and_the_field(tmp_path: Path) -> None:
    for folder, content in (("a", "text\none\n"), ("b", "text\none\n"), ("c", "text\ntwo\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "t.csv").write_text(content)
    a, b, c = (open_corpus(tmp_path / folder / "t.csv") for folder in "abc")
    assert a.key() == b.key() != c.key()
    assert open_corpus(tmp_path / "a" / "t.csv", text_field="text").key() != a.key()


@pytest.mark.parametrize(("name", "content"), [("t.csv", 'text,n\n"open,1\n'), ("t.json", '[{"text":')])
def test_a_damaged_file_of_another_format_is_named(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(CorpusError, match=rf"{name} cannot be read"):
        texts(tmp_path / name)


def test_such_a_file_without_datasets_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    (tmp_path / "t.csv").write_text("text\none\n")
    monkeypatch.setattr(metadata, "version", absent)
    with pytest.raises(CorpusError, match=r"t\.csv needs the package datasets"):
        open_corpus(tmp_path / "t.csv")


def test_conversations_are_documents_with_turns(tmp_path: Path) -> None:
    record = {"conversation_id": "a string much longer than any turn", "conversation": CHAT}
    pq.write_table(pa.Table.from_pylist([record]), tmp_path / "train.parquet")
    (document,) = open_corpus(f"hf:{tmp_path}")
    assert document.turns == (Turn("user", "Hello?"), Turn("assistant", "Hello!"))


def test_the_field_can_be_named_and_a_wrong_one_is_an_error_with_the_fields(folder: Path) -> None:
    assert texts(f"hf:{folder}?text=url") == texts(f"hf:{folder}", text_field="url") == ["a much longer string"]
    with pytest.raises(CorpusError, match=r"record 1: no text in the field 'body'; its fields are \['text', 'url'\]"):
        texts(f"hf:{folder}?text=body")


def test_reading_is_streaming(hub: SmallHub) -> None:
    documents = iter(open_corpus("hf:someone/web"))
    assert [document.text for document in islice(documents, 50)][-1] == "text 49"
    assert "train-00001" not in "".join(hub.resolved)
    assert len([next(documents)]) == 1
    assert "train-00001" in "".join(hub.resolved)
    assert "test-00000" not in "".join(hub.resolved)


def test_the_key_of_a_folder_is_its_content_and_what_is_read_of_it(folder: Path, tmp_path: Path) -> None:
    def key(query: str = "", place: Path = folder) -> str:
        return open_corpus(f"hf:{place}{query}").key()

    copied = shutil.copytree(folder, tmp_path / "elsewhere")
    (copied / ".cache").mkdir()
    (copied / ".cache" / "lock").touch()
    assert key() == key(place=copied) == key("?split=train")
    assert len({key(), key("?split=test"), key("?text=url"), key("?name=default")}) == 4
    assert key("?text=url") == open_corpus(f"hf:{folder}", text_field="url").key()
    (copied / "data" / "train-00002.parquet").write_bytes((folder / "data" / "test-00000.parquet").read_bytes())
    assert key() != key(place=copied)


def test_the_hub_is_asked_for_one_revision_and_that_is_what_is_read(hub: SmallHub) -> None:
    corpus = open_corpus("hf:someone/web")
    assert corpus.key() == f"hf:someone/web?revision={COMMIT}"
    assert list(corpus) == [Document(f"text {n}", "someone/web") for n in range(100)]
    assert texts(corpus.key()) == texts(corpus)
    assert not [path for path in hub.resolved if COMMIT not in path]


def test_a_pinned_revision_needs_no_network_for_its_key() -> None:
    description = f"hf:someone/web?name=a&split=test&revision={COMMIT}&text=body"
    assert open_corpus(description).key() == description


def test_nothing_is_asked_before_it_is_needed(hub: SmallHub) -> None:
    open_corpus("hf:someone/web")
    assert not hub.asked


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ((403, "GatedRepo"), r"someone/web is gated. Accept its terms at https://huggingface.co/datasets/someone/web"),
        ((401, "GatedRepo"), r"log in with that account: hf auth login"),
        ((401, "RepoNotFound"), r"There is no dataset someone/web .* or it is private. Check its name"),
        ((404, "RepoNotFound"), r"There is no dataset someone/web"),
        ((404, "RevisionNotFound"), r"someone/web has no such revision: hf:someone/web"),
        ((500, ""), r"cannot be reached for someone/web"),
    ],
)
@pytest.mark.parametrize("step", ["key", "read"])
def test_a_hub_that_refuses_is_an_error_that_says_what_to_do(
    hub: SmallHub, refusal: tuple[int, str], words: str, step: str
) -> None:
    hub.refuse(*refusal)
    query = "" if step == "key" else f"?revision={COMMIT}"
    corpus = open_corpus(f"hf:someone/web{query}")
    with pytest.raises(CorpusError, match=words):
        corpus.key() if step == "key" else list(corpus)


def test_a_hub_that_is_not_there_is_an_error_that_says_so(hub: SmallHub) -> None:
    hub.stop()
    with pytest.raises(CorpusError, match=r"cannot be reached for someone/web \(ConnectError.*Check the network"):
        open_corpus("hf:someone/web").key()


def test_a_hub_that_goes_away_while_reading_is_an_error_too(hub: SmallHub) -> None:
    documents = iter(open_corpus("hf:someone/web"))
    assert next(documents).text == "text 0"
    hub.refuse(404, "RepoNotFound")
    with pytest.raises(CorpusError, match="someone/web"):
        list(documents)


@pytest.mark.parametrize(
    ("description", "words"),
    [
        ("hf:", "its name is missing"),
        ("hf:a/b?config=c", r"no parameter 'config'.*any of name, split, revision, text"),
        ("hf:a/b?sample-10BT", "no parameter 'sample-10BT'"),
    ],
)
def test_a_description_that_cannot_be_read_is_refused_at_once(description: str, words: str) -> None:
    with pytest.raises(CorpusError, match=words):
        open_corpus(description)


@pytest.mark.parametrize(
    ("query", "words"),
    [("?split=tset", r"Bad split: tset. Available splits: \['train', 'test'\]"), ("?name=x", r"\?name=")],
)
def test_what_a_dataset_does_not_have_is_named(folder: Path, query: str, words: str) -> None:
    with pytest.raises(CorpusError, match=words):
        texts(f"hf:{folder}{query}")


def test_a_folder_that_is_missing_or_has_no_data_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"There is no folder or file '\./absent'"):
        texts("hf:./absent")
    with pytest.raises(CorpusError, match="no data files"):
        texts(f"hf:{tmp_path}")


def test_what_is_not_a_name_on_the_hub_is_an_error(hub: SmallHub) -> None:
    with pytest.raises(CorpusError, match="There is no dataset a/b/c"):
        open_corpus("hf:a/b/c").key()


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    for corpus in ("hf:someone/web", "paper"):
        with pytest.raises(CorpusError, match=r"needs the package datasets.*pip install 'neuronscope\[datasets\]'"):
            open_corpus(corpus)


def test_a_description_survives_being_read_and_written() -> None:
    written = "hf:a/b?name=sample 10%&text=a%26b"
    reference = DatasetReference.parse(written)
    assert (reference.name, reference.text) == ("sample 10%", "a&b")
    assert DatasetReference.parse(str(reference)) == reference


def test_the_command_line_takes_datasets_and_mixtures_and_one_line_says_what_is_wrong(
    folder: Path, tmp_path: Path, smollm2: LoadedSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neuronscope.subject.loading.load_subject", lambda name: smollm2)

    def collect(corpus: str) -> Result:
        arguments = ["collect", "smollm2-135m", "--layers", "0", "--json", "--corpus", corpus]
        return CliRunner().invoke(cli.app, [*arguments, "--cache-dir", str(tmp_path / "stores")])

    (tmp_path / "own.txt").write_text("\n".join(f"Sentence number {n} is about the weather." for n in range(9)))
    printed = json.loads(collect(f"mix:3*hf:{folder}?split=test,1*{tmp_path / 'own.txt'}").stdout)
    assert ns.open_store(printed["path"]).info["sources"] == ["own", "web"]
    refused = collect(f"hf:{folder}?split=tset")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("Error: ")
    assert "Available splits: ['train', 'test']" in refused.stderr


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (gzip.BadGzipFile("Not a gzipped file"), "cannot be read"),
        (EOFError("Compressed file ended"), "broke off .* call again"),
        (IncompleteRead(b"half"), "broke off .* call again"),
        (type("ServerDisconnectedError", (Exception,), {})(), "broke off .* call again"),
        (type("TooManyRequests", (Exception,), {"status": 429})("slow down"), "fewer requests .* Wait .* call again"),
        (type("BadGateway", (Exception,), {"status": 503})("later"), "fault of its own .* Wait .* call again"),
        (AttributeError("'NoneType' object has no attribute 'read'"), "cannot be read .AttributeError"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "cannot be read"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_stream_that_breaks_off_is_an_error_of_ours_and_an_equal_call_has_it_all(
    error: Exception, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [error]

    def stream() -> Iterator[dict[str, str]]:
        yield {"text": "one"}
        if failures:
            raise failures.pop()
        yield {"text": "two"}

    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: stream())
    corpus = open_corpus(f"hf:someone/web?revision={COMMIT}")
    with pytest.raises(CorpusError, match=words):
        list(corpus)
    assert [document.text for document in corpus] == ["one", "two"]
