"""The compiled loops give what plain numpy gives, bit for bit, on all floats, lengths and layouts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neuronscope.errors import SubjectError
from neuronscope.exemplars import compiled, frequency, processor, topk
from neuronscope.exemplars.accumulator import TOTAL_UNIT, LayerAccumulator
from neuronscope.types import HookPoint

DTYPES = [torch.bfloat16, torch.float16, torch.float32]
SPECIAL = {
    torch.bfloat16: [0.0, -0.0, 1e-40, -1e-40, 1.0, -1.0, 3.3e38, -3.3e38, 1.17e-38, -1.17e-38],
    torch.float16: [0.0, -0.0, 6e-8, -6e-8, 1.0, -1.0, 65504.0, -65504.0, 6.1e-5, -6.1e-5],
    torch.float32: [0.0, -0.0, 1e-45, -1e-45, 1.0, -1.0, 3.4e38, -3.4e38, 1.17e-38, -1.17e-38],
}


@st.composite
def batches(draw: st.DrawFn) -> tuple[torch.Tensor, list[int]]:
    """Activations over many octaves with special values among them, and lengths; rows are apart in memory."""
    size, longest, width = draw(st.integers(1, 5)), draw(st.integers(1, 19)), draw(st.sampled_from([1, 7, 8, 65, 515]))
    dtype, scale = draw(st.sampled_from(DTYPES)), draw(st.sampled_from([1.0, 1e-4]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    values = (scale * torch.randn(size, longest + 2, width, generator=generator, dtype=torch.float64) ** 3).to(dtype)
    if draw(st.booleans()):
        special = torch.tensor(SPECIAL[dtype], dtype=dtype)
        kinds = torch.randint(len(special), values.shape, generator=generator)
        values = torch.where(torch.rand(values.shape, generator=generator) < 0.1, special[kinds], values)
    if draw(st.booleans()):
        values = -values.abs()
    lengths = draw(st.lists(st.integers(1, longest), min_size=size, max_size=size))
    return values[:, 1:-1], lengths


def padding_of(lengths: list[int], longest: int) -> torch.Tensor:
    return torch.arange(longest) >= torch.tensor(lengths)[:, None]


def add(accumulator: LayerAccumulator, activations: torch.Tensor, lengths: list[int]) -> None:
    accumulator.add_batch(activations, padding_of(lengths, activations.shape[1]))


def counted(tokens: NDArray[np.float32], maximum: NDArray[np.float32]) -> NDArray[np.int64]:
    """Tokens by bin, `(width, N_BINS)`, from their definition: sign, exponent and four bits of the mantissa."""
    lowest = np.maximum((maximum.view(np.int32) >> 19) - 32, 1)
    bins = (tokens.view(np.int32) >> 19) - lowest
    return np.stack([(bins == number).sum(0) for number in range(frequency.N_BINS)], 1)


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_maxima_counts_and_sums_are_those_of_plain_numpy(data: st.DataObject) -> None:
    activations, lengths = data.draw(batches())
    before = activations.clone()
    signs = data.draw(st.sampled_from([(1, -1), (1,), (-1,)]))
    width = activations.shape[2]
    accumulator = LayerAccumulator(HookPoint(0), width, signs, top_k=2)
    add(accumulator, activations, lengths)
    summary = processor.Batch(activations, np.array(lengths)).summarize()
    assert torch.equal(activations, before)
    rows = [row[:length] for row, length in zip(activations.float().numpy(), lengths, strict=True)]
    tokens = np.concatenate(rows)
    for sign, statistics in accumulator.signs.items():
        rectified = np.maximum(sign * tokens, np.float32(0))
        maxima = np.stack([np.maximum(sign * row, 0).max(0) for row in rows])
        np.testing.assert_array_equal(summary.maxima[processor.SIGNS.index(sign)].float().numpy(), maxima)
        np.testing.assert_array_equal(statistics.maximum.numpy(), rectified.max(0))
        np.testing.assert_array_equal(statistics.counts.numpy(), counted(rectified, rectified.max(0)))
    exact = np.stack([tokens, np.abs(tokens)]).sum(1, dtype=np.float64)
    differences = np.abs(summary.sums.double().numpy() - exact)[:, exact[1] < 1e38]  # larger sums have no float32
    assert (differences <= 1e-6 * exact[1, exact[1] < 1e38] + 1e-44).all()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_lists_are_those_of_sorting_all_keys(data: st.DataObject) -> None:
    k, width = data.draw(st.integers(1, 9)), data.draw(st.sampled_from([1, 3, 515]))
    dtype = data.draw(st.sampled_from([torch.bfloat16, torch.float32]))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    ids = torch.randperm(40, generator=generator)
    expected = found = torch.zeros((width, 0), dtype=torch.int64)
    for part in ids.split(data.draw(st.sampled_from([1, 7, 40]))):
        maxima = torch.randint(0, 4, (len(part), width), generator=generator).to(dtype)  # many ties
        expected = topk.insert(expected, maxima, part, k)
        found = processor.insert(found, maxima, part, k)
        assert torch.equal(found.sort(1).values, expected.sort(1).values)


def test_lists_that_were_merged_go_on() -> None:
    generator = torch.Generator().manual_seed(0)
    maxima = torch.rand((30, 5), generator=generator)
    ids = torch.arange(30)
    expected = topk.insert(torch.zeros((5, 0), dtype=torch.int64), maxima, ids, 4)
    first = topk.insert(torch.zeros((5, 0), dtype=torch.int64), maxima[:20], ids[:20], 4).flip(1)
    kept = first.clone()
    found = processor.insert(first, maxima[20:], ids[20:], 4)
    assert torch.equal(found.sort(1).values, expected.sort(1).values)
    assert torch.equal(first, kept)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, -np.nan])
@pytest.mark.parametrize("signs", [(1, -1), (1,), (-1,)])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_is_not_finite_is_refused_wherever_it_is(dtype: torch.dtype, signs: tuple[int, ...], value: float) -> None:
    for place in [(0, 0, 0), (2, 6, 8), (1, 3, 5)]:
        activations = torch.ones(3, 7, 9, dtype=dtype)
        activations[place] = value
        accumulator = LayerAccumulator(HookPoint(4), 9, signs, top_k=2)
        with pytest.raises(SubjectError, match="Layer 4 has activations that are infinite or not a number"):
            accumulator.add_batch(activations, None)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_padding_may_hold_anything(dtype: torch.dtype) -> None:
    activations = torch.ones(3, 7, 9, dtype=dtype)
    activations[1, 4:] = np.nan
    accumulator = LayerAccumulator(HookPoint(0), 9, (1, -1), top_k=2)
    add(accumulator, activations, [7, 4, 7])
    accumulator.close_chunk([0, 1, 2], ["train"] * 3)
    assert (accumulator.signs[1].total * TOTAL_UNIT).tolist() == [18] * 9
    assert accumulator.signs[1].counts.sum(1).tolist() == [18] * 9


def test_an_installation_that_cannot_be_written_to_still_works(tmp_path: Path) -> None:
    """The compiled loops go to the user's cache; without one, every process compiles its own."""
    installed = tmp_path / "installed"
    installed.mkdir()
    shutil.copy(compiled.__file__, installed)
    in_the_way = installed / "__pycache__"
    in_the_way.touch()  # a file: no user can put a folder there, not even root
    script = "import compiled, numpy; h = numpy.array([5, 1, 2]); compiled._sift(h, 0); print(*h)"
    for home, is_kept in ((tmp_path / "home", True), (in_the_way / "home", False)):
        folders = {"HOME": str(home), "USERPROFILE": str(home), "LOCALAPPDATA": str(home), "XDG_CACHE_HOME": str(home)}
        environment = os.environ | folders | {"PYTHONPATH": str(installed)}
        environment.pop("NUMBA_CACHE_DIR", None)
        output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
        assert output.stdout == "1 5 2\n", output.stderr
        assert bool(list(tmp_path.rglob("*.nbi"))) == is_kept
        shutil.rmtree(home, ignore_errors=True)


def test_nothing_is_compiled_before_it_is_needed() -> None:
    script = "import sys, neuronscope.exemplars.accumulator; print('numba' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
