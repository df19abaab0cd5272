"""What simulators that are causal language models share: from explanations × exemplars to activations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuronscope.simulators.causal_lm import CausalModel, Continuation, Prefix
from neuronscope.simulators.merging import MergingQueue
from neuronscope.types import Exemplar

Array = NDArray[np.float32]
Request = tuple[Sequence[str], Sequence[Exemplar]]
"""Explanations, and the exemplars on which each of them is to be predicted."""
_Key = tuple[tuple[str, ...], tuple[int, ...]]
"""What tells exemplars apart for a simulator: tokens and ids."""

PREFIX_TOKENS = 8192
"""Tokens of explanations whose keys and values are in memory at once."""


class Text(NamedTuple):
    """An exemplar as a simulator reads it."""

    token_ids: Sequence[int]
    """The simulator's."""
    positions: Sequence[int]
    """Where in them activations are read."""
    project: Callable[[Array], Array]
    """From values at these positions, `(..., positions)`, to one value for each of the exemplar's tokens."""


class CausalSimulator(ABC):
    """Predicts activations from a causal language model's opinion about a few output tokens, the levels.

    The prediction is the mean level, weighted by the levels' probabilities. Threads may share a simulator: what several
    of them ask at the same time is computed in common batches.

    Args:
        model: the language model.
        rows: the output tokens that stand for levels.
        levels: the activation, 0-10, that each of them means.
        root: what stands before every explanation, read once.
    """

    def __init__(
        self, model: CausalModel, rows: Sequence[int], levels: Sequence[float], root: Prefix | None = None
    ) -> None:
        self.model = model
        self._rows = list(rows)
        self._levels = np.asarray(levels, dtype=np.float64)
        self._root = root
        self._queue: MergingQueue[Request, list[Array]] = MergingQueue(self._serve)

    @abstractmethod
    def explanation_ids(self, explanation: str) -> list[int]:
        """What stands before every exemplar, as token ids; never empty."""

    @abstractmethod
    def text(self, exemplar: Exemplar) -> Text:
        """The exemplar in this simulator's form."""

    def simulate(self, explanations: Sequence[str], exemplars: Sequence[Exemplar]) -> list[Array]:
        """Predict every explanation on every exemplar: one `(n_explanations, seq_len)` array each, 0-10.

        Raises:
            SimulatorError: an explanation or an exemplar is longer than the model can read.
        """
        return self.simulate_many([(explanations, exemplars)])[0]

    def simulate_many(self, requests: Sequence[Request]) -> list[list[Array]]:
        """`simulate` for several requests, in common batches.

        Raises:
            SimulatorError: an explanation or an exemplar is longer than the model can read.
        """
        return self._queue.submit(requests)

    def _serve(self, requests: Sequence[Request]) -> list[list[Array]]:
        texts = {_key(exemplar): self.text(exemplar) for _, exemplars in requests for exemplar in exemplars}
        pairs: dict[str, dict[_Key, None]] = {}
        for explanations, exemplars in requests:
            for explanation in explanations:
                pairs.setdefault(explanation, {}).update((_key(exemplar), None) for exemplar in exemplars)
        found: dict[tuple[str, _Key], Array] = {}
        for block in self._blocks(list(pairs)):
            prefixes = self.model.extend([self._root] * len(block), list(block.values()))
            wanted = [
                (explanation, key, Continuation(prefix, texts[key].token_ids, texts[key].positions))
                for explanation, prefix in zip(block, prefixes, strict=True)
                for key in pairs[explanation]
                if texts[key].token_ids
            ]
            logits = self.model.logits([continuation for _, _, continuation in wanted], self._rows)
            for (explanation, key, _), each in zip(wanted, logits, strict=True):
                found[explanation, key] = self._expected(each)
        return [
            [_stack(explanations, exemplar, texts[_key(exemplar)], found) for exemplar in exemplars]
            for explanations, exemplars in requests
        ]

    def _blocks(self, explanations: Sequence[str]) -> Iterator[dict[str, list[int]]]:
        """The explanations' token ids, so many at a time that their keys and values fit."""
        block: dict[str, list[int]] = {}
        n_tokens = 0
        for explanation in explanations:
            ids = self.explanation_ids(explanation)
            if block and n_tokens + len(ids) > PREFIX_TOKENS:
                yield block
                block, n_tokens = {}, 0
            block[explanation] = ids
            n_tokens += len(ids)
        if block:
            yield block

    def _expected(self, logits: Array) -> Array:
        """The mean level, weighted by the softmax over the levels: from `(positions, levels)` to `(positions,)`."""
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True), dtype=np.float64)
        expected: Array = (weights @ self._levels / weights.sum(axis=-1)).astype(np.float32)
        return expected


def _key(exemplar: Exemplar) -> _Key:
    return tuple(exemplar.tokens), tuple(exemplar.token_ids)


def _stack(explanations: Sequence[str], exemplar: Exemplar, text: Text, found: dict[tuple[str, _Key], Array]) -> Array:
    """The predictions of all explanations on one exemplar; zeros for a text that the simulator has no token for."""
    if not explanations or not text.token_ids:
        return np.zeros((len(explanations), len(exemplar.tokens)), dtype=np.float32)
    return text.project(np.stack([found[explanation, _key(exemplar)] for explanation in explanations]))
