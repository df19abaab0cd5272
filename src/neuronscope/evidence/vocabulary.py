"""Every token of the vocabulary, alone behind the model's BOS: the lexical part of a neuron, which no sample gives.

One pass over the vocabulary serves all units of a layer. Of each unit and sign the strongest tokens are kept, and how
the activations are distributed; the file lies in the cache folder `vocabulary/`, by the model's fingerprint, the site
and the layer:
```
<s>/ids        int32   (width, k)   the tokens with the largest s * a, largest first
<s>/values     float32 (width, k)   these activations
<s>/quantiles  float32 (width, q)   of max(s * a, 0) over a sample of the vocabulary
n              int64   (1,)         tokens that were tried
digest         uint8   (16,)        of all these
```
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neuronscope.digests import digest, name_of
from neuronscope.errors import ConfigurationError
from neuronscope.evidence.record import VocabularyTokens
from neuronscope.exemplars.identity import identify
from neuronscope.interfaces import ModelSubject
from neuronscope.io import cache_folder, write_atomically
from neuronscope.stopping import check_stopped
from neuronscope.subject.sites import identify_site, width_of
from neuronscope.subject.tokens import bos_id, token_strings
from neuronscope.types import SCALE, HookPoint, Neuron

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

KEPT = 30
"""Tokens kept of each unit and sign."""
QUANTILES = (0.5, 0.9, 0.99)
SAMPLE = 2048
"""Tokens that the quantiles are taken from."""
BATCH = 1024
"""Tokens tried at once."""
VERSION = 1

Arrays = dict[str, NDArray[np.generic]]


class Vocabulary:
    """What every unit of one layer does on single tokens: read from the cache folder, or computed and written there."""

    def __init__(self, subject: ModelSubject, point: HookPoint) -> None:
        self._subject = subject
        self._lead = leading(subject)
        path = _path(subject, point)
        arrays = _read(path)
        if arrays is None:
            arrays = _compute(subject, point, self._lead)
            arrays["digest"] = _digest(arrays)
            _write(path, arrays)
        self._arrays = arrays

    def of(self, neuron: Neuron, maximum: float) -> VocabularyTokens:
        """One neuron's tokens."""
        sign, factor = f"{neuron.sign:+d}", SCALE / maximum
        ids = self._arrays[f"{sign}/ids"][neuron.index].tolist()
        values = (self._arrays[f"{sign}/values"][neuron.index].astype(np.float64) * factor).tolist()
        quantiles = (self._arrays[f"{sign}/quantiles"][neuron.index].astype(np.float64) * factor).tolist()
        return VocabularyTokens(
            size=int(self._arrays["n"][0]),
            strongest=tuple(
                (self._text(token), round(value, 2)) for token, value in zip(ids, values, strict=True) if value > 0
            ),
            quantiles=tuple((share, round(value, 2)) for share, value in zip(QUANTILES, quantiles, strict=True)),
        )

    def _text(self, token: int) -> str:
        """With the space in front, which some tokenizers drop at the beginning of a text."""
        return text_of_token(self._subject, token)


def text_of_token(subject: ModelSubject, token: int) -> str:
    """The text of a token in the middle of a text, where it has the space in front that belongs to it."""
    lead = bos_id(subject.tokenizer)
    return token_strings(subject.tokenizer, [token] if lead is None else [lead, token])[-1]


def leading(subject: object) -> tuple[int, ...]:
    """What has to stand in front of a text's first token: the BOS, where the subject does not put it there itself.

    The first token of all takes attention that has nowhere else to go, and its activations are like no other's.
    """
    if not is_model(subject) or getattr(subject, "leading_ids", None):
        return ()
    bos = bos_id(getattr(subject, "tokenizer", None))
    return () if bos is None else (bos,)


def is_model(subject: object) -> bool:
    """Whether a subject is a torch model in this process, as a loaded one is."""
    return all(hasattr(subject, name) for name in ("model", "projections", "visit"))


