"""The simulators that have a name, a module each: `simulator="hybrid"` is `hybrid.load`.

A new one is a new module here, and nothing else: its file's name, with hyphens for underscores, is the simulator's,
`FORMS` says how it may be written, and `load(source, *, embeddings, llm)` makes it of what stands behind the colon. All
modules are imported to list their forms, so what is heavy is imported within `load`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Protocol, cast

from neuronscope.interfaces import Simulator

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from neuronscope.llm.types import AnyLLM


class Named(Protocol):
    """What a module of this package has."""

    FORMS: tuple[str, ...]

    def load(
        self, source: str, *, embeddings: Embeddings | None, llm: AnyLLM | Mapping[str, AnyLLM] | None
    ) -> Simulator:
        """Make the simulator.

        Args:
            source: what stands behind the colon; may be empty.
            embeddings: the run's, if it has any.
            llm: the run's chat model, or one per agent.

        Raises:
            SimulatorError: it cannot be loaded.
        """


def named_simulators() -> dict[str, Named]:
    """Every simulator that has a name."""
    names = [found.name for found in iter_modules(__path__)]
    return {name.replace("_", "-"): cast("Named", import_module(f"{__name__}.{name}")) for name in names}
