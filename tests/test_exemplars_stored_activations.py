"""Activations that a store keeps on request: explaining needs no model afterwards."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import random
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

import neuronscope as ns
from neuronscope.exemplars import checkpoints, write_activations
from neuronscope.exemplars import statistics_pass as collection
from neuronscope.exemplars.pool import SequencePool
from neuronscope.types import SPLITS
from table_subject import TableSubject
from test_exemplars_damage import flip_a_byte

LETTERS = "?abcdefgh"
SEQ_LEN = 16
SIGNED = [ns.Neuron(layer, index, sign) for layer in (0, 1) for index in (0, 4) for sign in (1, -1)]


class Counted(TableSubject):
    """Fails at one of its forward passes."""

    fail_at = -1

    def activations(self, token_ids: Any, layers: Any) -> Any:
        if self.calls == self.fail_at:
            raise KeyboardInterrupt
        return super().activations(token_ids, layers)


def subject(scale: float = 1.0) -> Counted:
    generator = np.random.default_rng(0)
    shape = (len(LETTERS), 5)
    return Counted(LETTERS, [(scale * generator.normal(size=shape)).astype(np.float32) for _ in range(2)])


def texts(n: int = 150) -> list[str]:
    generator = random.Random(0)
    return ["".join(generator.choices(LETTERS, k=generator.randint(4, 50))) for _ in range(n)]


def collect(model: TableSubject, cache: Path, **changes: Any) -> ns.ExemplarStore:
    arguments = {
        "seq_len": SEQ_LEN,
        "top_k": 5,
        "batch_size": 4,
        "keep_activations": True,
        "cache_dir": cache,
    } | changes
    return ns.collect_exemplars(model, texts(), **arguments)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(-60, 60), st.integers(1, 9))
def test_without_the_model_it_answers_what_the_model_would(
    tmp_path_factory: pytest.TempPathFactory, magnitude: float, batch_size: int
) -> None:
    """Also where activations are far outside of half precision's own range."""
    model = subject(2.0**magnitude)
    store = collect(model, tmp_path_factory.mktemp("stores"), batch_size=batch_size)
    alone = ns.open_store(store.path)
    for neuron in SIGNED:
        for split in SPLITS:
            found = [*alone.exemplars(neuron, split, 5), *alone.random_sequences(neuron, split, 8)]
            assert len(found) == 13
            for exemplar in found:
                table = model.tables[neuron.layer][:, neuron.index]
                expected = np.maximum(neuron.sign * table[list(exemplar.token_ids)], 0)
                assert len(exemplar.activations) == len(exemplar.tokens)
                np.testing.assert_allclose(exemplar.activations, expected, rtol=2**-11, atol=expected.max() * 2**-24)
    assert not (store.path / "activations").exists()


def test_of_a_bfloat16_model_it_has_exactly_what_was_computed(tmp_path: Path) -> None:
    model = subject()
    for table in model.tables:
        table.view(np.int32)[:] &= -(1 << 16)  # bfloat16 has a float32's upper bits
    alone = ns.open_store(collect(model, tmp_path).path)
    for neuron in SIGNED:
        for exemplar in [*alone.exemplars(neuron), *alone.random_sequences(neuron, "train")]:
            table = model.tables[neuron.layer][:, neuron.index]
            expected = np.maximum(neuron.sign * table[list(exemplar.token_ids)], 0)
            np.testing.assert_array_equal(exemplar.activations, expected)


def test_a_store_with_activations_runs_each_sequence_once_more_and_asks_for_nothing_later(tmp_path: Path) -> None:
    plain, stored = subject(), subject()
    collect(plain, tmp_path, keep_activations=False)
    store = collect(stored, tmp_path)
    n_listed = parquet.read_table(store.path / "sequences.parquet").num_rows
    assert stored.sequences == plain.sequences + n_listed
    store.prefetch({neuron: store.top_ids(neuron, "train", 5) for neuron in SIGNED})
    assert stored.sequences == plain.sequences + n_listed


def test_with_and_without_are_two_stores_with_the_same_lists(tmp_path: Path) -> None:
    with_them, without = (collect(subject(), tmp_path, keep_activations=keep) for keep in (True, False))
    assert with_them.path != without.path
    assert (with_them.info["keep_activations"], without.info["keep_activations"]) == (True, False)
    for neuron in SIGNED:
        assert with_them.ranked(neuron) == without.ranked(neuron)
    with pytest.raises(ns.StoreError, match=r"Bind the model that computes them"):
        ns.open_store(without.path).exemplars(SIGNED[0])


