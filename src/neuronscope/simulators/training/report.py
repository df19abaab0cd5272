"""What a training leaves to read: how well neurons are simulated that it never saw, on text it never saw."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuronscope.interfaces import Simulator
from neuronscope.results import mean_of
from neuronscope.simulators.training.material import ExplainedNeuron


@dataclass(frozen=True, slots=True)
class HeldOutNeuron:
    """One neuron that the simulator has not seen."""

    name: str
    """As in `ExplainedNeuron`."""
    correlation: float | None
    """Pearson's r of predictions and activations, over all tokens of its unseen exemplars: 0 where the prediction is
    constant, None where the neuron does the same on all of them."""
    tokens: int
    """How many tokens these are."""


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What was trained, and how well it does."""

    path: str
    """The checkpoint's folder."""
    base: str
    """What it was trained from."""
    neurons: int
    """Neurons learnt."""
    exemplars: int
    """Their exemplars, each counted once."""
    steps: int
    """Steps taken."""
    tokens: int
    """Levels learnt, over all epochs."""
    seconds: float
    """Of training, interruptions not counted."""
    heldout: list[HeldOutNeuron]
    """Neurons that were not learnt, on documents that were not learnt."""

    @property
    def correlation(self) -> float | None:
        """The mean over the held-out neurons that were measured; None if there are none."""
        return mean_of(each.correlation for each in self.heldout)

    def to_json(self) -> str:
        """The whole report as JSON text."""
        return json.dumps(asdict(self) | {"correlation": self.correlation}, ensure_ascii=False, indent=1)

    @classmethod
    def load(cls, path: Path) -> TrainingReport:
        """Read what `to_json` wrote."""
        document = json.loads(path.read_bytes())
        document.pop("correlation")
        return cls(**document | {"heldout": [HeldOutNeuron(**each) for each in document["heldout"]]})


def simulate_unseen(simulator: Simulator, neurons: Sequence[ExplainedNeuron]) -> list[HeldOutNeuron]:
    """Correlate predictions with the truth, neuron by neuron, each on its unseen exemplars."""
    found = []
    for neuron in neurons:
        if neuron.unseen:
            predicted = simulator.simulate([neuron.explanation], neuron.unseen)
            actual = [exemplar.activations for exemplar in neuron.unseen]
            found.append(_compare(neuron.name, np.concatenate(predicted, axis=1)[0], np.concatenate(actual)))
    return found


def _compare(name: str, predicted: NDArray[np.float32], actual: NDArray[np.float32]) -> HeldOutNeuron:
    if np.ptp(actual) == 0:
        return HeldOutNeuron(name, None, len(actual))
    if np.ptp(predicted) == 0:
        return HeldOutNeuron(name, 0.0, len(actual))
    correlation = np.corrcoef(predicted.astype(np.float64), actual.astype(np.float64))[0, 1]
    return HeldOutNeuron(name, float(correlation), len(actual))
