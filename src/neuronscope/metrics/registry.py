"""What makes a function a metric."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from neuronscope.interfaces import Metric
from neuronscope.metrics.data import Material
from neuronscope.metrics.evaluator import Bench
from neuronscope.metrics.table import Measurement

Measure = Callable[[Material, Bench], Awaitable[list[Measurement]]]
AnyMetrics = Sequence[str | Metric] | Literal["all"]
"""Metrics by name, or some of one's own, or all that have a name."""

_LAST = 1000


@dataclass(frozen=True, slots=True)
class NamedMetric:
    """A function as a `Metric`: what `@metric` makes of it."""

    name: str
    measure: Measure
    rows: tuple[str, ...]
    tells: str
    chance: str
    needs: Mapping[str, str] = field(default_factory=dict)
    near_misses: bool = False
    place: int = _LAST
    """Where its rows stand in the table: small numbers first, equal ones in the order of names."""


def metric(
    name: str,
    *,
    rows: Sequence[str],
    tells: str,
    chance: str,
    needs: Mapping[str, str] | None = None,
    near_misses: bool = False,
    place: int = _LAST,
) -> Callable[[Measure], NamedMetric]:
    """Make a metric of a function from the material and the instruments to rows of the table.

    Args:
        name: what `metrics=` calls it.
        rows: the names of its rows, `Measurement.metric`.
        tells: the question that it answers, for `docs/metrics.md`.
        chance: what knowing nothing gets, for `docs/metrics.md`.
        needs: what it cannot do without, "llm" or "subject", and what that does for it ("writes texts …").
        near_misses: whether it looks at near misses, which are searched for only then.
        place: where its rows stand in the table.
    """

    def made(measure: Measure) -> NamedMetric:
        return NamedMetric(name, measure, tuple(rows), tells, chance, dict(needs or {}), near_misses, place)

    return made