def test_what_was_not_stored_needs_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection, "SequencePool", partial(SequencePool, sample_size=1))
    model = subject()
    store = collect(model, tmp_path, top_k=2)
    first = {i for split in SPLITS for i in store.top_ids(SIGNED[0], split, 2)}
    others = {i for neuron in SIGNED for split in SPLITS for i in store.top_ids(neuron, split, 2)} - first
    others -= {i for split in SPLITS for i in store.sample_ids(split, 600)}
    alone = ns.open_store(store.path)
    with pytest.raises(ns.StoreError, match=r"does not have the activations of 0/0 on \d+ of these"):
        alone.by_id(SIGNED[0], sorted(others))
    alone.bind(model)
    for exemplar in alone.by_id(SIGNED[0], [*sorted(others), *sorted(first)]):
        expected = np.maximum(model.tables[0][list(exemplar.token_ids), 0], 0)
        np.testing.assert_allclose(exemplar.activations, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_store_of_one_sign_keeps_that_sign(tmp_path: Path, sign: int) -> None:
    model = subject()
    alone = ns.open_store(collect(model, tmp_path, signs=(sign,)).path)
    neuron = ns.Neuron(1, 2, sign)
    for exemplar in [*alone.exemplars(neuron), *alone.random_sequences(neuron)]:
        expected = np.maximum(sign * model.tables[1][list(exemplar.token_ids), 2], 0)
        np.testing.assert_allclose(exemplar.activations, expected, rtol=1e-3, atol=1e-6)


def test_the_file_is_as_the_page_says(tmp_path: Path) -> None:
    store = collect(subject(), tmp_path)
    lists, stored = (load_file(store.path / name) for name in ("mlp-1.safetensors", "mlp-1.kept.safetensors"))
    for name in ("+1/train", "-1/test"):
        assert (stored[name].dtype, stored[name].shape) == (np.float16, (5, 5, SEQ_LEN))
        scaled = np.ldexp(stored[name].astype(np.float32), stored[f"{name[:2]}/exponent"][:, None, None])
        np.testing.assert_allclose(scaled.max(2), lists[f"{name}/activations"], rtol=1e-3)
    assert stored["sampled/starts"][-1] == stored["sampled/values"].shape[1]
    assert stored["sampled/ids"].tolist() == sorted(i for split in SPLITS for i in store.sample_ids(split, 600))


def test_a_changed_byte_is_named_without_the_model_and_computed_again_with_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = subject()
    store = collect(model, tmp_path)
    expected = [exemplar.activations for exemplar in store.exemplars(ns.Neuron(1, 2))]
    flip_a_byte(store.path / "mlp-1.kept.safetensors", 0.7)
    alone = ns.open_store(store.path)
    assert alone.exemplars(ns.Neuron(0, 2))
    for _ in range(2):
        with pytest.raises(ns.StoreError, match=r"mlp-1\.kept\.safetensors cannot be read: it is damaged"):
            alone.exemplars(ns.Neuron(1, 2))
    with caplog.at_level(logging.WARNING, "neuronscope"):
        again = alone.bind(model).exemplars(ns.Neuron(1, 2))
    assert "mlp-1.kept.safetensors" in caplog.text
    for left, right in zip(expected, again, strict=True):
        np.testing.assert_allclose(left, right.activations, rtol=1e-3, atol=1e-6)


def test_killed_while_activations_are_stored_a_later_call_runs_only_these_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection, "CHUNK_SEQUENCES", 32)
    assert checkpoints.INTERVAL > 1  # the one before the second pass is written whatever the clock says

    def contents(store: ns.ExemplarStore) -> dict[str, str]:
        return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in store.path.iterdir()}

    whole, first, rest = subject(), subject(), subject()
    expected = collect(whole, tmp_path / "whole")
    collect(first, tmp_path / "plain", keep_activations=False)
    killed = subject()
    killed.fail_at = first.calls + 3
    with pytest.raises(KeyboardInterrupt):
        collect(killed, tmp_path / "cut")
    found = collect(rest, tmp_path / "cut")
    assert contents(found) == contents(expected)
    assert rest.calls == whole.calls - first.calls
    assert [path.name for path in (tmp_path / "cut").iterdir()] == [found.path.name]


def test_a_full_disk_is_an_error_and_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(write_activations, "_reserve", full)
    with pytest.raises(ns.StoreError, match=r"No space left on device.*Free some space"):
        collect(subject(), tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["checkpoint.safetensors"]
