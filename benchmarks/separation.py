"""Does `separation` know when meanings are merged, left out or split?

    python benchmarks/separation.py --simulators reader hybrid
    python benchmarks/separation.py --fit

200 neurons with one to five planted meanings (`planted_neurons.py`), their descriptions read by a real simulator.
Printed is how often the true descriptions beat each variant of them, by `separation`, and by `score` and `joint_score`,
which were there before. `--fit` prints the constants of `likeness`, fitted on the other half of concepts and documents.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuronscope.llm.embeddings import embed
from neuronscope.llm.minilm import MiniLM
from neuronscope.metrics import Resampling, pearson
from neuronscope.metrics.joint import fit_strengths, joint_prediction
from neuronscope.metrics.separation import Contexts, contexts_of, likeness, likeness_features, separation
from neuronscope.simulators import HybridSimulator
from neuronscope.simulators.registry import resolve_simulator
from neuronscope.types import SCALE, Exemplar
from planted_neurons import Corpus, Half, PlantedNeuron, draw_neurons

SEEDS: dict[Half, int] = {"choose": 0, "report": 1}
CAPACITY = 200_000
REPORTED, FITTED = 200, 71
VARIANTS = ("merged", "left out", "split")
Floats = NDArray[np.floating[Any]]


class Described(NamedTuple):
    """One variant of a neuron's descriptions, as a simulator reads it."""

    predicted: list[Floats]
    """Per exemplar, shape `(descriptions, tokens)`."""
    strengths: list[float]


def described(neuron: PlantedNeuron, simulator: Any) -> dict[str, Described]:
    """What a simulator predicts from each variant."""
    sentences = list(dict.fromkeys(text for texts in neuron.descriptions.values() for text in texts))
    every = [*neuron.exemplars, *neuron.fit]
    blank = [
        Exemplar(each.tokens, each.token_ids, np.zeros_like(each.activations), each.sequence_id, "") for each in every
    ]
    rows = simulator.simulate(sentences, blank)
    fitted = np.concatenate([each.activations for each in neuron.fit])
    found = {}
    for variant, texts in neuron.descriptions.items():
        own = [row[[sentences.index(text) for text in texts]] for row in rows]
        test, rest = own[: len(neuron.exemplars)], own[len(neuron.exemplars) :]
        found[variant] = Described(test, fit_strengths(np.concatenate(rest, axis=1), fitted))
    return found


class Figures(NamedTuple):
    """Of one variant."""

    separation: float
    low: float
    high: float
    score: float
    joint_score: float


def figures(neuron: PlantedNeuron, variants: dict[str, Described], embeddings: MiniLM) -> dict[str, Figures]:
    """Separation and both scores of each variant."""
    contexts = contexts_of(neuron.exemplars, SCALE, seed=0)
    alike = likeness(contexts, embed(embeddings, contexts.words, "benchmark"))
    strata = np.repeat(np.arange(len(neuron.strata)), [len(part.ids) for part in neuron.strata])
    paper = [*neuron.strata[0].ids, *neuron.strata[-1].ids[:20]]
    truth = np.concatenate([neuron.exemplars[index].activations for index in paper])
    found = {}
    for name, variant in variants.items():
        estimated = separation(variant.predicted, neuron.exemplars, contexts, alike, strata, Resampling(200))
        rows = [variant.predicted[index] for index in paper]
        joint = np.concatenate([joint_prediction(row, variant.strengths) for row in rows])
        alone = np.concatenate(rows, axis=1)
        found[name] = Figures(
            estimated.value or 0.0,
            estimated.low or 0.0,
            estimated.high or 0.0,
            float(np.mean([pearson(row, truth).value or 0.0 for row in alone])),
            pearson(joint, truth).value or 0.0,
        )
    return found


