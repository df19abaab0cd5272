"""The store: what it answers, with a model and without, now and in a later process."""

from __future__ import annotations

import random
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neuronscope as ns
from neuronscope.exemplars import ExemplarStore, sequences, topk
from neuronscope.exemplars.activations import ActivationCache
from neuronscope.runs.prefetch import PER_NEURON, group_sizes, groups
from neuronscope.types import SPLITS
from table_subject import TableSubject

LETTERS = "?abcdefgh"
NEURON = ns.Neuron(1, 2)


def subject(fingerprint: str = "planted") -> TableSubject:
    generator = np.random.default_rng(0)
    shape = (len(LETTERS), 6)
    return TableSubject(LETTERS, [generator.normal(size=shape).astype(np.float32) for _ in range(2)], fingerprint)


def texts(n: int) -> list[str]:
    generator = random.Random(0)
    return ["".join(generator.choices(LETTERS, k=20)) for _ in range(n)]


@pytest.fixture
def model() -> TableSubject:
    return subject()


@pytest.fixture
def store(model: TableSubject, tmp_path: Path) -> ExemplarStore:
    return ns.collect_exemplars(model, texts(400), [0, 1], 20, top_k=12, cache_dir=tmp_path)


def test_it_knows_its_layers_signs_and_statistics(store: ExemplarStore, model: TableSubject) -> None:
    assert store.layers == [0, 1]
    assert store.signs == (1, -1)
    for array in (store.frequency(0), store.mean(1, sign=-1), store.max_activation(1)):
        assert array.shape == (6,)
    assert store.info["subject"] == {"name": "planted", "fingerprint": "planted"}
    assert sum(store.info["n_sequences"].values()) == 400


@pytest.mark.parametrize("by", ["frequency", "max"])
def test_top_neurons_are_ranked(store: ExemplarStore, by: str) -> None:
    values = store.frequency(1, -1) if by == "frequency" else store.max_activation(1, -1)
    neurons = store.top_neurons(1, n=3, by=by, sign=-1)
    assert [values[neuron.index] for neuron in neurons] == sorted(values.tolist(), reverse=True)[:3]
    assert {(neuron.layer, neuron.sign) for neuron in neurons} == {(1, -1)}
    assert len(store.top_neurons(1, by=by)) == 6


def test_neurons_as_frequent_as_each_other_are_ranked_by_maximum_then_by_index(tmp_path: Path) -> None:
    table = np.zeros((len(LETTERS), 5), np.float32)
    table[1] = [1, 3, 0, 3, 2]  # all but the dead one are active on the same tokens
    store = ns.collect_exemplars(TableSubject(LETTERS, [table]), texts(50), [0], 20, cache_dir=tmp_path)
    assert [neuron.index for neuron in store.top_neurons(0)] == [1, 3, 4, 0, 2]


def test_random_neurons_are_different_ones_and_the_same_for_the_same_seed(store: ExemplarStore) -> None:
    draws = [[neuron.index for neuron in store.top_neurons(1, 4, by="random", seed=seed)] for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert len(set(draws[0])) == 4


def test_ranked_sequences_need_no_model(store: ExemplarStore, model: TableSubject) -> None:
    exemplars = store.exemplars(NEURON, "test", 5)
    ranked = ns.open_store(store.path).ranked(NEURON, "test", 5)
    for exemplar, sequence in zip(exemplars, ranked, strict=True):
        assert (sequence.sequence_id, sequence.tokens) == (exemplar.sequence_id, exemplar.tokens)
        assert sequence.activation == exemplar.activations.max()


def test_the_sequences_are_a_table_for_other_tools(store: ExemplarStore) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = parquet.read_table(store.path / "sequences.parquet").to_pylist()
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
    exemplar = store.exemplars(NEURON)[0]
    (row,) = [row for row in rows if row["id"] == exemplar.sequence_id]
    assert row["token_ids"] == exemplar.token_ids
    assert row["tokens"] == exemplar.tokens
    assert (row["split"], row["source"]) == ("train", "texts")


def test_more_sequences_than_a_row_group_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequences, "GROUP_ROWS", 7)
    store = ns.collect_exemplars(subject(), texts(60), [0], 20, cache_dir=tmp_path)
    for split in SPLITS:
        for exemplar in store.exemplars(ns.Neuron(0, 0), split, n=40):
            assert exemplar.text in texts(60)


