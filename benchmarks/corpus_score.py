"""Does the interval of the corpus score cover what the whole test split gives, and does the score notice what is wrong?

Neurons of three bands of activation frequency; four explanations of each, as predictions: a table of ten tokens, one of
forty, and two that are wrong on purpose. Then the two checks of NeuronEval (Oikarinen et al. 2025): the tokens on which
the neuron is active are predicted exactly, with as many others at random (twice too broad), or without half of them;
both must lose against the exact ones, by the corpus score and by the paper's.

    python benchmarks/corpus_score.py

Activations come from smollm2-135m on the built-in corpus, in memory: 8 GB with the default sizes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuronscope.exemplars.sampling import draw_strata
from neuronscope.metrics import Resampling, pearson
from neuronscope.metrics.correlation import corpus_correlation
from neuronscope.types import Neuron

BANDS = {0.1: (0.05, 0.2), 0.01: (0.005, 0.02), 0.001: (0.0005, 0.002)}
"""By the share of tokens on which a neuron exceeds a quarter of its maximum."""
LISTED = 100
"""Top test sequences that a store lists."""
BATCH = 32

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Tokens:
    """Text with the activations of whole layers on it."""

    ids: NDArray[np.int64]
    """Of every token, sequence after sequence."""
    lengths: NDArray[np.int64]
    """Tokens of every sequence."""
    is_test: NDArray[np.bool_]
    """Whether a sequence is of the test split; the others are what explanations are made from."""
    layers: dict[int, NDArray[np.float16]]
    """Shape `(tokens, width)`."""


class Options(NamedTuple):
    """Sizes of the samples."""

    top: int
    ranked: int
    random: int
    paper: int
    """Random sequences of the paper's score."""
    draws: int
    neurons: int
    """Of every layer and band."""
    repeats: int
    """Samples of every neuron."""


def collect(layers: Sequence[int], n_tokens: int) -> Tokens:
    """Run the model on the built-in corpus; of train text, every other sequence is enough."""
    import neuronscope as ns
    from neuronscope.corpus.sources import open_corpus
    from neuronscope.corpus.windows import windows

    subject, kept, seen = ns.load_subject("smollm2-135m"), [], 0
    for number, window in enumerate(windows(open_corpus("builtin"), subject.tokenizer, 64)):
        seen += len(window.token_ids)
        if window.split != "train" or number % 2 == 0:
            kept.append((list(window.token_ids), window.split == "test"))
        if seen >= n_tokens:
            break
    found: dict[int, list[NDArray[np.float16]]] = {layer: [] for layer in layers}
    for start in range(0, len(kept), BATCH):
        for layer, rows in subject.activations([ids for ids, _ in kept[start : start + BATCH]], layers).items():
            found[layer] += [np.asarray(row, dtype=np.float16) for row in rows]
    return Tokens(
        np.concatenate([np.asarray(ids) for ids, _ in kept]),
        np.array([len(ids) for ids, _ in kept]),
        np.array([is_test for _, is_test in kept]),
        {layer: np.concatenate(rows) for layer, rows in found.items()},
    )


class Outcome(NamedTuple):
    """What came of one sample of one neuron."""

    covered: dict[str, bool]
    """By the kind of explanation."""
    width: dict[str, float]
    lost: dict[tuple[str, str], bool]
    """By which score, and what is wrong: whether it got less than the exact one."""


def measure(tokens: Tokens, options: Options) -> Iterator[tuple[float, Outcome]]:
    """The outcome of every neuron, with its band."""
    of_test = np.repeat(tokens.is_test, tokens.lengths)
    test, others = (_Part(tokens, chosen, of_test == chosen) for chosen in (True, False))
    for layer, raw in tokens.layers.items():
        activations = np.maximum(raw.astype(np.float32), 0)
        maximum = activations.max(axis=0)
        frequency = (activations > maximum / 4).mean(axis=0)
        for band, (low, high) in BANDS.items():
            found = np.flatnonzero((frequency > low) & (frequency < high))
            for index in np.random.default_rng([layer, 7]).permutation(found)[: options.neurons].tolist():
                scaled = activations[:, index] / maximum[index] * 10
                case = _Case(Neuron(layer, index), scaled[of_test], scaled[~of_test], test, others)
                for seed in range(options.repeats):
                    yield band, _outcome(case, options, seed)


class _Part:
    """The tokens of some sequences."""

    def __init__(self, tokens: Tokens, chosen: bool, mask: NDArray[np.bool_]) -> None:
        lengths = tokens.lengths[tokens.is_test == chosen]
        self.ids, self.ends = tokens.ids[mask], np.cumsum(lengths)
        self.vocabulary = int(tokens.ids.max()) + 1

    def split(self, values: Floats) -> list[Floats]:
        """By sequence."""
        return np.split(values, self.ends[:-1])

    def peaks(self, values: Floats) -> Floats:
        """The largest of every sequence."""
        return np.maximum.reduceat(values, np.r_[0, self.ends[:-1]])


