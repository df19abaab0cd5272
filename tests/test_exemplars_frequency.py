"""Counting active tokens in one pass: exact for every token, whatever the order, on every kind of device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuronscope.exemplars import frequency
from neuronscope.exemplars.accumulator import LayerAccumulator, SignStatistics
from neuronscope.exemplars.sampling import by_split
from neuronscope.types import SPLITS, HookPoint

WIDTH = 7
DTYPES = [torch.bfloat16, torch.float16, torch.float32]


def batch(seed: int, dtype: torch.dtype, size: int = 4, longest: int = 9) -> torch.Tensor:
    """Activations over many octaves, with a silent neuron and rows that are apart in memory, as behind a BOS."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(size, longest + 1, WIDTH, generator=generator, dtype=torch.float64) ** 3
    values[:, :, 2] = 0
    values[:, :, 3].abs_()
    return values.to(dtype)[:, 1:]


def expected(tokens: np.ndarray[Any, Any], sign: int) -> np.ndarray[Any, Any]:
    """Tokens from a quarter of the maximum, rounded down to five significant bits."""
    rectified = np.maximum(sign * tokens, 0)
    mantissa, exponent = np.frexp(rectified.max(0))
    edges = np.ldexp(np.floor(mantissa * 32) / 32, exponent - 2)
    return np.where(edges > 0, rectified >= edges, False).sum(0)  # type: ignore[no-any-return]


def gather(batches: list[torch.Tensor], sign: int) -> SignStatistics:
    accumulator = LayerAccumulator(HookPoint(0), WIDTH, (sign,), top_k=1)
    for activations in batches:
        accumulator.add_batch(activations, None)
    return accumulator.signs[sign]


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_token_above_the_threshold_is_counted(dtype: torch.dtype, sign: int) -> None:
    batches = [batch(seed, dtype, size=seed + 1) for seed in range(6)]
    tokens = np.concatenate([each.float().flatten(0, 1).numpy() for each in batches])
    np.testing.assert_array_equal(gather(batches, sign).counts.sum(1).numpy(), expected(tokens, sign))


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(6)), st.integers(1, 5), st.sampled_from([1, -1]))
def test_counts_depend_neither_on_the_order_nor_on_the_division(order: list[int], cut: int, sign: int) -> None:
    batches = [batch(seed, torch.bfloat16) * 2.0**-seed for seed in range(6)]
    whole = gather(batches, sign)
    left, right = (gather([batches[i] for i in part], sign) for part in (order[:cut], order[cut:]))
    left.merge(right, by_split(1))
    assert torch.equal(left.counts, whole.counts)
    assert torch.equal(left.maximum, whole.maximum)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_way_for_gpus_gathers_the_same_as_the_way_for_processors(dtype: torch.dtype) -> None:
    on_processor, on_device = (LayerAccumulator(HookPoint(0), WIDTH, (1, -1), top_k=3) for _ in range(2))
    for chunk in range(3):
        for half in range(2):
            activations = batch(2 * chunk + half, dtype)
            padding = torch.zeros(activations.shape[:2], dtype=torch.bool)
            padding[half, 6:] = True
            on_processor.add_on_processor(activations, padding)
            on_device.add_on_device(activations.clone(), padding)
        for accumulator in (on_processor, on_device):
            accumulator.close_chunk(range(8 * chunk, 8 * chunk + 8), [SPLITS[i % 4] for i in range(8)])
    forget_sums(on_processor, on_device)
    assert_equal(on_processor, on_device)
    assert all(statistics.counts.sum() > 0 for statistics in on_processor.signs.values())


def forget_sums(*accumulators: LayerAccumulator) -> None:
    """Those of the way for GPUs are rounded to the model's dtype."""
    for accumulator in accumulators:
        for statistics in accumulator.signs.values():
            statistics.total = torch.zeros(WIDTH, dtype=torch.int64)


def test_the_effective_threshold_is_within_the_stated_error() -> None:
    maximum = torch.logspace(-3, 3, 1000)
    edge = (frequency.lowest_bin(maximum) << 19).view(torch.float32)
    share = edge / maximum
    assert share.max() <= frequency.THRESHOLD
    assert share.min() >= frequency.THRESHOLD * 16 / 17