@pytest.mark.parametrize("split", SPLITS)
def test_random_sequences_are_none_of_the_top_ones(store: ExemplarStore, split: str) -> None:
    top = {exemplar.sequence_id for exemplar in store.exemplars(NEURON, split, n=12)}
    drawn = [exemplar.sequence_id for exemplar in store.random_sequences(NEURON, split, n=20)]
    assert len(set(drawn)) == 20
    assert not top & set(drawn)


def test_random_sequences_are_the_same_for_the_same_seed_only(store: ExemplarStore) -> None:
    draws = {name: store.random_ids(NEURON, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))}
    assert draws["a"] == draws["b"] != draws["c"]
    assert store.random_ids(ns.Neuron(1, 3)) != draws["a"]


def test_a_split_in_parts_has_every_sequence_and_shares_its_random_ones_with_the_test_set(store: ExemplarStore) -> None:
    top, ranked, rest = store.strata(NEURON, top=5, ranked=4, random=25)
    assert top.ids == store.top_ids(NEURON, "test", 5)
    assert (ranked.size, len(ranked.ids)) == (7, 4)
    assert set(ranked.ids) < set(store.top_ids(NEURON, "test", 12)) - set(top.ids)
    assert top.size + ranked.size + rest.size == store.info["n_sequences"]["test"]
    assert rest.ids[:20] == store.random_ids(NEURON, "test", 20)
    assert store.strata(NEURON, top=5, ranked=4, random=25) == [top, ranked, rest]
    whole = store.strata(NEURON, top=5, ranked=40, random=60)
    assert all(part.size == len(set(part.ids)) for part in whole)
    assert len(store.by_id(NEURON, [number for part in whole for number in part.ids])) == sum(
        part.size for part in whole
    )


def test_a_sample_of_a_split_has_no_regard_to_any_neuron(tmp_path: Path) -> None:
    small = ns.collect_exemplars(subject(), texts(60), [0], 20, top_k=100, cache_dir=tmp_path)
    everything = small.sample_ids("test", n=10_000)
    assert len(set(everything)) == len(everything) == small.info["n_sequences"]["test"]
    assert set(small.top_ids(ns.Neuron(0, 0), "test", n=100)) <= set(everything)
    assert small.sample_ids("test", n=5) == everything[:5] != small.sample_ids("test", n=5, seed=1)


def test_a_split_too_small_for_both_keeps_its_weaker_half_for_random_sequences(tmp_path: Path) -> None:
    small = ns.collect_exemplars(subject(), texts(60), [0], 20, top_k=100, cache_dir=tmp_path)
    ranked = small.top_ids(ns.Neuron(0, 0), "train", n=100)
    half = small.info["n_sequences"]["train"] // 2
    drawn = small.random_ids(ns.Neuron(0, 0), "train", n=10)
    assert len(drawn) == 10
    assert not set(drawn) & set(ranked[:half])


def test_activations_are_computed_once_in_one_batch(store: ExemplarStore, model: TableSubject) -> None:
    ids = [i for split in SPLITS for i in (*store.top_ids(NEURON, split, 10), *store.random_ids(NEURON, split, 10))]
    before = model.calls
    store.prefetch({NEURON: ids})
    assert model.calls == before + 1
    for split in SPLITS:
        store.exemplars(NEURON, split, 10)
        store.random_sequences(NEURON, split, 10)
    assert [exemplar.sequence_id for exemplar in store.by_id(NEURON, ids)] == ids
    assert model.calls == before + 1


