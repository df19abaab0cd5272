"""The reader's network: a text's tokens look an explanation up, token by token.

Text and explanation are read apart by the first layers of SmolLM2, which stay as they come: what they make of a
token, its embedding and its state in context, is kept. The network, which is small, first lets the explanation's tokens
see each other, then lets each token of the text attend to them, and to the text up to itself; a head reads the
prediction. A second, smaller one predicts from the features of `reader_features` alone, and the two are added. These
two are what is trained, and what the package carries.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuronscope.simulators.reader_features import N_FEATURES

LAYERS = 7
"""Of SmolLM2, whose states are read."""
WIDTH, HEADS, BLOCKS, DROPOUT = 128, 4, 2, 0.15
_HIDDEN = 96


@torch.no_grad()
def encode(language_model: Any, ids: Tensor, layers: int = LAYERS) -> Tensor:
    """What SmolLM2 makes of token ids, shape (rows, tokens): (rows, tokens, 2 * width), embeddings and states."""
    embedded = states = language_model.embed_tokens(ids)
    positions = torch.arange(ids.shape[1])[None]
    rotary = language_model.rotary_emb(states, positions)
    for layer in language_model.layers[:layers]:
        states = layer(states, attention_mask=None, position_ids=positions, position_embeddings=rotary)
    return torch.cat([embedded, states], dim=-1)


class ReaderNetwork(nn.Module):
    """Predicts, for each token of a text, which share of its strength an explanation's mode has there."""

    def __init__(self, inputs: int, width: int = WIDTH, blocks: int = BLOCKS) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.RMSNorm(inputs // 2) for _ in range(2))
        self.enter = nn.Linear(inputs, width)
        self.role = nn.Parameter(torch.zeros(2, width))
        self.told = nn.Linear(N_FEATURES, width)
        self.explanation = nn.ModuleList(_Block(width, crossed=False) for _ in range(1))
        self.blocks = nn.ModuleList(_Block(width, crossed=True) for _ in range(blocks))
        self.norm = nn.RMSNorm(width)
        last = nn.Linear(_HIDDEN, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.head = nn.Sequential(nn.Linear(width + N_FEATURES, _HIDDEN), nn.GELU(), last)
        self.direct = nn.Sequential(
            nn.Linear(N_FEATURES, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, 1)
        )

    def _enter(self, states: Tensor, role: int) -> Tensor:
        halves = states.float().chunk(2, dim=-1)
        normed = torch.cat([norm(half) for norm, half in zip(self.norms, halves, strict=True)], dim=-1)
        entered: Tensor = self.enter(functional.dropout(normed, DROPOUT, self.training)) + self.role[role]
        return entered

    def read_explanations(self, states: Tensor, real: Tensor) -> Tensor:
        """Explanations as texts look them up: `encode`d states, and which tokens are not padding."""
        read = self._enter(states, 0)
        for block in self.explanation:
            read = block(read, real[:, None, None, :], None, None)
        return read

    def forward(self, read: Tensor, real: Tensor, which: Tensor, texts: Tensor, told: Tensor) -> Tensor:
        """Shares of a mode's strength, `(rows, tokens)`.

        Args:
            read: the explanations, from `read_explanations`.
            real: which of their tokens are not padding.
            which: for each row, the index of its explanation.
            texts: for each row, its text's `encode`d states.
            told: for each row and token, the features of `reader_features`.
        """
        states = self._enter(texts, 1) + self.told(told)
        length = texts.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool).tril()[None, None]
        for block in self.blocks:
            states = block(states, causal, read[which], real[which][:, None, None, :])
        final = torch.cat([self.norm(states), told], dim=-1)
        shares: Tensor = self.head(final) + self.direct(told)
        return shares.squeeze(-1)


class _Block(nn.Module):
    """Attention to one's own sequence, to another one if there is one, and an MLP."""

    def __init__(self, width: int, *, crossed: bool) -> None:
        super().__init__()
        self.own = _Attention(width)
        self.other = _Attention(width) if crossed else None
        self.norm = nn.RMSNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, states: Tensor, mask: Tensor, other: Tensor | None, other_mask: Tensor | None) -> Tensor:
        if self.other is not None and other is not None:
            states = states + self.other(states, other, other_mask)
        states = states + self.own(states, states, mask)
        out: Tensor = states + functional.dropout(self.mlp(self.norm(states)), DROPOUT, self.training)
        return out


class _Attention(nn.Module):
    """Queries and keys begin as the same projection, so that a token first finds what is like itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)
        with torch.no_grad():
            self.key.weight.copy_(self.query.weight)
            self.query.weight.mul_(2)
            self.key.weight.mul_(2)
        self.sink = nn.Parameter(torch.zeros(2, width))

    def forward(self, states: Tensor, other: Tensor, mask: Tensor | None) -> Tensor:
        """What `states` find in `other`, or in a learned nothing."""
        rows, length, width = states.shape
        normed = self.norm(other)
        query = self.query(self.norm(states))
        key = torch.cat([self.sink[0].expand(rows, 1, width), self.key(normed)], dim=1)
        value = torch.cat([self.sink[1].expand(rows, 1, width), self.value(normed)], dim=1)
        if mask is not None:
            mask = functional.pad(mask.expand(rows, 1, -1, -1), (1, 0), value=True).expand(-1, -1, length, -1)
        query, key, value = (x.view(rows, -1, HEADS, width // HEADS).transpose(1, 2) for x in (query, key, value))
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        out: Tensor = self.out(found.transpose(1, 2).reshape(rows, length, width))
        return functional.dropout(out, DROPOUT, self.training)
