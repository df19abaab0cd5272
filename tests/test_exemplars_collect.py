"""Collecting: the exact top sequences, in one pass, in bounded memory, once."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import neuronscope as ns
from neuronscope.corpus import Document, Window, open_corpus, windows
from neuronscope.exemplars import collect as collector
from neuronscope.exemplars import statistics_pass as collection
from neuronscope.exemplars import write as writing
from neuronscope.exemplars.pool import SequencePool
from neuronscope.exemplars.topk import unpack
from neuronscope.subject.loaded import LoadedSubject
from neuronscope.types import SPLITS, HookPoint
from table_subject import TableSubject

LETTERS = "?abcdefgh"
SEQ_LEN = 20

activation = st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.0, 2.0])
tables = st.lists(st.lists(activation, min_size=3, max_size=3), min_size=len(LETTERS), max_size=len(LETTERS))
documents = st.lists(st.text(alphabet=LETTERS, min_size=1, max_size=60), min_size=1, max_size=40)


def texts(n: int, seed: int = 0, longest: int = 60) -> list[str]:
    generator = random.Random(seed)
    return ["".join(generator.choices(LETTERS, k=generator.randint(4, longest))) for _ in range(n)]


def planted(seed: int = 0, width: int = 5, layers: int = 2) -> TableSubject:
    generator = np.random.default_rng(seed)
    return TableSubject(
        LETTERS, [generator.normal(size=(len(LETTERS), width)).astype(np.float32) for _ in range(layers)]
    )


def brute_force(
    found: list[Window], table: np.ndarray[Any, Any], index: int, sign: int, split: str, k: int
) -> list[tuple[float, int]]:
    """Every sequence's maximum, sorted: the definition."""
    maxima = [
        (float((sign * table[window.token_ids, index]).max()), -window.sequence_id)
        for window in found
        if window.split == split
    ]
    return [(value, -negated) for value, negated in sorted(maxima, reverse=True) if value > 0][:k]


