"""What makes a function a metric."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from neuronscope.interfaces import Metric
from neuronscope.metrics.context import MetricContext
from neuronscope.metrics.data import EvaluationData
from neuronscope.metrics.table import Measurement

Measure = Callable[[EvaluationData, MetricContext], Awaitable[list[Measurement]]]
AnyMetrics = Sequence[str | Metric] | Literal["all"]
"""Metrics by name, or some of one's own, or all that have a name."""

_LAST = 1000


@dataclass(frozen=True, slots=True)
class NamedMetric:
    """A function as a `Metric`: what `@metric` makes of it."""

    name: str
    measure: Measure
    results: tuple[str, ...]
    question: str
    baseline: str
    needs: Mapping[str, str] = field(default_factory=dict)
    hard_negatives: bool = False
    order: int = _LAST
    """Where its results stand in the table: small numbers first, equal ones in the order of names."""


def metric(
    name: str,
    *,
    results: Sequence[str],
    question: str,
    baseline: str,
    needs: Mapping[str, str] | None = None,
    hard_negatives: bool = False,
    order: int = _LAST,
) -> Callable[[Measure], NamedMetric]:
    """Make a metric of a function from evaluation data and a metric's context to rows of the table.

    Args:
        name: what `metrics=` calls it.
        results: the names of its results, `Measurement.metric`.
        question: what it answers, for `docs/metrics.md`.
        baseline: the value without any knowledge, for `docs/metrics.md`.
        needs: what it cannot do without, "llm" or "subject", and what that does for it ("writes texts …").
        hard_negatives: whether it uses hard negatives, which are chosen only then.
        order: where its results stand in the table: small numbers first.
    """

    def decorate(measure: Measure) -> NamedMetric:
        return NamedMetric(name, measure, tuple(results), question, baseline, dict(needs or {}), hard_negatives, order)

    return decorate