def test_what_many_neurons_want_runs_once(store: ExemplarStore, model: TableSubject) -> None:
    neurons = [ns.Neuron(layer, index, sign) for layer in (0, 1) for index in (0, 3) for sign in (1, -1)]
    wanted = {neuron: [*store.top_ids(neuron, "train", 10), *store.random_ids(neuron, "test", 5)] for neuron in neurons}
    n_sequences = len(set().union(*wanted.values()))
    n_run = model.sequences
    store.prefetch(wanted)
    assert model.sequences == n_run + n_sequences
    for neuron, ids in wanted.items():
        for exemplar in store.by_id(neuron, ids):
            (raw,) = model.activations([exemplar.token_ids], [neuron.layer])[neuron.layer]
            assert np.array_equal(exemplar.activations, np.maximum(neuron.sign * raw[:, neuron.index], 0))


def test_a_later_process_without_the_model_reads_what_was_computed(store: ExemplarStore) -> None:
    kept = store.exemplars(NEURON, "validation", 5)
    store.exemplars(NEURON, "test", 5)
    later = ns.open_store(store.path)
    for old, new in zip(kept, later.exemplars(NEURON, "validation", 5), strict=True):
        np.testing.assert_array_equal(old.activations, new.activations)
        assert (old.tokens, old.token_ids, old.source) == (new.tokens, new.token_ids, new.source)
    np.testing.assert_array_equal(later.frequency(1), store.frequency(1))


