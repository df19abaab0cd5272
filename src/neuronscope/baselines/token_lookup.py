"""What explanations have to beat: a look-up table from tokens to activations, which explains nothing."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neuronscope.baselines.registry import Explanations, baseline, explanation_of
from neuronscope.interfaces import Explained
from neuronscope.metrics.correlation import pearson
from neuronscope.offline.english import quotes
from neuronscope.types import Exemplar

if TYPE_CHECKING:
    from neuronscope.state import Instruments
    from neuronscope.types import ExemplarIds, Neuron


@baseline("token_lookup")
class TokenLookup:
    """Each token's mean activation over the neuron's top train exemplars: predictions, and no sentence.

    Args:
        entries: keep only this many tokens, so that the table is of the size of an explanation; None keeps all.
        n_exemplars: how many exemplars the means are taken over.
    """

    def __init__(self, entries: int | None = None, n_exemplars: int = 100) -> None:
        self.entries = entries
        self.n_exemplars = n_exemplars

    @property
    def name(self) -> str:
        """With the number of entries."""
        return "token_lookup" if self.entries is None else f"token_lookup:{self.entries}"

    async def explain(self, neuron: Neuron, exemplars: ExemplarIds, instruments: Instruments) -> Explained:
        """Make the table."""
        train = await asyncio.to_thread(instruments.store.exemplars, neuron, "train", self.n_exemplars)
        return Explained(predict=LookupTable(train, self.entries).predict)


@baseline("token_lookup_own_size", of_explanations=True)
class OwnSizeLookup:
    """A look-up table with as many entries as the neuron's explanations quote words, one at least.

    Args:
        explanations: what was found of each neuron.
        n_exemplars: how many exemplars the means are taken over.
    """

    name = "token_lookup_own_size"

    def __init__(self, explanations: Explanations, n_exemplars: int = 100) -> None:
        self._explanations = explanations
        self.n_exemplars = n_exemplars

    async def explain(self, neuron: Neuron, exemplars: ExemplarIds, instruments: Instruments) -> Explained:
        """Make the table.

        Raises:
            ConfigurationError: the neuron's explanation is not known, or has no modes.
        """
        found = explanation_of(neuron, self._explanations, self.name)
        quoted = {text.strip().lower() for mode in found.modes for text in quotes(mode.explanation)}
        table = TokenLookup(max(1, len(quoted)), self.n_exemplars)
        return await table.explain(neuron, exemplars, instruments)


class LookupTable:
    """Each token's mean activation over some exemplars; 0 for tokens that are not among them.

    Args:
        exemplars: what the means are taken over.
        limit: keep only this many tokens, those with the largest mean times total activation; None keeps all.
    """

    def __init__(self, exemplars: Sequence[Exemplar], limit: int | None = None) -> None:
        total: dict[int, float] = defaultdict(float)
        count: dict[int, int] = defaultdict(int)
        for exemplar in exemplars:
            for token, activation in zip(exemplar.token_ids, exemplar.activations, strict=True):
                total[token] += float(activation)
                count[token] += 1
        means = {token: total[token] / count[token] for token in total}
        largest = sorted(means, key=lambda token: -means[token] * total[token])[:limit]
        self._means = {token: means[token] for token in largest}

    def predict(self, exemplars: Sequence[Exemplar]) -> list[NDArray[np.float32]]:
        """The activation of each token, shape `(tokens,)` per exemplar, in the neuron's own scale."""
        return [
            np.array([self._means.get(token, 0.0) for token in exemplar.token_ids], dtype=np.float32)
            for exemplar in exemplars
        ]

    def score(self, exemplars: Sequence[Exemplar]) -> float | None:
        """Pearson correlation with the activations over all tokens of the exemplars, pooled; None if they are constant.

        Without an exemplar there is nothing to correlate with, either.
        """
        if not exemplars:
            return None
        actual = np.concatenate([exemplar.activations for exemplar in exemplars])
        return pearson(np.concatenate(self.predict(exemplars)), actual).value
