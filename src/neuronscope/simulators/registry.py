"""Which simulator a user means."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from neuronscope.arguments import did_you_mean
from neuronscope.errors import ConfigurationError, SimulatorError
from neuronscope.interfaces import Simulator
from neuronscope.simulators.named import named_simulators

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from neuronscope.llm.types import AnyLLM

AUTO = "auto"
"""The best simulator that this machine can run."""
AUTO_MEMORY = 20e9
"""Bytes of GPU memory from which "auto" means Transluce's simulator, whose weights are 16 GB."""


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
            else `"reader"`, or `"hybrid"` where SmolLM2's weights cannot be had. `"transluce"`: Transluce's fine-tuned
            simulator; `"transluce:<source>"`: a checkpoint of that form. `"prompted:<model>"`: any causal language
            model that `load_subject` takes, with worked examples. `"chat"`: the run's own chat model; `"chat:<llm>"`:
            another one, by its LangChain name. `"reader"`: a small trained model that reads ordinary English.
            `"hybrid"`: without a language model.
        embeddings: what the hybrid simulator's semantic channel uses, if it is made here; None is its own choice.
        llm: the run's chat model, or one per agent: that of "simulator" simulates, else the Refinement Agent's.

    Raises:
        ConfigurationError: no simulator of that name, or an object that is none.
        SimulatorError: the simulator's model cannot be loaded, or is no simulator.
    """
    check_simulator(spec)
    if not isinstance(spec, str):
        return spec
    known = named_simulators()
    if spec == AUTO:
        found = _transluce_if_possible() or _if_possible("reader", instead="hybrid")
        return found or known["hybrid"].load("", embeddings=embeddings, llm=llm)
    kind, _, source = spec.partition(":")
    return known[kind].load(source, embeddings=embeddings, llm=llm)


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
    known = named_simulators()
    forms = [AUTO, *(form for module in known.values() for form in module.FORMS)]
    kind, _, source = spec.partition(":")
    if spec in forms or (source and any(form.startswith(f"{kind}:") for form in forms)):
        return
    raise ConfigurationError(
        f"There is no simulator {spec!r}.{did_you_mean(kind, [AUTO, *known])} Known: {', '.join(map(repr, forms))}, or "
        "an object of your own."
    )


def _transluce_if_possible() -> Simulator | None:
    import torch

    if not torch.cuda.is_available() or torch.cuda.get_device_properties(0).total_memory < AUTO_MEMORY:
        return None
    return _if_possible("transluce", instead="reader")


def _if_possible(name: str, *, instead: str) -> Simulator | None:
    try:
        return named_simulators()[name].load("", embeddings=None, llm=None)
    except SimulatorError as error:
        _say(name, instead, str(error))
        return None


@cache
def _say(name: str, instead: str, reason: str) -> None:
    """Once per process and reason: a better simulator was to be expected."""
    from rich.console import Console

    text = f'Scoring with simulator="{instead}", since "{name}" cannot be had. {reason}'
    Console(stderr=True).print(text, soft_wrap=True, highlight=False, markup=False)
