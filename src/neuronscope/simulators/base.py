"""Which simulator a user means."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from neuronscope.errors import ConfigurationError
from neuronscope.protocols import Simulator

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

KNOWN = ("auto", "hybrid")
"""The simulators that have a name; "auto" is the best that this machine can run."""


def resolve_simulator(spec: str | Simulator, *, embeddings: Embeddings | None = None) -> Simulator:
    """Turn a name into a simulator; an object with a `simulate` method is taken as it is.

    Args:
        spec: one of `KNOWN`, or a simulator.
        embeddings: what the hybrid simulator's semantic channel uses, if it is made here; None is its own choice.

    Raises:
        ConfigurationError: no simulator of that name, or an object that is none.
    """
    if not isinstance(spec, str):
        if isinstance(spec, Simulator):
            return spec
        raise ConfigurationError(
            f"simulator={spec!r} is no simulator: it needs a method `simulate(explanations, exemplars)`."
        )
    if spec not in KNOWN:
        names = ", ".join(repr(name) for name in KNOWN)
        raise ConfigurationError(f"There is no simulator {spec!r}. Known: {names}, or an object of your own.")
    if embeddings is None:
        return _shared_hybrid()
    from neuronscope.simulators.hybrid import HybridSimulator

    return HybridSimulator(embeddings=embeddings)


@cache
def _shared_hybrid() -> Simulator:
    """One for the process: neurons share many words, and a word is embedded once."""
    from neuronscope.simulators.hybrid import HybridSimulator

    return HybridSimulator()
