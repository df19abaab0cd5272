"""What explanations have to beat: a look-up table from tokens to activations, which explains nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from neuronscope.metrics.correlation import pearson
from neuronscope.types import Exemplar


class TokenLookup:
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
        kept = sorted(means, key=lambda token: -means[token] * total[token])[:limit]
        self._means = {token: means[token] for token in kept}

    def score(self, exemplars: Sequence[Exemplar]) -> float | None:
        """Pearson correlation with the activations over all tokens of the exemplars, pooled; None if they are constant.

        Without an exemplar there is nothing to correlate with, either.
        """
        if not exemplars:
            return None
        predicted = [self._means.get(token, 0.0) for exemplar in exemplars for token in exemplar.token_ids]
        actual = np.concatenate([exemplar.activations for exemplar in exemplars])
        return pearson(np.asarray(predicted), actual).value
