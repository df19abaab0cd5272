"""What of the reader is trained: probes on SmolLM2's states, corrections of MiniLM, and heads on features."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuronscope.llm.minilm import WIDTH
from neuronscope.simulators.reader.compiled import NAMED
from neuronscope.simulators.reader.features import N_FEATURES
from neuronscope.simulators.reader.sentence import PROBES, Array

HEADS, HIDDEN, DROPOUT = 4, 160, 0.2
BLOCK, STEP = 1024, 128
"""Tokens that the heads read at once, and the number that theirs is filled up to a multiple of."""


class Kinship(nn.Module):
    """Whether a word belongs to what a phrase names: MiniLM's cosine, with learned corrections of both sides."""

    def __init__(self, width: int = 384, hidden: int = 192, extra: int = 32) -> None:
        super().__init__()
        self.extra = extra
        self.word, self.phrase = (
            nn.Sequential(nn.Dropout(0.2), nn.Linear(width, hidden), nn.GELU(), nn.Dropout(0.2), nn.Linear(hidden, n))
            for n in (width + extra, width + extra + 2)
        )

    def forward(self, words: Tensor, phrases: Tensor) -> Tensor:
        """Log-odds, `(n_phrases, n_words)`, from MiniLM's vectors."""
        return self.compare(self.correct(words), phrases)

    def correct(self, words: Tensor) -> Tensor:
        """Vectors of words as they are compared with any phrase, `(n_words, width + extra)`."""
        return functional.normalize(functional.pad(words, (0, self.extra)) + 0.1 * self.word(words * 8), dim=1)

    def compare(self, words: Tensor, phrases: Tensor) -> Tensor:
        """Log-odds, `(n_phrases, n_words)`, from corrected vectors of words and MiniLM's of phrases."""
        corrected = self.phrase(phrases * 8)
        left = functional.normalize(functional.pad(phrases, (0, self.extra)) + 0.1 * corrected[:, :-2], dim=1)
        odds: Tensor = (10 + 4 * corrected[:, -2:-1]) * (left @ words.T) - (5 + 4 * corrected[:, -1:])
        return odds


class ReaderNetwork(nn.Module):
    """Probes tell what a token is in its context; the mean of a few small heads is the prediction.

    Args:
        width: of SmolLM2's states.
    """

    def __init__(self, width: int = 576) -> None:
        super().__init__()
        self.probes = nn.Linear(width, len(PROBES))
        self.kinship = Kinship()
        self.naming = nn.Linear(WIDTH, len(NAMED) + 1)
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Linear(N_FEATURES, HIDDEN),
                nn.GELU(),
                nn.Dropout(DROPOUT),
                nn.Linear(HIDDEN, HIDDEN),
                nn.GELU(),
                nn.Dropout(DROPOUT),
                nn.Linear(HIDDEN, 1),
            )
            for _ in range(HEADS)
        )

    def probe(self, states: Tensor) -> Tensor:
        """What each of `PROBES` tells of states, `(..., width)` to `(..., n_probes)`, as shares."""
        return torch.sigmoid(self.probes(states.float()))

    @torch.no_grad()
    def named(self, phrases: Array) -> Array:
        """How sure it is that phrases name each of `NAMED`, or nothing of it: `(n_phrases, n_named + 1)`."""
        shares: Array = torch.softmax(self.naming(torch.from_numpy(phrases)), dim=1).numpy()
        return shares

    @torch.no_grad()
    def corrected(self, words: Array) -> Array:
        """Vectors of words as `belongs` compares them, from MiniLM's."""
        vectors: Array = self.kinship.correct(torch.from_numpy(words)).numpy()
        return vectors

    @torch.no_grad()
    def belongs(self, words: Array, phrases: Array) -> Array:
        """How far words belong to what phrases name, `(n_words, n_phrases)`.

        Args:
            words: their corrected vectors.
            phrases: their vectors by MiniLM.
        """
        odds = self.kinship.compare(torch.from_numpy(words), torch.from_numpy(phrases))
        shares: Array = torch.sigmoid(odds.T).numpy()
        return shares

    def forward(self, told: Tensor) -> Tensor:
        """Features, `(..., N_FEATURES)`, to shares of a mode's strength, `(...)`."""
        return torch.stack([head(told).squeeze(-1) for head in self.heads]).mean(dim=0)


class Heads:
    """The heads of a trained network in use, by oneDNN: the same as `ReaderNetwork.forward` to six digits.

    oneDNN's products take half the time or less of those that PyTorch chooses for such small matrices on some
    processors. They are prepared for a shape, so there are few shapes.

    Args:
        network: the network; what is trained afterwards is not seen.
    """

    def __init__(self, network: ReaderNetwork) -> None:
        from torch.utils.mkldnn import to_mkldnn

        self._network = network
        self._has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        heads = [deepcopy(head).eval() for head in network.heads]
        self._heads = [*map(to_mkldnn, heads)] if self._has_onednn else heads

    def __reduce__(self) -> tuple[type[Heads], tuple[ReaderNetwork]]:
        """What is prepared for oneDNN can be neither pickled nor copied: the other end prepares its own."""
        return type(self), (self._network,)

    @torch.no_grad()
    def predict(self, told: Array) -> Array:
        """Features, `(n_tokens, N_FEATURES)`, to shares of a mode's strength, `(n_tokens,)`."""
        filled = functional.pad(torch.from_numpy(told), (0, 0, 0, -len(told) % STEP))
        shares = [self._of_block(block) for block in torch.split(filled, BLOCK)]
        together: Array = torch.cat(shares)[: len(told)].numpy()
        return together

    def _of_block(self, told: Tensor) -> Tensor:
        if not self._has_onednn:
            return torch.stack([head(told) for head in self._heads]).mean(dim=0).squeeze(-1)
        laid_out = told.to_mkldnn()
        return torch.stack([head(laid_out).to_dense() for head in self._heads]).mean(dim=0).squeeze(-1)