def accumulate(device: str, dtype: torch.dtype = torch.bfloat16) -> LayerAccumulator:
    accumulator = LayerAccumulator(HookPoint(0), WIDTH, (1, -1), top_k=3)
    for chunk in range(3):
        ids = [8 * chunk + i for i in range(8)]
        for half in range(2):
            activations = batch(2 * chunk + half, dtype).to(device, copy=True)
            padding = torch.zeros(activations.shape[:2], dtype=torch.bool, device=device)
            padding[0, 6:] = True
            accumulator.add_batch(activations, padding)
        accumulator.close_chunk(ids, [SPLITS[i % 4] for i in ids])
    return accumulator


def test_an_accumulator_goes_on_from_its_arrays() -> None:
    first, second = accumulate("cpu"), LayerAccumulator(HookPoint(0), WIDTH, (1, -1), top_k=3)
    for sign, statistics in second.signs.items():
        statistics.restore(first.signs[sign].arrays())
    assert_equal(first, second)


def assert_equal(left: LayerAccumulator, right: LayerAccumulator) -> None:
    for sign, statistics in left.signs.items():
        others = right.signs[sign].arrays()
        for name, array in statistics.arrays().items():
            ordered = [
                each.cpu().sort(-1).values if name.startswith("top") else each.cpu() for each in (array, others[name])
            ]
            assert torch.equal(*ordered), (sign, name)


cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")


@cuda
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_cuda_gathers_what_the_processor_gathers(dtype: torch.dtype) -> None:
    left, right = accumulate("cpu", dtype), accumulate("cuda", dtype)
    forget_sums(left, right)
    assert_equal(left, right)


@cuda
def test_cuda_is_not_waited_for_before_a_chunk_is_closed() -> None:
    accumulator = LayerAccumulator(HookPoint(0), WIDTH, (1, -1), top_k=3)
    activations = batch(0, torch.bfloat16).cuda()
    padding = torch.zeros(activations.shape[:2], dtype=torch.bool, device="cuda")
    accumulator.add_batch(activations, padding)  # the first batch moves the statistics to the device
    torch.cuda.set_sync_debug_mode("error")
    try:
        accumulator.add_batch(activations, padding)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@cuda
def test_cuda_keeps_the_top_lists_on_the_device() -> None:
    keys = accumulate("cuda").signs[1].top["train"]
    assert keys.device.type == "cuda"


@cuda
def test_cuda_runs_a_model_without_waiting_for_it(tiny_llama: Any, tiny_tokenizer: Any) -> None:
    import neuronscope as ns

    subject = ns.load_subject((tiny_llama, tiny_tokenizer), device="cuda", dtype="bfloat16")
    sequences = [[5, 6, 7], [8, 9]]
    subject.capture(sequences, [0, 1, 2])
    torch.cuda.set_sync_debug_mode("error")
    try:
        captured, mask = subject.capture(sequences, [0, 1, 2])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert captured[2].device.type == mask.device.type == "cuda"


@cuda
def test_cuda_collects_a_store(tiny_llama: Any, tiny_tokenizer: Any, tmp_path: Any) -> None:
    import neuronscope as ns

    subject = ns.load_subject((tiny_llama, tiny_tokenizer), device="cuda", dtype="float32")
    texts = [f"text number {i} with some letters {chr(97 + i % 26) * 5}" for i in range(60)]
    on_gpu = ns.collect_exemplars(subject, texts, seq_len=16, top_k=5, cache_dir=tmp_path / "gpu")
    tiny_llama.cpu()
    on_cpu = ns.collect_exemplars(subject, texts, seq_len=16, top_k=5, cache_dir=tmp_path / "cpu")
    for layer in on_cpu.layers:
        np.testing.assert_allclose(on_gpu.max_activation(layer), on_cpu.max_activation(layer), rtol=1e-3)
        np.testing.assert_allclose(on_gpu.mean(layer), on_cpu.mean(layer), rtol=1e-3, atol=1e-5)
