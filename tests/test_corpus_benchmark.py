"""benchmarks/corpus_score.py: that it measures what it prints, on text whose neurons are made up."""

from __future__ import annotations

import numpy as np

import corpus_score
from corpus_score import Options, Tokens

FREQUENT, LENGTH = 0.01, 32


def tokens(n: int) -> Tokens:
    """A neuron that is active on one token of a hundred, of a few words, most of them in texts on one topic."""
    generator = np.random.default_rng(0)
    topical = np.repeat(generator.random(n) < 0.1, LENGTH)
    ids = generator.integers(20, 400, size=n * LENGTH)
    active = generator.random(len(ids)) < np.where(topical, 8.0, 0.22) * FREQUENT
    ids[active] = generator.integers(0, 12, size=active.sum())
    values = np.where(active, generator.uniform(4, 10, size=len(ids)), generator.uniform(0, 1, size=len(ids)))
    lengths = np.full(n, LENGTH)
    return Tokens(ids, lengths, np.arange(n) % 2 == 0, {0: values[:, None].astype(np.float16)})


def test_it_tells_coverage_and_what_wrong_explanations_lose() -> None:
    outcomes = list(corpus_score.measure(tokens(800), Options(20, 40, 60, 20, 100, 17, repeats=4)))
    assert [band for band, _ in outcomes] == [FREQUENT] * 4
    assert set(outcomes[0][1].covered) == {"table 10", "table 40", "broad", "half"}
    assert all(outcome.lost["corpus_score", wrong] for _, outcome in outcomes for wrong in ("broad", "half"))
    assert np.mean([list(outcome.covered.values()) for _, outcome in outcomes]) >= 0.75
    printed = corpus_score.report(outcomes)
    assert "frequency 0.01" in printed
    assert "corpus_score broad 1.00" in printed


def test_where_everything_is_drawn_every_interval_covers_and_has_no_width() -> None:
    outcomes = list(corpus_score.measure(tokens(200), Options(20, 40, 60, 20, 20, 17, repeats=1)))
    for _, outcome in outcomes:
        assert all(outcome.covered.values())
        assert not any(outcome.width.values())
    assert outcomes
