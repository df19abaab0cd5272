"""What a simulator costs: processor time for a text that is new, and for an explanation that is new."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from neuronscope.interfaces import CountedSimulator

if TYPE_CHECKING:
    from neuronscope.interfaces import Simulator
    from neuronscope.types import Exemplar


SENTENCES = (
    "Words about farming, such as harvest.",
    "Verbs in the past tense after a person's name",
    "The word that follows a preposition.",
    "Terms from the law and from courts of justice.",
    'The second word of phrases like "point of view"',
    "Names of rivers and lakes, more weakly of other places",
    "Adverbs that weaken a claim",
)
"""Explanations whose cost is measured; the first three make it comparable."""
TEXTS = 20
"""On so many texts."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds and tokens; of a model behind an API its own processors are not counted, its tokens are."""

    texts: int
    """Texts that an explanation was measured on."""
    per_text: float
    """Processor seconds more for a text that was never seen than for a known one."""
    per_explanation: float
    """Processor seconds for a new explanation on all texts, each seen before."""
    wall: float
    """The same by the clock on the wall."""
    tokens: int | None = None
    """Tokens that a chat model read and wrote for a new explanation on all texts; None without one."""


def measure_cost(simulator: Simulator, exemplars: Sequence[Exemplar]) -> Cost:
    """Measure three calls behind one that loads what there is to load, on texts that the simulator has not seen."""
    from neuronscope.llm.usage import UsageTracker

    first, *texts = exemplars
    simulator.simulate(SENTENCES[:1], [first])
    unseen, _ = _seconds(simulator, SENTENCES[1:2], texts)
    seen, _ = _seconds(simulator, SENTENCES[2:3], texts)
    new = SENTENCES[3:]
    usage = UsageTracker()
    counted = simulator.counted_by(usage) if isinstance(simulator, CountedSimulator) else None
    spent, wall = _seconds(counted or simulator, new, texts)
    counts = usage.counts()
    tokens = sum(counts["input_tokens"].values()) + sum(counts["output_tokens"].values())
    return Cost(
        texts=len(texts),
        per_text=max(0.0, unseen - seen) / len(texts),
        per_explanation=spent / len(new),
        wall=wall / len(new),
        tokens=None if counted is None else round(tokens / len(new)),
    )


def _seconds(simulator: Simulator, explanations: Sequence[str], exemplars: Sequence[Exemplar]) -> tuple[float, float]:
    """Processor time of one call, and time by the clock."""
    began, began_wall = time.process_time(), time.perf_counter()
    simulator.simulate(explanations, exemplars)
    return time.process_time() - began, time.perf_counter() - began_wall
