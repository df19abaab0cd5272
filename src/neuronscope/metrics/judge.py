"""Who answers questions and writes texts for the metrics: what a judge must be able to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from neuronscope.metrics.stimuli import Marked


class Judge(Protocol):
    """Reads explanations and texts, and never sees an activation. An answer that cannot be had is None."""

    @property
    def name(self) -> str:
        """How the table calls it."""

    async def detect(self, explanation: str, texts: Sequence[str]) -> list[bool | None]:
        """Whether the neuron is active somewhere in each text, if the explanation is true."""

    async def check(self, explanation: str, texts: Sequence[Marked]) -> list[bool | None]:
        """Whether each text's marked tokens are those that the explanation describes."""

    async def pick_intruders(self, rounds: Sequence[Sequence[Marked]]) -> list[int | None]:
        """The index of the one text in each round on which the neuron is inactive."""

    async def write(self, explanation: str, n: int) -> list[str]:
        """Up to n texts in which the neuron is active, if the explanation is true."""


def shuffled(n: int, seed: int) -> list[int]:
    """The indices from 0 to n - 1 in random order."""
    order: list[int] = np.random.default_rng(seed).permutation(n).tolist()
    return order
