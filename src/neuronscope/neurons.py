"""The forms in which people name neurons, and one way to read them: layer, then index, then sign."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from neuronscope.arguments import dimensions, integer, plain, short
from neuronscope.errors import ConfigurationError
from neuronscope.types import Neuron

if TYPE_CHECKING:
    import numpy as np

    Index: TypeAlias = int | np.integer[Any]
    """A layer, or a neuron's index within one."""

AnyNeuron: TypeAlias = Neuron | tuple[int, int] | tuple[int, int, int] | str
"""A neuron as people write it: the object, `(layer, index)`, `(layer, index, sign)`, or its written name."""


def one_neuron(layer: Index | AnyNeuron | None, neuron: Index | AnyNeuron | None = None, sign: int = 1) -> Neuron:
    """The neuron of a call: `(9, 740)`, `(9, 740, -1)`, or a whole neuron in either place.

    Args:
        layer: the layer, from 0; or, if `neuron` is None, the whole neuron; or None if `neuron` is whole.
        neuron: the index within the layer, from 0; or the whole neuron.
        sign: of the index; a whole neuron has its own.

    Raises:
        ConfigurationError: it is none, or what was given contradicts itself.
    """
    if neuron is None and not _is_number(layer) and layer is not None:
        return _agreeing(as_neuron(layer), None, sign)
    if isinstance(neuron, Neuron):
        return _agreeing(neuron, layer, sign)
    if layer is not None:
        return Neuron(layer, neuron, sign)  # type: ignore[arg-type]  # it says in words what does not fit
    if neuron is None or _is_number(neuron):
        raise ConfigurationError(
            f"The layer of neuron {short(neuron)} is None: expected a whole number, or a neuron with its layer, "
            "such as ns.Neuron(9, 740) or '9/740'."
        )
    return _agreeing(as_neuron(neuron), None, sign)


def as_neuron(neuron: Any) -> Neuron:
    """A whole neuron from the forms that people write: see `AnyNeuron`; also a row of a table or of an array.

    Raises:
        ConfigurationError: it is none of them.
    """
    if isinstance(neuron, Neuron):
        return neuron
    if isinstance(neuron, str):
        return Neuron.parse(neuron)
    reason, parts = "", _parts(neuron)
    if 2 <= len(parts) <= 4:
        try:
            return Neuron(*parts)
        except ConfigurationError as error:
            reason = f" {error}"
    raise ConfigurationError(
        f"{short(neuron)} is no neuron.{reason} Give ns.Neuron(9, 740), (9, 740), (9, 740, -1) or '9/740'."
    )


def as_neurons(neurons: Iterable[AnyNeuron]) -> list[Neuron]:
    """Each neuron once, in order; a table has columns "layer" and "neuron", and "sign" if it likes.

    Raises:
        ConfigurationError: one of them is no neuron.
    """
    given: Any = neurons
    if isinstance(given, (str, Neuron, Mapping)) or not isinstance(given, Iterable):
        given = [given]
    elif hasattr(given, "columns") and hasattr(given, "to_dict"):
        given = given.to_dict("records")
    return list(dict.fromkeys(map(as_neuron, given)))


def _agreeing(neuron: Neuron, layer: Any, sign: Any) -> Neuron:
    """The neuron, unless something else that was given contradicts it; a sign of 1 may be a default."""
    if layer is not None and integer(layer, "layer") != neuron.layer:
        raise ConfigurationError(f"layer is {layer}, and {neuron} is of layer {neuron.layer}. Leave the layer out.")
    if integer(sign, "sign") not in (1, neuron.sign):
        raise ConfigurationError(f"sign is {sign}, and {neuron} has the sign {neuron.sign}. Leave the sign out.")
    return neuron


def _is_number(value: object) -> bool:
    return isinstance(plain(value), (int, float, complex))


def _parts(neuron: Any) -> Sequence[Any]:
    """Layer, index and perhaps sign of a row: of a table, by its columns' names; or of numbers, by their order."""
    for name in ("_asdict", "to_dict"):  # as `itertuples` and `iterrows` of pandas give them
        if callable(read := getattr(neuron, name, None)):
            named = read()
            return _parts(named) if "layer" in named else list(named.values())
    if isinstance(neuron, Mapping):
        index = neuron.get("neuron", neuron.get("index"))
        return [neuron.get("layer"), index, neuron.get("sign", 1), neuron.get("site", "mlp")]
    several = isinstance(neuron, Iterable) and dimensions(neuron) in (1, None)
    return list(neuron)[:5] if several else []