def planted(half: Half, n: int, simulator: str) -> Iterator[tuple[PlantedNeuron, dict[str, Described]]]:
    """Neurons and what a simulator makes of their descriptions."""
    reads = HybridSimulator(capacity=CAPACITY) if simulator == "hybrid" else resolve_simulator(simulator)
    for neuron in draw_neurons(Corpus(half), n, SEEDS[half]):
        yield neuron, described(neuron, reads)


def report(found: Sequence[dict[str, Figures]]) -> str:
    """How often the true descriptions beat each variant, and the means."""
    lines = []
    for measure in ("separation", "score", "joint_score"):
        cells = [f"true {np.mean([getattr(each['true'], measure) for each in found]):.3f}"]
        for variant in VARIANTS:
            pairs = [(getattr(e["true"], measure), getattr(e[variant], measure)) for e in found if variant in e]
            wins = np.mean([true > other + 1e-9 for true, other in pairs])
            cells.append(f"{variant} {np.mean([other for _, other in pairs]):.3f}, beaten {wins:.3f} of {len(pairs)}")
        lines.append(f"{measure:12s} " + "; ".join(cells))
    widths = [each["true"].high - each["true"].low for each in found]
    return "\n".join([*lines, f"mean width of the interval of separation, true descriptions: {np.mean(widths):.3f}"])


def fit(neurons: Sequence[PlantedNeuron], embeddings: MiniLM) -> str:
    """The logistic regression of whether two tokens have one meaning; every neuron counts the same."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    rows, same, weights = [], [], []
    for neuron in neurons:
        contexts = contexts_of(neuron.exemplars, SCALE, seed=0)
        features = likeness_features(contexts, embed(embeddings, contexts.words, "benchmark"))
        left, right, whose = _pairs(neuron, contexts)
        one = whose[left] == whose[right]
        rows.append(features[:, left, right].T)
        same.append(one)
        counts = defaultdict(int, zip(*np.unique(one, return_counts=True), strict=True))
        weights.append(np.array([1 / counts[each] for each in one]))
    x, y, w = np.concatenate(rows), np.concatenate(same), np.concatenate(weights)
    for each in (True, False):
        w[y == each] /= w[y == each].sum()
    model = LogisticRegression(C=100).fit(x, y, sample_weight=w * 1e4)
    auc = roc_auc_score(y, model.decision_function(x), sample_weight=w)
    return f"NEARNESS, SHARED, INTERCEPT = {model.coef_[0].round(2)}, {model.intercept_.round(2)}; AUC {auc:.3f}"


def _pairs(neuron: PlantedNeuron, contexts: Contexts) -> tuple[Any, Any, NDArray[np.int64]]:
    """Pairs of active tokens of different sequences whose meaning is known, and each token's meaning."""
    points = contexts.points[: contexts.n_active]
    whose = np.array([neuron.truth[index][position] for index, position in points])
    of = np.array([index for index, _ in points])
    left, right = np.triu_indices(len(points), 1)
    known = (of[left] != of[right]) & (whose[left] >= 0) & (whose[right] >= 0)
    return left[known], right[known], whose


def main() -> None:
    """Read the options, plant, predict, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulators", nargs="+", default=["reader", "hybrid"])
    parser.add_argument("--neurons", type=int, help="200, and 71 with --fit")
    parser.add_argument("--half", choices=["choose", "report"], default="report")
    parser.add_argument("--fit", action="store_true", help="print the constants of likeness instead")
    chosen = parser.parse_args()
    embeddings = MiniLM(capacity=CAPACITY)
    if chosen.fit:
        print(fit(list(draw_neurons(Corpus("choose"), chosen.neurons or FITTED, SEEDS["choose"])), embeddings))
        return
    for simulator in chosen.simulators:
        found = [figures(*each, embeddings) for each in planted(chosen.half, chosen.neurons or REPORTED, simulator)]
        print(f"{simulator}, {len(found)} neurons\n{report(found)}", flush=True)


if __name__ == "__main__":
    main()
