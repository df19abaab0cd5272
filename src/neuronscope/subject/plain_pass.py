"""The conditions of every forward pass of ours: what surrounds the call must not decide what is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def plain_pass(model: Any, device: torch.device) -> Iterator[None]:
    """Evaluation mode, so that dropout never decides, and the model's own dtype, also within `torch.autocast`.

    Modules that were in training mode are in it again afterwards.
    """
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False  # the flag alone: some modules' eval() does more, and undoes it never
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for module in training:
            module.training = True