def active_share(rectified: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The share of tokens from a quarter of the maximum, rounded down to five significant bits."""
    mantissa, exponent = np.frexp(rectified.max(0))
    edges = np.ldexp(np.floor(mantissa * 32) / 32, exponent - 2)
    return np.where(edges > 0, rectified >= edges, False).mean(0)  # type: ignore[no-any-return]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(documents, tables, st.integers(1, 6), st.sampled_from([1, 2, 5]), st.sampled_from([3, 7, 512]))
def test_the_top_sequences_are_those_of_a_brute_force_search(
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[str],
    rows: list[list[float]],
    top_k: int,
    batch: int,
    chunk: int,
) -> None:
    table = np.array(rows, np.float32)
    table[:, 0] = -np.abs(table[:, 0]) - 0.25  # a neuron that is never positive
    subject = TableSubject(LETTERS, [table])
    found = list(windows(open_corpus(texts), subject.tokenizer, SEQ_LEN))
    if not found:
        return
    lists = {split: top_k + more for more, split in enumerate(SPLITS)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collection, "CHUNK_SEQUENCES", chunk)
        store = ns.collect_exemplars(
            subject, texts, [0], SEQ_LEN, lists, cache_dir=tmp_path_factory.mktemp("stores"), batch_size=batch
        )
    tokens = np.concatenate([table[window.token_ids] for window in found])
    for sign in (1, -1):
        rectified = np.maximum(sign * tokens, 0)
        np.testing.assert_allclose(store.frequency(0, sign), active_share(rectified), rtol=1e-6)
        np.testing.assert_allclose(store.mean(0, sign), rectified.mean(0), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(store.max_activation(0, sign), rectified.max(0))
        for index in range(3):
            for split in SPLITS:
                exemplars = store.exemplars(ns.Neuron(0, index, sign), split, n=lists[split] + 1)
                expected = brute_force(found, table, index, sign, split, lists[split])
                assert [(float(e.activations.max()), e.sequence_id) for e in exemplars] == expected


def test_a_neuron_that_is_never_positive_has_no_exemplars_of_sign_plus(tmp_path: Path) -> None:
    subject = planted()
    subject.tables[0][:, 3] = -1
    store = ns.collect_exemplars(subject, texts(50), [0], SEQ_LEN, cache_dir=tmp_path)
    assert store.exemplars(ns.Neuron(0, 3)) == []
    assert store.max_activation(0)[3] == store.frequency(0)[3] == store.mean(0)[3] == 0
    assert len(store.exemplars(ns.Neuron(0, 3, sign=-1))) == 20


def test_an_exemplar_carries_its_text_its_source_and_the_rectified_activations(tmp_path: Path) -> None:
    subject = planted()
    store = ns.collect_exemplars(subject, [Document("abcdefgh" * 2, "letters")] * 2, [1], cache_dir=tmp_path)
    split = next(split for split in SPLITS if store.info["n_sequences"][split])
    (exemplar,) = store.exemplars(ns.Neuron(1, 0, sign=-1), split)
    assert exemplar.text == "abcdefgh" * 2
    assert exemplar.tokens == list("abcdefgh" * 2)
    assert exemplar.source == "letters"
    assert exemplar.activations.dtype == np.float32
    np.testing.assert_array_equal(exemplar.activations, np.maximum(-subject.tables[1][exemplar.token_ids, 0], 0))


def test_splits_are_disjoint_and_go_by_document(tmp_path: Path) -> None:
    corpus = texts(300, longest=100)
    subject = planted()
    store = ns.collect_exemplars(subject, corpus, [0], SEQ_LEN, top_k=1000, cache_dir=tmp_path)
    ids = {split: set(store.top_ids(ns.Neuron(0, 0), split, 1000)) for split in SPLITS}
    split_by_id = {
        window.sequence_id: window.split for window in windows(open_corpus(corpus), subject.tokenizer, SEQ_LEN)
    }
    assert all(split_by_id[i] == split for split in SPLITS for i in ids[split])
    assert sum(map(len, ids.values())) == len(set().union(*ids.values())) > 100


def test_the_same_call_again_costs_no_pass_and_reads_no_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject, corpus = planted(), texts(30)
    first = ns.collect_exemplars(subject, corpus, [0, 1], SEQ_LEN, cache_dir=tmp_path)
    calls = subject.calls
    monkeypatch.setattr(collector, "windows", None)
    second = ns.collect_exemplars(subject, list(corpus), [1, 0, 1], SEQ_LEN, signs=(-1, 1), cache_dir=tmp_path)
    assert (second.path, second.info, subject.calls) == (first.path, first.info, calls)


@pytest.mark.parametrize(
    "change",
    [{"layers": [1]}, {"seq_len": 10}, {"top_k": 3}, {"n_tokens": 50}, {"signs": (1,)}, {"corpus": ["abcdefgh"]}],
    ids=lambda change: next(iter(change)),
)
def test_any_other_setting_makes_another_store(tmp_path: Path, change: dict[str, Any]) -> None:
    arguments = {"corpus": texts(30), "layers": [0], "seq_len": SEQ_LEN}
    first = ns.collect_exemplars(planted(), **arguments, cache_dir=tmp_path)
    assert ns.collect_exemplars(planted(), **(arguments | change), cache_dir=tmp_path).path != first.path


def test_lists_are_longer_for_train_unless_said_otherwise(tmp_path: Path) -> None:
    def collected(**settings: Any) -> ns.ExemplarStore:
        return ns.collect_exemplars(planted(), texts(30), [0], SEQ_LEN, cache_dir=tmp_path, **settings)

    default = {"train": 400, "feedback": 100, "validation": 100, "test": 100}
    store = collected()
    assert store.info["top_k"] == default
    assert collected(top_k=default).path == store.path
    assert collected(top_k={"train": 7}).info["top_k"] == default | {"train": 7}
    few = collected(top_k={"train": 2, "test": 1})
    neuron = ns.Neuron(0, 1)
    assert few.top_ids(neuron, "train", 9) == store.top_ids(neuron, "train", 2)
    assert few.top_ids(neuron, "test", 9) == store.top_ids(neuron, "test", 1)
    assert collected(top_k=3).info["top_k"] == dict.fromkeys(SPLITS, 3)


def test_another_model_makes_another_store(tmp_path: Path) -> None:
    other = planted(seed=1)
    other.fingerprint = "another"
    first = ns.collect_exemplars(planted(), texts(30), [0], cache_dir=tmp_path)
    assert ns.collect_exemplars(other, texts(30), [0], cache_dir=tmp_path).path != first.path


def test_a_subject_without_a_fingerprint_is_recognised_only_as_the_same_object(tmp_path: Path) -> None:
    subjects = [planted(), planted()]
    for subject in subjects:
        del subject.fingerprint
    paths = [ns.collect_exemplars(s, texts(30), [0], cache_dir=tmp_path).path for s in (*subjects, subjects[0])]
    assert paths[0] == paths[2] != paths[1]


def test_without_a_folder_stores_go_to_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEURONSCOPE_CACHE", str(tmp_path))
    store = ns.collect_exemplars(planted(), texts(30), [0])
    assert store.path.parent == tmp_path / "stores"


def test_reading_stops_at_the_number_of_tokens(tmp_path: Path) -> None:
    store = ns.collect_exemplars(planted(), texts(100), [0], SEQ_LEN, n_tokens=200, cache_dir=tmp_path)
    assert 200 <= sum(store.info["n_tokens"].values()) < 260


def test_memory_follows_the_lists_not_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    largest: list[int] = []
    add = SequencePool.add

    def watched(pool: SequencePool, window: Window) -> None:
        add(pool, window)
        largest.append(len(pool.sequences))

    def small(referenced: Any) -> SequencePool:
        return SequencePool(referenced, sample_size=10, slack=50)

    def endless() -> Iterator[str]:
        generator = random.Random(0)
        while True:
            yield "".join(generator.choices(LETTERS, k=20))

    monkeypatch.setattr(SequencePool, "add", watched)
    monkeypatch.setattr(collection, "SequencePool", small)
    monkeypatch.setattr(collection, "CHUNK_SEQUENCES", 50)
    store = ns.collect_exemplars(planted(layers=1), endless(), [0], SEQ_LEN, 2, n_tokens=100_000, cache_dir=tmp_path)
    needed = 5 * 2 * 3 * 2 + 3 * 10  # neurons, signs, splits, k; random samples
    assert sum(store.info["n_sequences"].values()) == 5000
    assert max(largest) <= 2 * needed + 50 + 50  # twice the needed, the slack, one chunk


@pytest.mark.slow
def test_ten_times_the_tokens_take_no_more_memory() -> None:
    pytest.importorskip("resource", reason="this system does not tell a process's peak memory")
    script = Path(__file__).with_name("collection_memory.py")
    output = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True).stdout
    once, tenfold = json.loads(output.splitlines()[-1])
    assert tenfold - once < 20  # megabytes


def test_an_interrupted_collection_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "write_atomically", interrupt)
    with pytest.raises(KeyboardInterrupt):
        ns.collect_exemplars(planted(), texts(30), [0], cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_way_is_not_touched(tmp_path: Path) -> None:
    store = ns.collect_exemplars(planted(), texts(30), [0], cache_dir=tmp_path)
    (store.path / "store.json").unlink()
    with pytest.raises(ns.StoreError, match="in the way"):
        ns.collect_exemplars(planted(), texts(30), [0], cache_dir=tmp_path)
    assert (store.path / "mlp-0.safetensors").is_file()


def test_a_progress_bar_shows_tokens_when_asked(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ns.collect_exemplars(planted(), texts(30), [0], cache_dir=tmp_path, progress=True)
    output = capfd.readouterr()
    assert "tokens" in output.err
    assert output.out == ""


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"layers": [2]}, ns.SubjectError, "layers 0 to 1; there is no layer 2"),
        ({"layers": []}, ns.ConfigurationError, "at least one"),
        ({"signs": (2,)}, ns.ConfigurationError, "Signs are 1, -1 or both"),
        ({"top_k": 0}, ns.ConfigurationError, "top_k must be at least 1"),
        ({"top_k": {"train": 0}}, ns.ConfigurationError, "top_k of train must be at least 1"),
        ({"top_k": {"trian": 5}}, ns.ConfigurationError, r"no split 'trian'\. Did you mean 'train'"),
        ({"site": "sae"}, ns.SubjectError, "no units at the site 'sae'"),
        ({"corpus": ["ab", "c"]}, ns.CorpusError, "no document long enough"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ns.collect_exemplars(planted(), **({"corpus": texts(9), "layers": [0], "cache_dir": tmp_path} | change))
    assert list(tmp_path.iterdir()) == []


def test_activations_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    subject = planted()
    subject.tables[0][2, 2] = np.nan
    with pytest.raises(ns.SubjectError, match="Layer 0 has activations that are infinite or not a number"):
        ns.collect_exemplars(subject, texts(30), [0], cache_dir=tmp_path)


def test_more_sequences_than_a_store_can_number_are_refused() -> None:
    gathered = collection.Collection(planted(), [0], (1, -1), top_k=2, batch_tokens=64)
    last, beyond = (Window(number, [1, 2, 3, 4], "train", "letters") for number in (2**31 - 1, 2**31))
    gathered.add_chunk([last])
    activations, ids = unpack(gathered.accumulators[HookPoint(0)].signs[1].top["train"], 2)
    assert ids[activations > 0].unique().tolist() == [last.sequence_id]
    with pytest.raises(ns.CorpusError, match="more than 2,147,483,648 sequences"):
        gathered.add_chunk([beyond])


def test_a_real_model_on_real_text(smollm2: LoadedSubject, tmp_path: Path) -> None:
    store = ns.collect_exemplars(smollm2, "builtin", [2], n_tokens=2500, cache_dir=tmp_path)
    assert set(store.info["sources"]) == {"encyclopedia", "news", "dialogue", "technical"}
    assert store.frequency(2).shape == (1536,)
    neuron = store.top_neurons(2, n=1, by="max")[0]
    largest = store.max_activation(2)[neuron.index]
    best = {split: store.exemplars(neuron, split, n=1)[0] for split in SPLITS}
    # Activations are computed again in other batches, whose bfloat16 roundings differ.
    assert max(exemplar.activations.max() for exemplar in best.values()) == pytest.approx(largest, rel=0.05)
    alone = smollm2.activations([best["train"].token_ids], [2])[2][0][:, neuron.index]
    np.testing.assert_allclose(best["train"].activations, np.maximum(alone, 0), rtol=0.05, atol=0.02 * largest)
    assert best["train"].text == smollm2.tokenizer.decode(best["train"].token_ids)
