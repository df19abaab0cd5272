"""What a run says while it is under way: one small event when a node of the graph starts, and one when it is done."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from neuronscope.types import Neuron

Phase = Literal["started", "finished"]


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """One step of one neuron's explanation: a node of the graph that starts, or has finished.

    Modes propose at the same time, so their events interleave: `mode` says whose an event is.
    """

    neuron: Neuron
    """The neuron being explained."""
    node: str
    """The graph's node: observe, hypothesis, decomposition, clustering, refine (within it begin, propose, probe, tools,
    reconcile), conclude; or one of your own."""
    phase: Phase
    """Whether the node has just started or has finished. One that raises an error never finishes."""
    mode: str | None = None
    """The representative of the mode that the node works on, or has changed; it stays the same from the mode's first
    event to its last. None in nodes that work on the whole neuron."""
    iteration: int | None = None
    """The mode's round of refinement; round 0 scores the representative. None where `mode` is."""
    score: float | None = None
    """The mode's best validation score so far, None before its first; when conclude has finished, the neuron's score
    on test text. None too where nothing could be measured."""
    explanation: str | None = None
    """The mode's best explanation so far: at first its representative."""
    n_modes: int | None = None
    """How many modes the neuron has, in events that know it: those of a mode, and the one that ends conclude."""

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data that JSON can hold."""
        return asdict(self)


STEPS = {
    "observe": "drawing exemplars",
    "hypothesis": "writing hypotheses of what the exemplars have in common",
    "decomposition": "splitting the hypotheses into single conditions",
    "clustering": "grouping the conditions into modes",
    "refine": "refining the modes",
    "conclude": "scoring on the test set",
}
"""The nodes of the whole graph in order, and what each is doing, in words."""

_IN_THE_LOOP = {
    "begin": "starting",
    "propose": "proposing",
    "probe": "trying out",
    "tools": "scoring",
    "reconcile": "compared",
    "edit": "writing all as a whole",
}


class NeuronProgress:
    """The step at work and the latest of every mode, gathered from one neuron's events.

    Args:
        neuron: whose events these are.
    """

    def __init__(self, neuron: Neuron) -> None:
        self.neuron = neuron
        self.node: str | None = None
        """The node of the whole graph that is at work; None before the first and after the last."""
        self.modes: dict[str, ProgressEvent] = {}
        """The latest event of every mode, by its representative, in the order of their first events."""
        self.passed: list[str] = []
        """The nodes of the whole graph that have been at work, in order."""
        self.n_modes: int | None = None
        """How many modes there are, once that is known."""
        self.score: float | None = None
        """The neuron's score on test text, at the end."""

    def take(self, event: ProgressEvent) -> None:
        """Take in one event."""
        if event.n_modes is not None:
            self.n_modes = event.n_modes
        if event.mode is not None:
            self.modes[event.mode] = event
        node = "refine" if event.mode is not None or event.node in _IN_THE_LOOP else event.node
        if node not in self.passed:
            self.passed.append(node)
        self.node = node
        if node == "conclude" and event.phase == "finished":
            self.node, self.score = None, event.score

    @property
    def is_done(self) -> bool:
        """Whether the last node has finished."""
        return self.node is None and bool(self.passed)

    @property
    def doing(self) -> str:
        """What is going on, or how it ended, in words."""
        if self.is_done:
            counted = "1 mode" if self.n_modes == 1 else f"{self.n_modes or 0} modes"
            score = "not measured" if self.score is None else f"{self.score:.2f}"
            return f"{counted}, test score {score}" if self.n_modes else counted
        if self.node is None:
            return "starting"
        return STEPS.get(self.node, self.node)

    def doing_in(self, event: ProgressEvent) -> str:
        """What is going on in a mode whose latest event this is; nothing once refinement is done."""
        return _IN_THE_LOOP.get(event.node, event.node) if self.node == "refine" else "done"
