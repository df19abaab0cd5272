"""Interrupted is not lost: a later call goes on from the last checkpoint, and the store is the same, bit for bit."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

import neuronscope as ns
from neuronscope.corpus import open_corpus, windows
from neuronscope.exemplars import checkpoints
from neuronscope.exemplars import statistics_pass as collection
from neuronscope.exemplars import write as writing
from neuronscope.exemplars.partial_store import new_store_folder
from neuronscope.exemplars.statistics_pass import Collection, chunks
from table_subject import TableSubject

LETTERS = "?abcdefgh"
N_TEXTS = 200


class Failing(TableSubject):
    """Fails at one of its forward passes."""

    fail_at = -1

    def activations(self, token_ids: Any, layers: Any) -> Any:
        if self.calls == self.fail_at:
            raise KeyboardInterrupt
        return super().activations(token_ids, layers)


def subject() -> Failing:
    generator = np.random.default_rng(0)
    return Failing(LETTERS, [generator.normal(size=(len(LETTERS), 5)).astype(np.float32) for _ in range(2)])


def texts() -> list[str]:
    generator = random.Random(0)
    return ["".join(generator.choices(LETTERS, k=generator.randint(4, 60))) for _ in range(N_TEXTS)]


@pytest.fixture(autouse=True)
def every_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "INTERVAL", 0.0)
    monkeypatch.setattr(checkpoints, "MAX_SHARE", float("inf"))
    monkeypatch.setattr(collection, "CHUNK_SEQUENCES", 16)


def collect(model: TableSubject, cache: Path, **settings: Any) -> ns.ExemplarStore:
    return ns.collect_exemplars(model, texts(), None, 20, 3, cache_dir=cache, **({"batch_size": 4} | settings))


def interrupted(cache: Path, fail_at: int = 40, **settings: Any) -> None:
    model = subject()
    model.fail_at = fail_at
    with pytest.raises(KeyboardInterrupt):
        collect(model, cache, **settings)
    assert len(list(cache.glob("*.partial/checkpoint.safetensors"))) == 1


def digests(store: ns.ExemplarStore) -> dict[str, str]:
    files = sorted(file for file in store.path.rglob("*") if file.is_file())
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.parametrize("fail_at", [10, 41, 70])
def test_a_later_call_goes_on_and_makes_the_same_store(tmp_path: Path, fail_at: int) -> None:
    whole, rest = subject(), subject()
    expected = collect(whole, tmp_path / "whole")
    interrupted(tmp_path / "cut", fail_at)
    found = collect(rest, tmp_path / "cut")
    assert digests(found) == digests(expected)
    assert whole.calls - fail_at <= rest.calls < whole.calls
    assert [path.name for path in (tmp_path / "cut").iterdir()] == [found.path.name]


def test_a_checkpoint_of_another_batch_size_is_not_taken_up(tmp_path: Path) -> None:
    whole, rest = subject(), subject()
    collect(whole, tmp_path / "whole")
    interrupted(tmp_path / "cut", batch_size=2)
    collect(rest, tmp_path / "cut")
    assert rest.calls == whole.calls


def test_a_damaged_checkpoint_is_named_and_not_taken_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    interrupted(tmp_path)
    (checkpoint,) = tmp_path.glob("*.partial/checkpoint.safetensors")
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with caplog.at_level(logging.WARNING, "neuronscope"):
        store = collect(subject(), tmp_path)
    assert "cannot be read" in caplog.text
    assert sum(store.info["n_sequences"].values()) > 200


def test_checkpoints_wait_until_they_cost_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "MAX_SHARE", 0.01)
    clock = iter([0.0, 10.0, 13.0, 312.0, 313.5])
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: next(clock))
    writer = checkpoints.Checkpoints(tmp_path, {})
    writer.save({"a": torch.zeros(1)}, {})  # takes three seconds
    assert not writer.due()
    assert writer.due()


def test_parts_of_a_corpus_merge_into_the_whole() -> None:
    model = subject()

    def gather(parts: list[list[Any]]) -> Collection:
        gathered = Collection(model, [0, 1], (1, -1), 3, batch_tokens=80)
        for part in parts:
            gathered.add_chunk(part)
        return gathered

    def comparable(gathered: Collection) -> dict[str, Any]:
        gathered.pool.prune()
        arrays, counts = gathered.state()
        order = arrays["pool/rows"][:, 0].argsort()
        tops = {name: array.sort(-1).values for name, array in arrays.items() if "/top/" in name}
        rest = {name: array for name, array in arrays.items() if "/" in name and not name.startswith("pool")}
        return {name: array.tolist() for name, array in (rest | tops).items()} | {
            "rows": arrays["pool/rows"][order].tolist(),
            "sampled": arrays["pool/sampled"].tolist(),
            "counts": counts,
        }

    all_chunks = list(chunks(windows(open_corpus(texts()), model.tokenizer, 20)))
    left, right = gather(all_chunks[1::2]), gather(all_chunks[::2])
    left.merge(right)
    assert comparable(left) == comparable(gather(all_chunks))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork processes")
def test_twenty_kills_at_random_times_leave_the_store_bit_identical(
    tiny_llama: Any, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    tiny_llama.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    generator = random.Random(1)
    paragraphs = [
        " ".join(generator.choices("the quick brown fox jumps over a lazy dog".split(), k=12)) for _ in range(250)
    ]
    (tmp_path / "corpus.txt").write_text("\n\n".join(paragraphs))
    script = Path(__file__).with_name("killed_collections.py")
    output = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "model"), str(tmp_path / "corpus.txt"), str(tmp_path), "20"],
        capture_output=True,
        text=True,
        check=True,
    )
    result = json.loads(output.stdout.splitlines()[-1])
    assert result["kills"] == 20
    assert result["resumed"] >= 5
    assert result["equal"] == result["stores"] >= 1


def test_one_changed_byte_in_a_checkpoint_does_not_get_into_the_store(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = collect(subject(), tmp_path / "whole")
    interrupted(tmp_path / "cut")
    (checkpoint,) = (tmp_path / "cut").glob("*.partial/checkpoint.safetensors")
    content = bytearray(checkpoint.read_bytes())
    content[-3] ^= 4
    checkpoint.write_bytes(content)
    store = collect(subject(), tmp_path / "cut")
    assert "not what was written" in caplog.text
    np.testing.assert_array_equal(store.max_activation(0), whole.max_activation(0))
    assert store.ranked(ns.Neuron(0, 1)) == whole.ranked(ns.Neuron(0, 1))


def test_of_two_collections_of_one_store_each_ends_with_it_whoever_is_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second begins, writes its checkpoint, and ends while the first is in the middle of writing its own store."""
    write_sequences = writing.write_sequences
    second: list[ns.ExemplarStore] = []

    def while_the_other_finishes(*arguments: Any) -> None:
        monkeypatch.setattr(writing, "write_sequences", write_sequences)
        second.append(collect(subject(), tmp_path))
        assert (arguments[0] / "mlp-0.safetensors").is_file()  # nothing of this one is gone
        write_sequences(*arguments)

    monkeypatch.setattr(writing, "write_sequences", while_the_other_finishes)
    first = collect(subject(), tmp_path)
    assert first.path == second[0].path
    assert first.ranked(ns.Neuron(0, 1)) == second[0].ranked(ns.Neuron(0, 1))
    assert [path.name for path in tmp_path.iterdir()] == [first.path.name]


