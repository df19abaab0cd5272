"""The loops of `processor`, compiled by numba when they are first called, and kept for later processes.

Activations come as their bits: signed integers of 16 bits (bfloat16) or 32 (float32). Positive floats sort like their
bits, and a negative one with its sign bit flipped is its magnitude. So both signs are comparisons of integers: exact,
and done by the dozen at a time. A neuron's tokens are added up in their own order, whatever the width of a processor's
vectors.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

P = ParamSpec("P")
R = TypeVar("R")

_MAGNITUDE = 0x7FFFFFFF
_FIRST_BYTE = 0 if sys.byteorder == "little" else 7


def _compiled(function: Callable[P, R]) -> Callable[P, R]:
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # nowhere to keep it: a read-only installation, and no folder of the user's own
        return njit(nogil=True)(function)


@_compiled
def _as_float(bits: Any, widen: int) -> Any:
    return np.int32(np.int32(bits) << np.int32(widen)).view(np.float32)


@_compiled
def summarize(
    bits: NDArray[Any],
    sign_bit: Any,
    widen: int,
    by_row: int,
    by_token: int,
    lengths: NDArray[np.int64],
    maxima: NDArray[Any],
    sums: NDArray[np.float32],
) -> None:
    """Maxima of both signs and sums.

    Args:
        bits: the memory with the activations, flat.
        sign_bit: the integer of this type that has only the sign bit.
        widen: by how many bits to shift for a float32: 16 or 0.
        by_row: from one sequence to the next.
        by_token: from one token to the next.
        lengths: tokens of each sequence.
        maxima: shape `(2, batch, width)`, 0 to begin with: largest magnitudes of positive and negative activations.
        sums: shape `(2, width)`, added to: sums of values and of magnitudes.
    """
    values, magnitudes = sums[0], sums[1]
    n = len(values)
    for i in range(len(lengths)):
        above, below = maxima[0, i], maxima[1, i]
        at = i * by_row
        rest = lengths[i]
        while rest >= 4:  # what is added to is read and written a quarter as often
            row0 = bits[at : at + n]
            row1 = bits[at + by_token : at + by_token + n]
            row2 = bits[at + 2 * by_token : at + 2 * by_token + n]
            row3 = bits[at + 3 * by_token : at + 3 * by_token + n]
            for j in range(n):
                a, b, c, d = row0[j], row1[j], row2[j], row3[j]
                above[j] = max(above[j], max(max(a, b), max(c, d)))
                below[j] = max(below[j], max(max(a ^ sign_bit, b ^ sign_bit), max(c ^ sign_bit, d ^ sign_bit)))
                p, q, r, s = _as_float(a, widen), _as_float(b, widen), _as_float(c, widen), _as_float(d, widen)
                values[j] += (p + q) + (r + s)
                magnitudes[j] += (abs(p) + abs(q)) + (abs(r) + abs(s))
            at += 4 * by_token
            rest -= 4
        while rest > 0:
            row0 = bits[at : at + n]
            for j in range(n):
                a = row0[j]
                above[j] = max(above[j], a)
                below[j] = max(below[j], a ^ sign_bit)
                p = _as_float(a, widen)
                values[j] += p
                magnitudes[j] += abs(p)
            at += by_token
            rest -= 1


@_compiled
def count(
    bits: NDArray[Any],
    sign_bit: Any,
    widen: int,
    by_row: int,
    by_token: int,
    lengths: NDArray[np.int64],
    bin_shift: int,
    edges: NDArray[Any],
    offsets: NDArray[np.int64],
    counters: NDArray[np.int32],
) -> None:
    """Count tokens by bin.

    One in fifty is counted. A token's neurons are compared at once; where none of eight is counted, they are skipped
    eight at a time; nothing else depends on a condition that a processor could not foresee.

    Args:
        bits: as for `summarize`, like the arguments up to `lengths`.
        sign_bit: see there.
        widen: see there.
        by_row: see there.
        by_token: see there.
        lengths: see there.
        bin_shift: the bits of a float32 that say nothing of its bin.
        edges: shape `(2, width)`, of the type of `bits`: from which magnitude tokens of each sign count.
        offsets: shape `(2 * width,)`, a neuron's two signs side by side: where in `counters` bin 0 would
            be.
        counters: flat, added to.
    """
    above, below = edges[0], edges[1]
    n = len(above)
    hits = np.zeros((n + 7) // 8 * 8, np.uint8)
    words = hits.view(np.uint64)
    found = np.empty(len(words), np.int64)
    for i in range(len(lengths)):
        at = i * by_row
        for _ in range(lengths[i]):
            row = bits[at : at + n]
            at += by_token
            for j in range(n):
                hits[j] = np.uint8(row[j] >= above[j]) | np.uint8(row[j] ^ sign_bit >= below[j])
            n_found = 0
            for k in range(len(words)):
                found[n_found] = k
                n_found += int(words[k] != 0)
            for k in found[:n_found]:
                word = words[k]
                while word:
                    # The lowest byte that is 1, alone, times this, has its number in the upper byte.
                    byte = (word & (~word + np.uint64(1))) * np.uint64(0x0001020304050607) >> np.uint64(56)
                    word &= word - np.uint64(1)
                    j = 8 * k + (np.int64(byte) ^ _FIRST_BYTE)
                    number = (np.int32(np.int32(row[j]) << np.int32(widen)) & _MAGNITUDE) >> np.int32(bin_shift)
                    counters[offsets[2 * j + int(row[j] < 0)] + number] += 1


@_compiled
def insert(
    heaps: NDArray[np.int64],
    maxima: NDArray[Any],
    widen: int,
    low: NDArray[np.int64],
) -> None:
    """Put sequences into neurons' lists; the smallest key of each makes room for a larger one.

    Args:
        heaps: shape `(width, k)`: the lists.
        maxima: shape `(sequences, width)`, bits: each sequence's largest activation; negative ones count as 0.
        widen: see `summarize`.
        low: shape `(sequences,)`: the lower halves of their keys.
    """
    larger = np.empty(len(low), np.int64)
    for j, heap in enumerate(heaps):
        for root in range(len(heap) // 2 - 1, -1, -1):
            _sift(heap, root)
        smallest = heap[0]
        n_larger = 0
        for i in range(len(low)):
            key = max(np.int64(maxima[i, j]), np.int64(0)) << widen + 32 | low[i]
            larger[n_larger] = key
            n_larger += int(key > smallest)
        for key in larger[:n_larger]:
            if key > heap[0]:
                heap[0] = key
                _sift(heap, 0)


@_compiled
def _sift(heap: NDArray[np.int64], root: int) -> None:
    """Let a key sink until both below it are larger."""
    key = heap[root]
    child = 2 * root + 1
    while child + 1 < len(heap):
        child += int(heap[child + 1] < heap[child])
        if heap[child] >= key:
            break
        heap[root] = heap[child]
        root, child = child, 2 * child + 1
    if child + 1 == len(heap) and heap[child] < key:
        heap[root] = heap[child]
        root = child
    heap[root] = key
