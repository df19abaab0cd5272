"""What a run says while it is under way: one small event when a node of the graph starts, and one when it is done."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from neuronscope.units import Neuron

Phase = Literal["started", "finished"]


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """One step of one neuron's explanation, as `astream(..., stream_mode="custom", subgraphs=True)` yields it.

    Modes are refined at the same time, so their events interleave: `mode` says whose an event is.
    """

    neuron: Neuron
    """The neuron being explained."""
    node: str
    """The graph's node: observe, hypothesis, decomposition, clustering, refine (one mode's whole loop; within it
    propose, tools, assess), conclude."""
    phase: Phase
    """Whether the node has just started or has finished. One that raises an error never finishes."""
    mode: str | None = None
    """The representative of the mode that the node works on; it stays the same from the mode's first event to its
    last. None in nodes that work on the whole neuron."""
    iteration: int | None = None
    """The mode's round of refinement; round 0 scores the representative. None where `mode` is."""
    score: float | None = None
    """The mode's best validation score so far, None before its first; when conclude has finished, the neuron's score
    on test text."""
    explanation: str | None = None
    """The mode's best explanation so far: at first its representative."""
    n_modes: int | None = None
    """How many modes the neuron has, in events that know it: those of a mode, and the one that ends conclude."""

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data that JSON can hold."""
        return asdict(self)
