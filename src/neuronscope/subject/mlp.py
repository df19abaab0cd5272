"""The site "mlp": neurons, the inputs of the MLPs' output projections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from neuronscope.interfaces import ModelSubject, Tap
from neuronscope.subject.layout import width_of_projection
from neuronscope.subject.sites import register_site
from neuronscope.types import MLP


@register_site
class MlpSite:
    """What the output projection of a layer's MLP reads, after activation and gating."""

    name = MLP
    fingerprint = "1"
    signed = True

    def taps(self, subject: ModelSubject, layer: int) -> Sequence[Tap]:
        """The projection's input."""
        return [Tap(subject.projections[layer])]

    def width(self, subject: ModelSubject, layer: int) -> int:
        """As many as the projection reads."""
        return width_of_projection(subject.projections[layer])

    def read(self, tensors: Sequence[torch.Tensor], layer: int) -> torch.Tensor:
        """The input as it is."""
        return tensors[0]

    def write_direction(self, subject: ModelSubject, layer: int, index: int) -> torch.Tensor:
        """The projection's weights for one neuron."""
        projection: Any = subject.projections[layer]
        weight: torch.Tensor = projection.weight.detach()
        return weight[:, index] if hasattr(projection, "in_features") else weight[index]
