"""Sequences of different lengths into batches that waste little on padding."""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def pack(lengths: Sequence[int], groups: Sequence[Hashable], budget: int) -> list[list[int]]:
    """Divide sequences into batches: alike in length, longest first, and together within the budget.

    Args:
        lengths: how long each sequence is.
        groups: what each sequence has in common with some of the others; it breaks ties, so that a batch has few
            groups, and the sequences of one group stand side by side.
        budget: how many tokens a batch may have, padding included. A sequence that is longer is a batch of its own.

    Returns:
        The sequences' numbers, batch by batch.
    """
    rank = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    order = sorted(range(len(lengths)), key=lambda number: (-lengths[number], rank[groups[number]]))
    batches: list[list[int]] = []
    for number in order:
        if not batches or (len(batches[-1]) + 1) * lengths[batches[-1][0]] > budget:
            batches.append([])
        batches[-1].append(number)
    return [sorted(batch, key=lambda number: rank[groups[number]]) for batch in batches]
