"""Numbers as they come out of tables and arrays, and names that are nearly right."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import neuronscope as ns
from neuronscope.arguments import did_you_mean, integer, integers
from neuronscope.neurons import as_neurons
from planted import MemorySource, PlantedSubject, WordSimulator, documents


@pytest.fixture
def subject(tiny_llama: Any, tiny_tokenizer: Any) -> Any:
    return ns.load_subject((tiny_llama, tiny_tokenizer), dtype="float32")


TABLE = pd.DataFrame({"name": ["a", "b"], "layer": [7, 3], "neuron": [11, 12]})
GAPS = pd.DataFrame({"layer": [7, None], "neuron": [11, None]})
KINDS = [
    np.int8,
    np.int64,
    np.uint16,
    np.float32,
    np.float64,
    float,
    torch.tensor,
    np.array,
    lambda n: pd.Series([n])[0],
]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=5)
@given(number=st.integers(0, 100))
def test_a_whole_number_is_the_same_neuron_wherever_it_comes_from(kind: Any, number: int) -> None:
    neuron = ns.Neuron(kind(number), kind(number + 1), np.int8(-1))
    assert neuron == ns.Neuron(number, number + 1, -1)
    assert [type(part) for part in (neuron.layer, neuron.index, neuron.sign)] == [int, int, int]
    assert hash(neuron) == hash(ns.Neuron(number, number + 1, -1))


NONE_AT_ALL = {
    "boolean": True,
    "numpy's boolean": np.bool_(True),
    "torch's boolean": torch.tensor(True),
    "fraction": 2.5,
    "numpy's fraction": np.float32(0.5),
    "nan": float("nan"),
    "infinity": float("inf"),
    "text": "4",
    "bytes": b"4",
    "nothing": None,
    "list": [4],
    "array": np.array([4]),
    "tensor": torch.tensor([4]),
    "empty cell": pd.NA,
    "31 digits": 10**30,
    "6001 digits": 10**6000,
    "complex": 4j,
}


@pytest.mark.parametrize("value", NONE_AT_ALL.values(), ids=NONE_AT_ALL)
@pytest.mark.parametrize("argument", ["layer", "neuron", "sign"])
def test_what_is_no_whole_number_is_refused_before_anything_is_loaded(value: Any, argument: str) -> None:
    with pytest.raises(ns.ConfigurationError, match="expected a whole number"):
        ns.explain_neuron("no such model", **{"layer": 1, "neuron": 2, argument: value})


ROW = namedtuple("ROW", ["Index", "layer", "neuron"])  # as itertuples of pandas gives them


@pytest.mark.parametrize(
    "given",
    [
        TABLE,
        TABLE.to_dict("records"),
        TABLE.itertuples(),
        (row for _, row in TABLE.iterrows()),
        zip(TABLE.layer, TABLE.neuron, strict=True),
        TABLE[["layer", "neuron"]].to_numpy(),
        torch.tensor([[7, 11], [3, 12]]),
        [ROW(1, 7, 11), ROW(-1, 3, 12)],
        pd.Series(["7/11", "3/12"]),
        [[7.0, 11.0, 1.0], GAPS.fillna(0).loc[0], {"layer": 3, "index": np.int64(12), "sign": 1}],
    ],
)
def test_neurons_in_tables_arrays_and_rows(given: Any) -> None:
    assert as_neurons(given) == [ns.Neuron(7, 11), ns.Neuron(3, 12)]


@pytest.mark.parametrize("given", [ns.Neuron(1, 2), "1/2", {"layer": 1, "neuron": 2}])
def test_a_single_neuron_is_a_list_of_one(given: Any) -> None:
    assert as_neurons(given) == [ns.Neuron(1, 2)]


@pytest.mark.parametrize(
    "given", [GAPS, [(1, 2.5)], [(1, True)], [(1, 2, 3, 4)], 5, None, [{"layer": 1}], np.array([1, 2])]
)
def test_rows_that_are_no_neurons_are_refused(given: Any) -> None:
    with pytest.raises(ns.ConfigurationError, match="no neuron"):
        list(ns.explain_neurons(given, "no such model"))


@pytest.mark.parametrize(
    "layers", [range(2), np.arange(2), pd.Series([1, 0]), torch.arange(2), (np.float64(0), 1), [0, 1, 1]]
)
def test_layers_are_collected_however_they_are_given(
    layers: Any, tiny_llama: Any, tiny_tokenizer: Any, tmp_path: Any
) -> None:
    subject = ns.load_subject((tiny_llama, tiny_tokenizer), dtype="float32")
    given: dict[str, Any] = {"seq_len": np.int32(16), "top_k": np.int64(5), "n_tokens": 3e3, "signs": np.array([1])}
    store = ns.collect_exemplars(subject, documents(90), layers=layers, cache_dir=tmp_path, progress=False, **given)
    assert ns.open_store(store.path).layers == [0, 1]
    assert store.info["requested_tokens"] == 3000
    chosen = store.top_neurons(np.int64(1), n=np.float64(2), seed=np.uint8(3), by="random")
    assert [(type(each.layer), type(each.index)) for each in chosen] == [(int, int)] * 2
    with pytest.raises(ns.ConfigurationError, match="n must be at least 0"):
        store.top_neurons(1, n=-1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"layers": "0,1"},
        {"layers": [True]},
        {"top_k": 2.5},
        {"seq_len": "64"},
        {"n_tokens": float("nan")},
        {"signs": "+"},
    ],
)
def test_collecting_refuses_what_is_no_number(wrong: dict[str, Any], subject: Any) -> None:
    with pytest.raises(ns.ConfigurationError, match="expected a whole number"):
        ns.collect_exemplars(subject, documents(9), **wrong)


def test_a_neuron_from_a_table_is_explained_saved_and_read_back(tmp_path: Path) -> None:
    subject = PlantedSubject()
    row = pd.DataFrame({"layer": [0], "neuron": [1]}).loc[0]
    x = ns.explain_neuron(
        subject, layer=row["layer"], neuron=row["neuron"], store=MemorySource(subject, documents()), llm="offline",
        simulator=WordSimulator(), embeddings="minilm", progress=False,
    )  # fmt: skip
    assert ns.NeuronExplanation.load(x.save(tmp_path / "x.json")).neuron == ns.Neuron(0, 1)


def test_settings_take_numbers_of_tables_and_refuse_booleans() -> None:
    config = ns.ExplainConfig(
        n_tokens=np.int64(900), seed=torch.tensor(3), min_improvement=np.float32(0.5), patience=None
    )
    assert config == ns.ExplainConfig(n_tokens=900, seed=3, min_improvement=0.5, patience=None)
    assert type(config.n_tokens) is int
    with pytest.raises(ns.ConfigurationError) as refused:
        ns.ExplainConfig(n_token=5, max_modes=True, temperature=float("nan"), noise="keeep")
    for part in [
        "'n_token'. Did you mean 'n_tokens'?",
        "max_modes is True",
        "temperature is nan",
        "Did you mean 'keep'?",
    ]:
        assert part in str(refused.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_bootstrap": 1.5},
        {"n_bootstrap": 0},
        {"activation_threshold": "half"},
        {"activation_threshold": True},
        {"seed": "a"},
        {"neuron": (1, "a")},
        {"explanations": 7},
    ],
)
def test_evaluate_refuses_what_is_no_number_before_anything_is_loaded(wrong: dict[str, Any]) -> None:
    with pytest.raises(ns.ConfigurationError):
        ns.evaluate(**({"explanations": "Red things.", "neuron": (0, 1), "subject": "no such model"} | wrong))


def test_a_single_integer_and_a_least_one() -> None:
    assert integers(np.int64(4), "layers") == [4]
    assert integer(np.uint8(255), "n", least=255) == 255
    with pytest.raises(ns.ConfigurationError, match="parallel must be at least 1, not 0"):
        list(ns.explain_neurons([], "no such model", parallel=0))


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("ofline", " Did you mean 'offline'?"),
        ("OFFLINE", " Did you mean 'offline'?"),
        ("xyz", ""),
        (3, ""),
        ("o" * 9999, ""),
    ],
)
def test_the_nearest_name_is_offered_if_one_is_near(word: object, hint: str) -> None:
    assert did_you_mean(word, ["auto", "offline"]) == hint
