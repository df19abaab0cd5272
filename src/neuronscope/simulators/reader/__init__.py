"""A simulator that reads ordinary English; `docs/results/reader.md` says what it is worth."""

from neuronscope.simulators.reader.simulator import ReaderSimulator

__all__ = ["ReaderSimulator"]