def token_ids(subject: ModelSubject) -> list[int]:
    """The ids of the vocabulary's tokens: all that the model knows and the tokenizer has, no special ones."""
    size = int(subject.model.get_input_embeddings().weight.shape[0])
    special = set(subject.tokenizer.all_special_ids)
    return [token for token in range(min(size, len(subject.tokenizer))) if token not in special]


def _compute(subject: ModelSubject, point: HookPoint, lead: Sequence[int]) -> Arrays:
    from neuronscope.subject.capture import visit

    ids = token_ids(subject)
    logger.info(
        "Layer %d reads each of the %s tokens of the vocabulary once; they are kept.", point.layer, f"{len(ids):,}"
    )
    started = time.perf_counter()
    summary = _Summary(width_of(subject, point), stride=max(1, -(-len(ids) // SAMPLE)))
    for start in range(0, len(ids), BATCH):
        check_stopped()
        batch = ids[start : start + BATCH]
        visit(subject, [[*lead, token] for token in batch], [point], lambda _, found: summary.add(batch, found[:, -1]))  # noqa: B023
    logger.info("Layer %d has read the vocabulary in %.0f s.", point.layer, time.perf_counter() - started)
    return summary.arrays()


class _Summary:
    """The strongest tokens so far of each unit and sign, and a sample."""

    def __init__(self, width: int, stride: int) -> None:
        self._width = width
        self._stride = stride
        self._n = 0
        self._sample: list[NDArray[np.float32]] = []
        self._best: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def add(self, ids: Sequence[int], activations: torch.Tensor) -> None:
        """Take in tokens with their activations, shape `(tokens, width)`."""
        import torch

        values = activations.detach().float()
        numbers = torch.tensor(ids, dtype=torch.int32, device=values.device)[:, None].expand(-1, self._width)
        for sign in (1, -1):
            signed, own = sign * values, numbers
            if sign in self._best:
                known, tokens = self._best[sign]
                signed, own = torch.cat([known, signed]), torch.cat([tokens, own])
            top, order = signed.topk(min(KEPT, len(signed)), dim=0)
            self._best[sign] = top, own.gather(0, order)
        first = -self._n % self._stride
        self._sample.append(values[first :: self._stride].cpu().numpy().astype(np.float32))
        self._n += len(ids)

    def arrays(self) -> Arrays:
        """What is kept."""
        sample = np.concatenate(self._sample)
        found: Arrays = {"n": np.array([self._n], np.int64)}
        for sign, (values, ids) in self._best.items():
            quantiles = np.quantile(np.maximum(sign * sample, 0), QUANTILES, axis=0).T
            found[f"{sign:+d}/ids"] = np.ascontiguousarray(ids.cpu().numpy().T)
            found[f"{sign:+d}/values"] = np.ascontiguousarray(values.cpu().numpy().T)
            found[f"{sign:+d}/quantiles"] = np.ascontiguousarray(quantiles, dtype=np.float32)
        return found


def _path(subject: ModelSubject, point: HookPoint) -> Path:
    site: Any = identify_site(subject, point.site)._asdict()
    key = {"subject": identify(subject)["fingerprint"], "site": site, "kept": KEPT, "version": VERSION}
    return cache_folder("vocabulary") / f"{name_of(key, 24)}-{point.file_name}.safetensors"


def _read(path: Path) -> Arrays | None:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays: Arrays = load(path.read_bytes())
        if not np.array_equal(arrays["digest"], _digest(arrays)):
            raise ValueError("its content is not what was written")
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        logger.warning("%s cannot be used (%s); the vocabulary is read again.", path, error)
        return None
    return arrays


def _write(path: Path, arrays: Arrays) -> None:
    from safetensors.numpy import save

    try:
        write_atomically(path, save(arrays))
    except ConfigurationError as error:  # a cache on a read-only disk, say
        logger.warning("What single tokens do is kept in memory only. %s", error)


def _digest(arrays: Arrays) -> NDArray[np.uint8]:
    parts = [
        part for name, array in sorted(arrays.items()) if name != "digest" for part in (name.encode(), array.tobytes())
    ]
    return np.frombuffer(bytes.fromhex(digest(parts)), np.uint8)
