"""docs/scale.md: its tables are what benchmarks/scale.py computes, and its sizes are those of real collections."""

from __future__ import annotations

import importlib.util
import random
import sys
import tracemalloc
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors import safe_open

import neuronscope as ns
from neuronscope.corpus import Window, open_corpus, windows
from neuronscope.exemplars.pool import SAMPLE_SIZE, SequencePool
from neuronscope.exemplars.statistics_pass import Collection, chunks
from neuronscope.types import SPLITS
from table_subject import TableSubject

ROOT = Path(__file__).parent.parent
LETTERS = "?abcdefgh"
WIDTH, LAYERS, TOP_K = 6, 2, 3


@pytest.fixture(scope="module")
def scale() -> ModuleType:
    specification = importlib.util.spec_from_file_location("scale", ROOT / "benchmarks" / "scale.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["scale"] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module


def subject() -> TableSubject:
    generator = np.random.default_rng(0)
    tables = [generator.normal(size=(len(LETTERS), WIDTH)).astype(np.float32) for _ in range(LAYERS)]
    return TableSubject(LETTERS, tables)


def texts() -> list[str]:
    """So many that each split fills its random sample and every neuron its lists."""
    generator = random.Random(0)
    return ["".join(generator.choices(LETTERS, k=20)) for _ in range(13 * SAMPLE_SIZE)]


@pytest.fixture(scope="module")
def collected() -> Collection:
    collection = Collection(subject(), range(LAYERS), (1, -1), TOP_K, batch_tokens=2048)
    for chunk in chunks(windows(open_corpus(texts()), collection.subject.tokenizer, 20)):
        collection.add_chunk(chunk)
    return collection


def test_the_page_has_the_tables_that_the_script_prints(scale: ModuleType) -> None:
    page = (ROOT / "docs" / "scale.md").read_text("utf-8")
    assert [name for name in scale.ON_THE_PAGE if scale.TABLES[name]() not in page] == []
    assert f"{scale.statistics_bytes():.0f} bytes for each activation" in page


def test_the_formula_for_the_device_is_the_size_of_real_lists_and_counters(
    scale: ModuleType, collected: Collection
) -> None:
    found = sum(
        tensor.nbytes
        for layer in collected.accumulators.values()
        for each in layer.signs.values()
        for tensor in (each.maximum, each.lowest, each.counts, *each.top.values())
    )
    assert found == scale.device_state_bytes(LAYERS * WIDTH, TOP_K)


def test_the_formula_for_checkpoints_is_the_size_of_a_real_state(scale: ModuleType, collected: Collection) -> None:
    arrays, _ = collected.state()
    sequences = collected.pool.sequences
    n_tokens = sum(len(each.token_ids) for each in sequences.values())
    expected = scale.checkpoint_bytes(LAYERS * WIDTH, len(sequences), n_tokens, TOP_K)
    assert sum(array.nbytes for array in arrays.values()) == expected


def test_the_formula_for_stores_is_the_size_of_a_real_ones_arrays(scale: ModuleType, tmp_path: Path) -> None:
    store = ns.collect_exemplars(subject(), texts()[:200], seq_len=20, top_k=TOP_K, cache_dir=tmp_path)
    found = 0
    for path in store.path.glob("mlp-*.safetensors"):
        with safe_open(path, framework="np") as file:
            found += sum(file.get_tensor(name).nbytes for name in file.keys())  # noqa: SIM118 - not a dictionary
    assert found == scale.layer_file_bytes(LAYERS * WIDTH, TOP_K)


def test_the_formula_for_kept_activations_bounds_a_real_file(scale: ModuleType, tmp_path: Path) -> None:
    store = ns.collect_exemplars(subject(), texts(), keep_activations=True, cache_dir=tmp_path)
    found = sum(path.stat().st_size for path in store.path.glob("*.kept.safetensors"))
    # These sequences have 20 tokens: the lists have room for 64 of each, the samples for what there is.
    lists = LAYERS * WIDTH * 2 * 2 * scale.places() * scale.SEQ_LEN
    assert lists + LAYERS * WIDTH * 2 * len(SPLITS) * SAMPLE_SIZE * 20 < found < scale.kept_bytes(LAYERS * WIDTH)


def test_the_bound_on_references_holds(scale: ModuleType, collected: Collection) -> None:
    places = sum(
        keys.numel()
        for layer in collected.accumulators.values()
        for each in layer.signs.values()
        for keys in each.top.values()
    )
    assert places * scale.places() == scale.references(LAYERS * WIDTH) * scale.places(TOP_K)
    collected.pool.prune()
    assert len(collected.pool.sequences) <= places + len(SPLITS) * SAMPLE_SIZE


def test_a_pooled_sequence_takes_about_what_the_page_says(scale: ModuleType) -> None:
    pool = SequencePool(set)
    token_ids = [1000 + number for number in range(scale.SEQ_LEN)]
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(20_000):
        pool.add(Window(number, token_ids, "train", "letters"))
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (after - before) / 20_000 == pytest.approx(scale.POOLED_BYTES, rel=0.15)


@pytest.mark.parametrize("name", ["LlamaConfig", "Gemma2Config", "Qwen3Config"])
def test_trunk_parameters_are_those_of_transformers_own_models(scale: ModuleType, name: str) -> None:
    import transformers

    shape = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": 32,
    }
    configuration = getattr(transformers, name)(**shape, tie_word_embeddings=True)
    model = transformers.AutoModelForCausalLM.from_config(configuration)
    matrices = sum(each.weight.numel() for each in model.modules() if isinstance(each, torch.nn.Linear))
    head = model.get_output_embeddings().weight.numel()
    ours = scale.Model("tiny", 3, 16, 24, 4, 2, 8, 32, tied=True)
    assert ours.trunk_parameters == matrices - head
    assert ours.weight_bytes == 2 * (matrices - head + model.get_input_embeddings().weight.numel())
