"""Which simulator a user means."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from neuronscope.arguments import did_you_mean
from neuronscope.errors import ConfigurationError, SimulatorError
from neuronscope.interfaces import Simulator
from neuronscope.locks import Lock

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from neuronscope.llm.types import AnyLLM

KNOWN = (
    "auto",
    "transluce",
    "transluce:<folder or Hugging Face id>",
    "prompted:<model>",
    "chat",
    "chat:<llm>",
    "hybrid",
)
"""The simulators that have a name; "auto" is the best that this machine can run."""
AUTO_MEMORY = 20e9
"""Bytes of GPU memory from which "auto" means Transluce's simulator, whose weights are 16 GB."""

_loading = Lock()


def resolve_simulator(
    spec: str | Simulator,
    *,
    embeddings: Embeddings | None = None,
    llm: AnyLLM | Mapping[str, AnyLLM] | None = None,
) -> Simulator:
    """Turn a name into a simulator; an object with a `simulate` method is taken as it is.

    A model is loaded once per process and shared by everyone who asks for it; a folder that has changed is loaded anew.

    Args:
        spec: a name, or a simulator. `"auto"`: `"transluce"` on a GPU with at least 20 GB if the checkpoint can be had,
            else `"hybrid"`. `"transluce"`: Transluce's fine-tuned simulator; `"transluce:<source>"`: a checkpoint of
            that form. `"prompted:<model>"`: any causal language model that `load_subject` takes, with worked examples.
            `"chat"`: the run's own chat model; `"chat:<llm>"`: another one, by its LangChain name. `"hybrid"`: without
            a language model.
        embeddings: what the hybrid simulator's semantic channel uses, if it is made here; None is its own choice.
        llm: the run's chat model, or one per agent: that of "simulator" simulates, else the Refinement Agent's.

    Raises:
        ConfigurationError: no simulator of that name, or an object that is none.
        SimulatorError: the simulator's model cannot be loaded, or is no simulator.
    """
    check_simulator(spec)
    if not isinstance(spec, str):
        return spec
    kind, _, source = spec.partition(":")
    if spec == "auto":
        return _transluce_if_possible() or _hybrid(embeddings)
    if spec == "hybrid":
        return _hybrid(embeddings)
    return _chat(source or llm) if kind == "chat" else _shared(kind, source)


def check_simulator(spec: str | Simulator) -> None:
    """Say whether there is such a simulator, without loading it.

    Raises:
        ConfigurationError: no simulator of that name, or an object that is none.
    """
    if not isinstance(spec, str):
        if isinstance(spec, Simulator):
            return
        raise ConfigurationError(
            f"simulator={spec!r} is no simulator: it needs a method `simulate(explanations, exemplars)`."
        )
    kind, _, source = spec.partition(":")
    if spec in KNOWN or (source and kind in ("transluce", "prompted", "chat")):
        return
    hint = did_you_mean(kind, [name for name in KNOWN if ":" not in name] + ["prompted"])
    raise ConfigurationError(
        f"There is no simulator {spec!r}.{hint} Known: {', '.join(map(repr, KNOWN))}, or an object of your own."
    )


def _transluce_if_possible() -> Simulator | None:
    import torch

    if not torch.cuda.is_available() or torch.cuda.get_device_properties(0).total_memory < AUTO_MEMORY:
        return None
    try:
        return _shared("transluce", "")
    except SimulatorError as error:
        _say_hybrid(str(error))
        return None


@cache
def _say_hybrid(reason: str) -> None:
    """Once per process and reason: on such a machine a better simulator was to be expected."""
    from rich.console import Console

    text = f'Scoring with simulator="hybrid", since "transluce" cannot be had. {reason}'
    Console(stderr=True).print(text, soft_wrap=True, highlight=False, markup=False)


def _shared(kind: str, source: str) -> Simulator:
    """The one simulator of this name in the process."""
    folder = Path(source).expanduser()
    files = folder.iterdir() if source and folder.is_dir() else ()
    with _loading:  # two threads would load it twice
        return _load(kind, source, max((file.stat().st_mtime_ns for file in files), default=0))


@lru_cache(maxsize=2)
def _load(kind: str, source: str, changed: int) -> Simulator:
    """`changed` is when: another time is another model."""
    if kind == "prompted":
        from neuronscope.simulators.prompted import PromptedSimulator

        return PromptedSimulator(source)
    from neuronscope.simulators.finetuned import TRANSLUCE, FinetunedSimulator

    return FinetunedSimulator(source or TRANSLUCE)


def _chat(llm: str | AnyLLM | Mapping[str, AnyLLM] | None) -> Simulator:
    from neuronscope.simulators.chat import ChatSimulator

    if isinstance(llm, Mapping):
        llm = llm.get("simulator", llm.get("refinement", llm.get("default", "offline")))
    return ChatSimulator("offline" if llm is None else llm)


def _hybrid(embeddings: Embeddings | None) -> Simulator:
    if embeddings is None:
        return _shared_hybrid()
    from neuronscope.simulators.hybrid import HybridSimulator

    return HybridSimulator(embeddings=embeddings)


@cache
def _shared_hybrid() -> Simulator:
    """One for the process: neurons share many words, and a word is embedded once."""
    from neuronscope.simulators.hybrid import HybridSimulator

    return HybridSimulator()
