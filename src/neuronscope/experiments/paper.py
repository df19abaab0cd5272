"""The figures that the paper reports, to stand beside ours."""

from __future__ import annotations

from typing import NamedTuple

LLAMA, GEMMA, QWEN = "Llama-3.1-8B", "Gemma-2-2B", "Qwen3-4B"


class PaperModel(NamedTuple):
    """One of the paper's models (tables 1 and 2)."""

    hub_id: str
    n_layers: int
    layers: tuple[int, ...]
    unrefined: tuple[float, ...]
    """Score without refinement, layer by layer."""
    refined: tuple[float, ...]
    """Score with it."""
    number: tuple[float, ...]


MODELS = {
    LLAMA: PaperModel(
        "meta-llama/Llama-3.1-8B",
        32,
        (5, 10, 20, 31),
        (0.453, 0.334, 0.464, 0.364),
        (0.508, 0.390, 0.516, 0.411),
        (5.05, 5.53, 4.70, 4.48),
    ),
    GEMMA: PaperModel(
        "google/gemma-2-2b",
        26,
        (5, 9, 18, 25),
        (0.600, 0.539, 0.517, 0.452),
        (0.663, 0.620, 0.619, 0.550),
        (2.48, 2.49, 2.22, 2.32),
    ),
    QWEN: PaperModel(
        "Qwen/Qwen3-4B",
        36,
        (5, 9, 18, 25),
        (0.489, 0.469, 0.461, 0.475),
        (0.589, 0.567, 0.562, 0.574),
        (2.29, 2.37, 2.26, 2.42),
    ),
}


class PaperRow(NamedTuple):
    """A layer of the paper's table 1."""

    model: str
    layer: int
    unrefined: float
    refined: float
    number: float


def papers_row(model: str, layers: list[int], layer: int) -> PaperRow | None:
    """The paper's figures for the layer of a model that stands in the place of one of ours.

    Args:
        model: one of `MODELS`, or nothing.
        layers: all our layers of the model, as many as the paper has; else none stands beside another.
        layer: one of them.
    """
    known = MODELS.get(model)
    if known is None or len(layers) != len(known.layers):
        return None
    at = sorted(layers).index(layer)
    return PaperRow(model, known.layers[at], known.unrefined[at], known.refined[at], known.number[at])