def test_a_store_is_read_without_torch(store: ExemplarStore) -> None:
    store.exemplars(NEURON)
    script = (
        "import sys, neuronscope as ns; "
        f"print(len(ns.open_store({str(store.path)!r}).exemplars(ns.Neuron(1, 2))), 'torch' in sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert output.split() == ["12", "False"]


def test_what_was_not_computed_needs_the_model(store: ExemplarStore, model: TableSubject) -> None:
    later = ns.open_store(store.path)
    with pytest.raises(ns.StoreError, match=r"store\.bind\(subject\)"):
        later.exemplars(NEURON)
    assert later.bind(model) is later
    assert len(later.exemplars(NEURON)) == 12


def test_changing_an_exemplar_does_not_change_the_store(store: ExemplarStore) -> None:
    store.exemplars(NEURON)[0].activations[:] = -1
    assert store.exemplars(NEURON)[0].activations.min() >= 0


def test_another_subject_is_refused(store: ExemplarStore) -> None:
    with pytest.raises(ns.StoreError, match=r"fingerprint planted.*fingerprint other"):
        store.bind(subject("other"))


def test_another_tokenizer_or_dtype_is_named(tiny_llama: Any, tiny_tokenizer: Any, tmp_path: Path) -> None:
    made_with = ns.load_subject((tiny_llama, tiny_tokenizer))
    store = ns.collect_exemplars(made_with, ["some words to read"] * 2, [0], 8, 2, cache_dir=tmp_path)
    tiny_tokenizer = deepcopy(tiny_tokenizer)  # others use it too
    tiny_tokenizer.add_tokens(["words"])
    with pytest.raises(ns.StoreError, match=r"They differ in the tokenizer \(\w+ there, \w+ here\)\. Bind"):
        store.bind(ns.load_subject((tiny_llama, tiny_tokenizer)))
    with pytest.raises(ns.StoreError, match=r"and in the dtype \(float32 there, bfloat16 here\)"):
        store.bind(ns.load_subject((tiny_llama, tiny_tokenizer), dtype="bfloat16"))


@pytest.mark.parametrize(
    ("neuron", "error", "message"),
    [
        (ns.Neuron(7, 0), ns.StoreError, r"layers \[0, 1\].*layers=\[7\]"),
        (ns.Neuron(0, 6), ns.SubjectError, "neurons 0 to 5; there is no neuron 6"),
        (ns.Neuron(0, 0, site="sae"), ns.StoreError, "not the site 'sae'"),
    ],
)
def test_a_neuron_it_does_not_have_is_answered_in_words(
    store: ExemplarStore, neuron: ns.Neuron, error: type[Exception], message: str
) -> None:
    for ask in (store.exemplars, store.random_sequences):
        with pytest.raises(error, match=message):
            ask(neuron)


def test_other_questions_it_cannot_answer_are_named(store: ExemplarStore) -> None:
    with pytest.raises(ns.ConfigurationError, match="no split 'dev'"):
        store.exemplars(NEURON, "dev")
    with pytest.raises(ns.ConfigurationError, match="not by 'mean'"):
        store.top_neurons(0, by="mean")  # type: ignore[arg-type]
    with pytest.raises(ns.StoreError, match="does not hold sequence 99999"):
        store.by_id(NEURON, [99999])


def test_merging_top_lists_is_associative() -> None:
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(0)
    maxima = torch.randint(-2, 3, (90, 4), generator=generator).float()
    keys = topk.pack(maxima, torch.arange(90))
    whole = topk.unpack(topk.merge(keys[:, :0], keys, 7), 7)
    parts = [topk.merge(keys[:, :0], keys[:, i : i + 30], 7) for i in (60, 0, 30)]
    merged = topk.unpack(topk.merge(parts[0], topk.merge(parts[1], parts[2], 7), 7), 7)
    assert all(torch.equal(a, b) for a, b in zip(whole, merged, strict=True))


def test_cached_activations_of_different_neurons_are_in_different_files(tmp_path: Path) -> None:
    neurons = [
        ns.Neuron(layer, 1, sign, site) for layer in (0, 1) for sign in (1, -1) for site in ("mlp", "sae", "attn.out")
    ]
    cache = ActivationCache(tmp_path)
    for number, neuron in enumerate(neurons):
        cache.add(neuron, {7: np.array([number], np.float32)})
    again = ActivationCache(tmp_path)
    assert [float(again.get(neuron)[7][0]) for neuron in neurons] == list(range(len(neurons)))


def test_of_a_short_text_the_neurons_of_a_layer_are_computed_together(store: ExemplarStore) -> None:
    neurons = [ns.Neuron(0, index) for index in range(1500)]
    assert [len(group) for group in groups(neurons, *group_sizes(store, 8))] == [1500]
    store.info["n_sequences"] = {"train": 8 * PER_NEURON + 1}
    assert [len(group) for group in groups(neurons, *group_sizes(store, 8))] == [8, 1492]
    store.info["n_sequences"] = {"train": 10**7}
    assert max(len(group) for group in groups(neurons, *group_sizes(store, 8))) < 500


def test_activations_that_memory_has_no_room_for_are_read_again(tmp_path: Path) -> None:
    cache = ActivationCache(tmp_path, capacity=4)
    neurons = [ns.Neuron(0, index) for index in range(5)]
    for neuron in neurons:
        cache.add(neuron, {7: np.full(3, neuron.index, np.float32)})
    for neuron in neurons:
        cache.add(neuron, {8: np.full(2, -neuron.index, np.float32)})
    for path in sorted(tmp_path.rglob("*.safetensors"))[:4]:
        path.unlink()
    found = [{key: row.tolist() for key, row in cache.get(neuron).items()} for neuron in neurons]
    assert found == [{}] * 4 + [{7: [4.0] * 3, 8: [-4.0] * 2}]


def test_activations_that_cannot_be_written_stay_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    cache = ActivationCache(tmp_path / "file", capacity=4)
    neurons = [ns.Neuron(0, index) for index in range(5)]
    for neuron in neurons:
        cache.add(neuron, {7: np.full(3, neuron.index, np.float32)})
    assert [cache.get(neuron)[7].tolist() for neuron in neurons] == [[float(index)] * 3 for index in range(5)]
