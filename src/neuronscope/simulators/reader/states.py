"""SmolLM2's first layers as the reader uses them: states that know a word's sense and syntax in its context so far."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

LAYERS = 7
"""Of SmolLM2's thirty."""


@torch.no_grad()
def encode(language_model: Any, ids: Tensor) -> Tensor:
    """What the first layers make of token ids: (rows, tokens) to (rows, tokens, width). Padding may be at the right."""
    states: Tensor = language_model.embed_tokens(ids)
    positions = torch.arange(ids.shape[1])[None]
    rotary = language_model.rotary_emb(states, positions)
    for layer in language_model.layers[:LAYERS]:
        states = layer(states, attention_mask=None, position_ids=positions, position_embeddings=rotary)
    return states