class _Case:
    """A neuron with what explanations predict of it."""

    def __init__(self, neuron: Neuron, actual: Floats, fit: Floats, test: _Part, others: _Part) -> None:
        generator, truth = np.random.default_rng([neuron.layer, neuron.index]), actual > 2.5
        tables = _tables(fit, others, (10, 40))
        broad, half = 10.0 * truth, 10.0 * truth
        broad[generator.permutation(np.flatnonzero(~truth))[: truth.sum()]] = 10
        half[generator.permutation(np.flatnonzero(truth))[: truth.sum() // 2]] = 0
        self.neuron, self.test, self.actual, self.right = neuron, test, actual, 10.0 * truth
        self.kinds = {"table 10": tables[10][test.ids], "table 40": tables[40][test.ids], "broad": broad, "half": half}
        self.exact = {name: pearson(predicted, actual).value or 0.0 for name, predicted in self.kinds.items()}


def _outcome(case: _Case, options: Options, seed: int) -> Outcome:
    test = case.test
    peaks, sequences = test.peaks(case.actual), test.split(case.actual)
    listed = [int(number) for number in np.argsort(-peaks, kind="stable")[:LISTED] if peaks[number] > 0]
    n = {"top": options.top, "ranked": options.ranked, "random": max(options.random, options.paper)}
    strata = draw_strata(range(len(peaks)), listed, len(peaks), case.neuron, "test", **n, seed=seed)
    in_strata = [number for part in strata for number in part.ids]
    in_paper = [*strata[0].ids, *strata[-1].ids[: options.paper]]

    def scores(predicted: Floats) -> tuple[Any, float]:
        rows = test.split(predicted)
        shown = [sequences[number] for number in in_strata]
        estimated = corpus_correlation([rows[number] for number in in_strata], shown, strata, Resampling(options.draws))
        left, right = (np.concatenate([each[number] for number in in_paper]) for each in (rows, sequences))
        return estimated, pearson(left, right).value or 0.0

    found = {name: scores(predicted) for name, predicted in case.kinds.items()}
    best_corpus, best_paper = scores(case.right)
    ends = {name: (estimated.low or 0.0, estimated.high or 0.0) for name, (estimated, _) in found.items()}
    return Outcome(
        {name: low - 1e-9 <= case.exact[name] <= high + 1e-9 for name, (low, high) in ends.items()},
        {name: high - low for name, (low, high) in ends.items()},
        {
            (score, wrong): value < best
            for wrong in ("broad", "half")
            for score, value, best in (
                ("corpus_score", found[wrong][0].value or 0.0, best_corpus.value or 0.0),
                ("score", found[wrong][1], best_paper),
            )
        },
    )


def _tables(fit: Floats, others: _Part, sizes: Sequence[int]) -> dict[int, Floats]:
    """Mean activations of the tokens that matter most, over the 100 sequences of other documents with the largest."""
    top = np.zeros(len(others.ends), dtype=bool)
    top[np.argsort(-others.peaks(fit))[:100]] = True
    inside = np.repeat(top, np.diff(np.r_[0, others.ends]))
    count = np.bincount(others.ids[inside], minlength=others.vocabulary)
    total = np.bincount(others.ids[inside], fit[inside], minlength=others.vocabulary)
    mean = total / np.maximum(count, 1)
    order = np.argsort(-(mean * total))
    return {size: np.where(np.isin(np.arange(len(mean)), order[:size]), mean, 0.0) for size in sizes}


def report(outcomes: Sequence[tuple[float, Outcome]]) -> str:
    """Two tables: coverage by band and kind, and how often what is wrong loses."""
    lines = ["share of neurons whose 95 % interval covers the exact value (mean width)"]
    for band in BANDS:
        own = [outcome for at, outcome in outcomes if at == band]
        if not own:
            continue
        cells = [
            f"{name} {np.mean([each.covered[name] for each in own]):.3f}"
            f" ({np.mean([each.width[name] for each in own]):.3f})"
            for name in own[0].covered
        ]
        everything = np.mean([covered for each in own for covered in each.covered.values()])
        lines.append(f"  frequency {band:<6} n={len(own):<4} all {everything:.3f}  " + "  ".join(cells))
    lines.append("share of neurons of which a wrong explanation scores less than the exact one")
    for band in BANDS:
        own = [outcome for at, outcome in outcomes if at == band]
        if own:
            cells = [f"{' '.join(what)} {np.mean([each.lost[what] for each in own]):.2f}" for what in own[0].lost]
            lines.append(f"  frequency {band:<6} n={len(own):<4} " + "  ".join(cells))
    return "\n".join(lines)


def main() -> None:
    """Read the options, collect, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, nargs="+", default=[5, 9, 19, 29])
    parser.add_argument("--n-tokens", type=int, default=250_000)
    parser.add_argument("--neurons", type=int, default=17, help="of every layer and band")
    parser.add_argument("--top", type=int, default=20)
    parser.add_argument("--ranked", type=int, default=40)
    parser.add_argument("--random", type=int, default=60)
    parser.add_argument("--paper", type=int, default=20, help="random sequences of the paper's score")
    parser.add_argument("--repeats", type=int, default=5, help="samples of every neuron")
    parser.add_argument("--draws", type=int, default=1000)
    chosen = parser.parse_args()
    options = Options(
        chosen.top, chosen.ranked, chosen.random, chosen.paper, chosen.draws, chosen.neurons, chosen.repeats
    )
    print(report(list(measure(collect(chosen.layers, chosen.n_tokens), options))), flush=True)


if __name__ == "__main__":
    main()
