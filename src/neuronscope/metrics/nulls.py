"""What a score is worth nothing without: what explanations of other neurons get on the same test set.

They are sentences that a language model wrote of neurons of SmolLM2, 24 of them, which the package carries
(`other_neurons.json`); so the null of a neuron does not depend on which others are explained beside it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import numpy as np

from neuronscope.exemplars.sampling import draw
from neuronscope.types import Neuron

_OTHERS = "other_neurons.json"
_GRID = np.linspace(-8.0, 8.0, 4001)


@cache
def _others() -> list[tuple[str, str]]:
    """A neuron of SmolLM2, and what its strongest mode was said to be."""
    text = files("neuronscope.metrics").joinpath(_OTHERS).read_text(encoding="utf-8")
    return [(each["neuron"], each["explanation"]) for each in json.loads(text)]


def other_explanations(neuron: Neuron, n: int, seed: int) -> list[str]:
    """Explanations of up to n other neurons, drawn by the neuron's name and the seed."""
    sentences = [sentence for name, sentence in _others() if name != str(neuron)]
    return [sentences[index] for index in draw(range(len(sentences)), n, f"{seed}/null/{neuron}")]


def best_of(scores: Sequence[float], k: int) -> float | None:
    """The largest score that is to be expected of k explanations of other neurons.

    Scores are taken to be normally distributed, with the mean and the standard deviation of those given: mean +
    deviation × E[max of k standard normals].

    Args:
        scores: of some of them.
        k: among how many one chooses.

    Returns:
        None where two at least are not given, or k is not positive: then nothing can be said of it.
    """
    if len(scores) < 2 or k < 1:
        return None
    from scipy.special import ndtr

    smaller = ndtr(_GRID) ** k  # the probability that all k are
    expected = _GRID[-1] - (_GRID[1] - _GRID[0]) * float(smaller.sum() - smaller[-1] / 2)
    return float(min(np.mean(scores) + np.std(scores, ddof=1) * expected, 1.0))
