"""Damaged stores: a changed bit is an error that names its file, or what it changed is made again, and never silent."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neuronscope as ns
from neuronscope.exemplars import ExemplarStore, layout
from neuronscope.types import SPLITS
from table_subject import TableSubject

LETTERS = "?abcdefgh"
NEURON = ns.Neuron(1, 2)
NEURONS = [ns.Neuron(layer, index, sign) for layer in (0, 1) for index in (0, 2) for sign in (1, -1)]
POSITIONS = 25
"""Bits of each file that are changed, one at a time."""


def collect(model: TableSubject, cache: Path, **settings: Any) -> ExemplarStore:
    generator = random.Random(0)
    texts = ["".join(generator.choices(LETTERS, k=20)) for _ in range(400)]
    return ns.collect_exemplars(model, texts, [0, 1], 20, top_k=12, cache_dir=cache, **settings)


@pytest.fixture
def model() -> TableSubject:
    generator = np.random.default_rng(0)
    shape = (len(LETTERS), 6)
    return TableSubject(LETTERS, [generator.normal(size=shape).astype(np.float32) for _ in range(2)], "planted")


@pytest.fixture
def store(model: TableSubject, tmp_path: Path) -> ExemplarStore:
    return collect(model, tmp_path)


def contents(store: ExemplarStore) -> list[Any]:
    """All that a store answers."""
    found: list[Any] = [store.info, store.signs, store.layers]
    for layer in store.layers:
        for sign in store.signs:
            statistics = store.frequency, store.mean, store.max_activation
            found += [statistic(layer, sign).tolist() for statistic in statistics]
    for split in SPLITS:
        found.append(store.sample_ids(split))
        for neuron in NEURONS:
            found.append([tuple(each) for each in store.ranked(neuron, split, 3)])
            exemplars = [*store.exemplars(neuron, split, 6), *store.random_sequences(neuron, split, 3)]
            found += [(each.tokens, each.token_ids, each.activations.tolist(), each.source) for each in exemplars]
    return found


def flipped(file: Path, rng: random.Random, n: int = POSITIONS) -> Iterator[str]:
    """One bit of the file after another is another; a line says which."""
    whole = file.read_bytes()
    ends = {0, 7, len(whole) - 1}
    for position in sorted(ends | set(rng.sample(range(len(whole)), min(n, len(whole))))):
        changed = bytearray(whole)
        changed[position] ^= 1 << rng.randrange(8)
        file.write_bytes(changed)
        yield f"{file.name}, byte {position} of {len(whole)}"
    file.write_bytes(whole)


@pytest.mark.parametrize("keep_activations", [False, True])
def test_no_changed_bit_of_any_file_is_read_in_silence(
    model: TableSubject, tmp_path: Path, keep_activations: bool, caplog: pytest.LogCaptureFixture
) -> None:
    store = collect(model, tmp_path, keep_activations=keep_activations)
    expected = contents(store)
    files = sorted(file for file in store.path.rglob("*") if file.is_file())
    names = {"store.json", "sequences.parquet", "mlp-0.safetensors", "mlp-1.safetensors"}
    more = (
        {f"mlp-{i}.kept.safetensors" for i in (0, 1)}
        if keep_activations
        else {f"{n.file_name}.safetensors" for n in NEURONS}
    )
    assert {file.name for file in files} == names | more
    rng = random.Random(0)
    for file in files:
        for where in flipped(file, rng, POSITIONS if file.parent == store.path else 3):
            caplog.clear()
            try:
                found = contents(ns.open_store(store.path))
            except ns.StoreError as error:
                named = str(error) + caplog.text  # a cache is named in a warning, and then missed
                assert file.name in named, where
                if file.parent != store.path:
                    assert contents(ns.open_store(store.path).bind(model)) == expected, where
            else:
                assert found == expected, where
    assert contents(ns.open_store(store.path)) == expected


def test_of_kept_activations_the_model_computes_what_is_damaged(
    model: TableSubject, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = collect(model, tmp_path, keep_activations=True)
    rng = random.Random(0)
    for where in flipped(store.path / "mlp-1.kept.safetensors", rng):
        caplog.clear()
        for exemplar in ns.open_store(store.path).bind(model).exemplars(NEURON, "test"):
            exact = np.maximum(model.tables[1][list(exemplar.token_ids), 2], 0)
            np.testing.assert_allclose(exemplar.activations, exact, rtol=1e-3, err_msg=where)
        assert "mlp-1.kept.safetensors" in caplog.text, where


def test_a_missing_damaged_or_newer_store_is_refused(store: ExemplarStore, tmp_path: Path) -> None:
    with pytest.raises(ns.StoreError, match="no exemplar store"):
        ns.open_store(tmp_path / "nothing")
    for name in ("sequences.parquet", "mlp-1.safetensors"):
        content = (store.path / name).read_bytes()
        (store.path / name).write_bytes(b"cut")
        with pytest.raises(ns.StoreError, match=rf"{name} cannot be read: .* bytes then, 3 now"):
            ns.open_store(store.path)
        (store.path / name).unlink()
        with pytest.raises(ns.StoreError, match=rf"{name} cannot be read \(No such file"):
            ns.open_store(store.path)
        (store.path / name).write_bytes(content)
    (store.path / "store.json").write_text(json.dumps({"format": 99, "info": {}}))
    with pytest.raises(ns.StoreError, match="format 99"):
        ns.open_store(store.path)
    (store.path / "store.json").write_text("{")
    with pytest.raises(ns.StoreError, match="damaged"):
        ns.open_store(store.path)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_store_of_an_earlier_version_is_refused_with_what_to_do(store: ExemplarStore, version: int) -> None:
    (store.path / "store.json").write_text(json.dumps({"format": version, "info": {}, "files": {}, "digest": ""}))
    message = (
        rf"format {version}, by its store\.json; .* reads format 4\. 0\.1.*Collect again with collect_exemplars.*delete"
    )
    with pytest.raises(ns.StoreError, match=message):
        ns.open_store(store.path)


def test_a_store_of_0_1_is_refused_with_the_command_that_collects_it_again(tmp_path: Path) -> None:
    info = {
        "subject": {"name": "smollm2-135m", "fingerprint": "0f"},
        "corpus": {"name": "hf:some/texts?split=train", "key": "k"},
        "widths": {"5": 1536, "9": 1536},
        "signs": [1, -1],
        "seq_len": 64,
        "top_k": 100,
        "requested_tokens": 250_000,
    }
    (tmp_path / "store.json").write_text(json.dumps({"format": 2, "info": info}))
    command = "neuronscope collect smollm2-135m --layers 5,9 --corpus 'hf:some/texts?split=train' --seq-len 64"
    with pytest.raises(ns.StoreError, match=re.escape(f"Collect again, with `{command} --n-tokens 250000`")):
        ns.open_store(tmp_path)


def test_a_large_file_is_compared_when_it_is_first_read(store: ExemplarStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "CHECKED_AT_ONCE", 10)
    flip_a_byte(store.path / "mlp-1.safetensors", 0.5)
    opened = ns.open_store(store.path)
    assert opened.max_activation(0).shape == (6,)
    with pytest.raises(ns.StoreError, match=r"mlp-1\.safetensors cannot be read: it is damaged.*digest"):
        opened.max_activation(1)
    monkeypatch.undo()
    with pytest.raises(ns.StoreError, match=r"mlp-1\.safetensors cannot be read: it is damaged.*digest"):
        ns.open_store(store.path)


def flip_a_byte(file: Path, place: float) -> None:
    """Change one bit of a file, at a share of its length."""
    content = bytearray(file.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("place", [0.02, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("name", ["mlp-0.safetensors", "mlp-1.safetensors", "sequences.parquet", "store.json"])
def test_one_changed_byte_anywhere_in_a_store_is_named_with_its_file(
    store: ExemplarStore, model: TableSubject, name: str, place: float
) -> None:
    def read() -> None:
        whole = ns.open_store(store.path).bind(model)
        whole.max_activation(0), whole.max_activation(1), whole.ranked(NEURON)

    read()
    flip_a_byte(store.path / name, place)
    with pytest.raises(ns.StoreError, match=name):
        read()


def test_a_file_of_another_store_in_its_place_is_refused(model: TableSubject, store: ExemplarStore) -> None:
    (store.path / "mlp-0.safetensors").write_bytes((store.path / "mlp-1.safetensors").read_bytes())
    with pytest.raises(ns.StoreError, match=r"mlp-0\.safetensors .*damaged"):
        ns.open_store(store.path).max_activation(0)


@pytest.mark.parametrize("place", [0.0, 0.1, 0.4, 0.7, 1.0])
def test_one_changed_byte_in_the_activations_is_computed_again(
    store: ExemplarStore, model: TableSubject, place: float, caplog: pytest.LogCaptureFixture
) -> None:
    before = store.exemplars(NEURON)
    (file,) = (store.path / "activations").rglob("*.safetensors")
    flip_a_byte(file, place)
    again = ns.open_store(store.path).bind(model).exemplars(NEURON)
    for left, right in zip(before, again, strict=True):
        np.testing.assert_array_equal(left.activations, right.activations)
    assert str(file) in caplog.text
    calls = model.calls
    ns.open_store(store.path).bind(model).exemplars(NEURON)
    assert model.calls == calls  # the file was written again


def test_activations_that_cannot_be_written_are_kept_in_memory(
    store: ExemplarStore, model: TableSubject, caplog: pytest.LogCaptureFixture
) -> None:
    expected = [exemplar.activations.tolist() for exemplar in ns.open_store(store.path).bind(model).exemplars(NEURON)]
    shutil.rmtree(store.path / "activations")
    (store.path / "activations").write_text("in the way")
    found = [exemplar.activations.tolist() for exemplar in store.exemplars(NEURON)]
    store.exemplars(ns.Neuron(1, 3))
    assert found == expected
    assert caplog.text.count("kept in memory only") == 1
    calls = model.calls
    store.exemplars(NEURON)
    assert model.calls == calls


def test_a_damaged_activation_file_is_computed_again(store: ExemplarStore, model: TableSubject) -> None:
    before = store.exemplars(NEURON)
    for file in (store.path / "activations").rglob("*.safetensors"):
        file.write_bytes(b"cut")
    again = ns.open_store(store.path).bind(model).exemplars(NEURON)
    np.testing.assert_array_equal(before[0].activations, again[0].activations)