def test_a_checkpoint_that_another_process_clears_away_meanwhile_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = checkpoints.Checkpoints.save

    def save_and_lose(self: checkpoints.Checkpoints, *arguments: Any) -> None:
        save(self, *arguments)
        checkpoints.Checkpoints(self.folder, {}).clear()

    monkeypatch.setattr(checkpoints.Checkpoints, "save", save_and_lose)
    assert sum(collect(subject(), tmp_path).info["n_sequences"].values()) > 200


def test_what_a_call_left_that_was_killed_when_its_store_was_there_goes_with_the_next(tmp_path: Path) -> None:
    interrupted(tmp_path)
    store = collect(subject(), tmp_path / "elsewhere")
    shutil.copytree(store.path, tmp_path / store.path.name)
    model = subject()
    assert collect(model, tmp_path).path == tmp_path / store.path.name
    assert model.calls == 0
    assert not list(tmp_path.glob("*.partial"))


def test_what_killed_writers_left_goes_and_what_others_write_stays(tmp_path: Path) -> None:
    partial_folder = tmp_path / "s.partial"
    (partial_folder / "store.left").mkdir(parents=True)
    (partial_folder / "store.left" / "mlp-0.safetensors").write_text("half")
    (partial_folder / "left.tmp").mkdir()
    (partial_folder / "left.tmp" / ".tmp0").write_text("half")
    with new_store_folder(partial_folder) as folder:
        (folder / "mlp-0.safetensors").write_text("being written")
        checkpoints.Checkpoints(partial_folder, {}).clear()
        assert (folder / "mlp-0.safetensors").read_text() == "being written"
        assert not (partial_folder / "store.left").exists()
    assert not partial_folder.exists()


@pytest.mark.parametrize("which", ["checkpoint", "layer", "sequences"])
def test_a_full_disk_is_an_error_that_names_the_file_and_leaves_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    def full(*arguments: Any, **_: Any) -> None:
        if which == "sequences":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        Path(arguments[1]).write_bytes(b"a part")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    if which == "checkpoint":
        monkeypatch.setattr("safetensors.torch.save_file", full)
    else:
        monkeypatch.setattr(writing, "save_file" if which == "layer" else "write_sequences", full)
    with pytest.raises(ns.StoreError, match=rf"{re.escape(str(tmp_path))}.*No space left on device.*Free some space"):
        collect(subject(), tmp_path)
    monkeypatch.undo()
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert left == ([] if which == "checkpoint" else ["checkpoint.safetensors"])


def test_a_place_that_cannot_be_written_is_refused_before_the_pass(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    model = subject()
    for place in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("long" * 100)):
        with pytest.raises(ns.ConfigurationError, match=r"cannot be written .*cache_dir="):
            collect(model, place)
    assert model.calls == 0
