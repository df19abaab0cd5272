"""Baselines by name: `"clustered"`, or with a number behind a colon, `"best_of_k:8"`.

A new one is a module in this package with `@baseline("its_name")` on an `Explainer`, and nothing else: the session's
`compare`, the command line and the error about a name that is none find it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, TypeVar

from neuronscope.arguments import did_you_mean, integer
from neuronscope.errors import ConfigurationError
from neuronscope.interfaces import Explainer
from neuronscope.results import NeuronExplanation
from neuronscope.types import Neuron

Explanations = Mapping[Neuron, NeuronExplanation]
"""What `explain` has found of each neuron."""
AnyBaselines = str | Explainer | Iterable[str | Explainer]
"""Names, with commas between or in a list, and explainers of one's own."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NamedBaseline:
    """An explainer that has a name."""

    name: str
    make: Callable[..., Explainer]
    """Takes the number behind the colon, if there is one."""
    of_explanations: bool
    """Whether it is made from what `explain` has found, its first argument."""


_KNOWN: dict[str, NamedBaseline] = {}


def baseline(name: str, *, of_explanations: bool = False) -> Callable[[type[T]], type[T]]:
    """Give an explainer's class a name.

    Args:
        name: what `compare` and the command line call it.
        of_explanations: its first argument is a mapping from neurons to what `explain` has found of them.
    """

    def register(kind: type[T]) -> type[T]:
        made: Any = kind
        _KNOWN[name] = NamedBaseline(name, made, of_explanations)
        return kind

    return register


def named_baselines() -> dict[str, NamedBaseline]:
    """Every baseline that has a name, in alphabetical order."""
    package = import_module("neuronscope.baselines")
    for found in iter_modules(package.__path__):
        import_module(f"{package.__name__}.{found.name}")
    return dict(sorted(_KNOWN.items()))


def resolve_baselines(baselines: AnyBaselines, explanations: Explanations | None = None) -> list[Explainer]:
    """Explainers of their names; an explainer is taken as it is.

    Args:
        baselines: such as `"single_pass,best_of_k:8"`, or a list of names and explainers.
        explanations: what `explain` has found, for those that are made from it.

    Raises:
        ConfigurationError: there is none of a name, there are none at all, or one is named twice.
    """
    given = _listed(baselines)
    explainers = [_resolve(each, explanations or {}) for each in given]
    names = [each.name for each in explainers]
    if not names or len(set(names)) < len(names):
        what = "is named twice" if names else "is named"
        twice = next((name for name in names if names.count(name) > 1), "no baseline")
        raise ConfigurationError(f"{twice!r} {what}. Known: {', '.join(named_baselines())}.")
    return explainers


def _listed(baselines: AnyBaselines) -> list[str | Explainer]:
    if isinstance(baselines, str):
        return [name.strip() for name in baselines.split(",") if name.strip()]
    return [baselines] if isinstance(baselines, Explainer) else list(baselines)


def _resolve(spec: str | Explainer, explanations: Explanations) -> Explainer:
    if not isinstance(spec, str):
        if isinstance(spec, Explainer):
            return spec
        raise ConfigurationError(f"{spec!r} is not a baseline: it needs a `name` and a method `explain`.")
    name, colon, number = spec.partition(":")
    known = named_baselines()
    if name not in known:
        hint = did_you_mean(name, known)
        raise ConfigurationError(f"There is no baseline {spec!r}.{hint} Known: {', '.join(known)}.")
    found = known[name]
    if colon and not number.isdecimal():
        raise ConfigurationError(f"The baseline {spec!r} should have a number behind the colon, as in best_of_k:8.")
    arguments = [explanations] if found.of_explanations else []
    try:
        return found.make(*arguments, *([integer(int(number), name, least=1)] if colon else []))
    except TypeError as error:
        raise ConfigurationError(f"The baseline {name!r} takes no number: write {name!r}.") from error


def explanation_of(neuron: Neuron, explanations: Explanations, name: str) -> NeuronExplanation:
    """What `explain` has found of a neuron.

    Raises:
        ConfigurationError: it is not known, or has no modes.
    """
    found = explanations.get(neuron)
    if found is None or not found.modes:
        why = "has no modes" if found is not None else "is not known"
        raise ConfigurationError(
            f"The baseline {name!r} is made from the explanation of {neuron}, which {why}. Explain the neuron first, "
            "as `Session.compare` does."
        )
    return found
