"""A small trained model that reads ordinary English, on the processor."""

from __future__ import annotations

from functools import cache
from typing import Any

from neuronscope.interfaces import Simulator

FORMS = ("reader",)


def load(source: str, *, embeddings: Any, llm: Any) -> Simulator:
    """The reader, one for the process."""
    return _shared()


@cache
def _shared() -> Simulator:
    from neuronscope.simulators.reader import ReaderSimulator

    return ReaderSimulator()
