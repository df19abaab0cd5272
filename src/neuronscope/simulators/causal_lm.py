"""Causal language models that read many short texts behind few shared prefixes, each of which is computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import Cache, DynamicLayer

from neuronscope.errors import SimulatorError, SubjectError
from neuronscope.locks import lock_of
from neuronscope.simulators.packing import pack
from neuronscope.stopping import check_stopped
from neuronscope.subject.capture import cache_argument
from neuronscope.subject.loading import load_model
from neuronscope.subject.plain_pass import plain_pass

BATCH_TOKENS = {"cpu": 1024, "cuda": 8192}
"""Tokens of a forward pass, padding included: where more no longer makes it faster."""
_ATTENTION = {"full_attention", "sliding_attention"}
"""Kinds of layers whose whole state is a KV cache."""
_TOLERANCE = 0.1
"""Of the largest logit: far above what bfloat16 rounds away, far below what a wrong output layer does."""


@dataclass(frozen=True, slots=True, eq=False)
class Prefix:
    """Tokens that a model has read, so that it need not read them again."""

    parent: Prefix | None
    """What stands before."""
    keys: list[torch.Tensor]
    """Of these tokens, without the parent's: one `(heads, tokens, width)` tensor per layer."""
    values: list[torch.Tensor]
    """The same shapes, but for the width."""
    end: int
    """How many tokens there are up to here, the parent's included."""

    def chain(self) -> Iterator[Prefix]:
        """This part and those before it, last one first."""
        part: Prefix | None = self
        while part is not None:
            yield part
            part = part.parent


class Continuation(NamedTuple):
    """A text behind a prefix, and where in it the model's output is wanted."""

    prefix: Prefix
    token_ids: Sequence[int]
    positions: Sequence[int]
    """Numbers of tokens; what is read there is the model's opinion of what comes next."""


class CausalModel:
    """A causal language model that reads texts in batches, and gives the logits of a few tokens.

    The texts of a batch may stand behind different prefixes. These are aligned at their ends, as left padding would
    do it, and their positions ignore the gap; the texts themselves are padded on the right, where nothing looks. So
    every text gets the logits that it would get alone.

    The KV cache of a batch exists for one layer at a time. One forward pass runs at a time, so threads may
    share a model, and a subject and a simulator may be the same one.

    Args:
        source: whatever `load_subject` takes: an alias, a Hugging Face id, a folder, a GGUF file, `(model, tokenizer)`.
        device: as for `load_subject`.
        dtype: as for `load_subject`.

    Raises:
        SimulatorError: there is no such model, or its state is another than a KV cache.
        ConfigurationError: there is no such device or dtype.
    """

    def __init__(self, source: Any, *, device: str = "auto", dtype: str | torch.dtype = "auto") -> None:
        try:
            model, self.tokenizer, self.name = load_model(source, device=device, dtype=dtype)
        except SubjectError as error:
            raise SimulatorError(f"The simulator cannot be loaded. {error}") from error
        self.model: Any = model.eval()
        self._config = model.config.get_text_config()
        _require_attention(self.name, self._config)
        self._decoder: Any = model.get_decoder()
        self.batch_tokens = BATCH_TOKENS.get(self.device.type, BATCH_TOKENS["cpu"])
        """How many tokens a forward pass takes, padding included; of a longer text, its own."""
        self._verify()

    @property
    def device(self) -> torch.device:
        """Where the forward pass runs."""
        return next(self._decoder.parameters()).device  # type: ignore[no-any-return]  # transformers is untyped

    @property
    def dtype(self) -> torch.dtype:
        """What the forward pass computes in."""
        return next(self._decoder.parameters()).dtype  # type: ignore[no-any-return]  # transformers is untyped

    @property
    def context(self) -> int | None:
        """How many tokens the model reads at most, if it says so."""
        return getattr(self._config, "max_position_embeddings", None)

    @property
    def n_rows(self) -> int:
        """How many different tokens the model can put out."""
        return int(self.model.get_output_embeddings().weight.shape[0])

    def extend(self, parents: Sequence[Prefix | None], texts: Sequence[Sequence[int]]) -> list[Prefix]:
        """Read texts that others will stand behind, each behind a parent or at the beginning.

        Raises:
            SimulatorError: a token does not exist, or a text is empty or too long for the model.
        """
        found: dict[int, Prefix] = {}
        for batch in self._batches(parents, texts):
            cache, _ = self._forward([parents[i] for i in batch], [texts[i] for i in batch])
            for row, number in enumerate(batch):
                parent, length = parents[number], len(texts[number])
                keys, values = (
                    [layer.read[which][row, :, :length].clone() for layer in cache.layers] for which in (0, 1)
                )
                found[number] = Prefix(parent, keys, values, length + (parent.end if parent else 0))
        return [found[number] for number in range(len(texts))]

    def logits(self, continuations: Sequence[Continuation], rows: Sequence[int]) -> list[NDArray[np.float32]]:
        """The logits of some output tokens, `rows`: one `(positions, rows)` array per text.

        Raises:
            SimulatorError: a token does not exist, or a text is empty or too long for the model.
        """
        head = _Head(self.model, rows)
        parents, texts = (
            [continuation.prefix for continuation in continuations],
            [continuation.token_ids for continuation in continuations],
        )
        found: dict[int, NDArray[np.float32]] = {}
        for batch in self._batches(parents, texts):
            wanted = [(row, position) for row, i in enumerate(batch) for position in continuations[i].positions]
            _, hidden = self._forward([parents[i] for i in batch], [texts[i] for i in batch])
            at = torch.tensor(wanted, dtype=torch.long, device=hidden.device).reshape(-1, 2)
            flat = head(hidden[at[:, 0], at[:, 1]]).cpu().numpy()
            ends = np.cumsum([len(continuations[i].positions) for i in batch])[:-1]
            found.update(zip(batch, np.split(flat, ends), strict=True))
        return [found[number] for number in range(len(continuations))]

    def _verify(self) -> None:
        """Compare with the model's own forward pass once, so that no architecture is misread in silence.

        Raises:
            SimulatorError: a shared prefix, or an output layer of a few tokens, does not give what the model gives.
        """
        n_rows = min(11, self.n_rows)
        with lock_of(self._decoder), plain_pass(self.model, self.device), torch.inference_mode():
            logits = self.model(input_ids=torch.tensor([[3, 2, 1, 0]], device=self.device)).logits
        expected = logits[0, 2:, :n_rows].float().cpu().numpy()
        prefix = self.extend([None], [[3, 2]])[0]
        (found,) = self.logits([Continuation(prefix, [1, 0], [0, 1])], range(n_rows))
        if not np.abs(found - expected).max() <= _TOLERANCE * max(1.0, np.abs(expected).max()):
            raise SimulatorError(
                f"{self.name} computes its output in a way that is not known here. Use another model as the simulator."
            )

    def _batches(self, parents: Sequence[Prefix | None], texts: Sequence[Sequence[int]]) -> list[list[int]]:
        for parent, text in zip(parents, texts, strict=True):
            self._check(text, parent.end if parent else 0)
        return pack([len(text) for text in texts], [id(parent) for parent in parents], self.batch_tokens)

    def _check(self, text: Sequence[int], before: int) -> None:
        """Fail in words here; an index error on a GPU would take the whole process down."""
        rows = self.model.get_input_embeddings().weight.shape[0]
        if not text or min(text) < 0 or max(text) >= rows:
            raise SimulatorError(
                f"The simulator {self.name} knows token ids 0 to {rows - 1}; a text must have some, and no others."
            )
        if self.context is not None and before + len(text) > self.context:
            raise SimulatorError(
                f"The simulator {self.name} reads at most {self.context} tokens at once; explanation and exemplar have "
                f"{before + len(text)}. Shorten the explanation, or use shorter sequences."
            )

    def _forward(self, parents: Sequence[Prefix | None], texts: Sequence[Sequence[int]]) -> tuple[Any, torch.Tensor]:
        """One batch: the cache that it went through, and the hidden states, `(texts, longest, width)`."""
        check_stopped()
        starts = torch.tensor([parent.end if parent else 0 for parent in parents])
        longest, before = max(len(text) for text in texts), int(starts.max())
        ids = torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts])
        positions = starts[:, None] + torch.arange(longest)
        mask = None
        if int(starts.min()) < before:
            mask = torch.arange(before + longest) >= (before - starts)[:, None]
        runs = list(_runs(parents))
        cache: Any = Cache(layers=[_Behind(runs, number, before) for number in range(self._config.num_hidden_layers)])
        with lock_of(self._decoder), plain_pass(self.model, self.device), torch.inference_mode():
            output = self._decoder(
                input_ids=ids.to(self.device),
                attention_mask=None if mask is None else mask.to(self.device),
                position_ids=positions.to(self.device),
                **{cache_argument(self._decoder): cache},
                use_cache=True,
            )
        return cache, output.last_hidden_state


class _Behind(DynamicLayer):  # type: ignore[no-untyped-call]  # of transformers
    """One layer's keys and values behind those of shared prefixes, which are joined on use and not stored.

    Layers with a sliding window keep everything too; the model's own mask hides what is out of the window.
    """

    def __init__(self, runs: list[tuple[slice, Prefix]], number: int, before: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # of transformers
        self._runs, self._number, self._before = runs, number, before

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The prefixes' and these; these stay in `read`."""
        self.read = (key_states, value_states)
        if not self._before:
            return key_states, value_states
        return self._join(key_states, "keys"), self._join(value_states, "values")

    def get_seq_length(self) -> int:
        """How many tokens there are before the ones that are read now."""
        return self._before

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """How many keys there will be, and the number of the first."""
        return self._before + query_length, 0

    def _join(self, own: torch.Tensor, kind: str) -> torch.Tensor:
        rows, heads, n_own, width = own.shape
        whole = own.new_empty(rows, heads, self._before + n_own, width)
        whole[:, :, self._before :] = own
        for run, prefix in self._runs:
            whole[run, :, : self._before - prefix.end] = 0
            for part in prefix.chain():
                shared = getattr(part, kind)[self._number]
                end = self._before - (prefix.end - part.end)
                whole[run, :, end - shared.shape[1] : end] = shared
        return whole


class _Head:
    """The output layer, for a few tokens only, in float32."""

    def __init__(self, model: Any, rows: Sequence[int]) -> None:
        config, head = model.config.get_text_config(), model.get_output_embeddings()
        chosen = torch.tensor(list(rows), device=head.weight.device)
        self._weight = head.weight[chosen].detach().float()
        bias = getattr(head, "bias", None)
        self._bias = None if bias is None else bias[chosen].detach().float()
        self._scale = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
        self._cap = getattr(config, "final_logit_softcapping", None)

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """From hidden states `(n, width)` to logits `(n, rows)`."""
        with torch.inference_mode(), torch.autocast(hidden.device.type, enabled=False):
            logits = torch.nn.functional.linear(hidden.float(), self._weight, self._bias) * self._scale
            return logits if self._cap is None else torch.tanh(logits / self._cap) * self._cap


def _runs(parents: Sequence[Prefix | None]) -> Iterator[tuple[slice, Prefix]]:
    """Neighbours in a batch that share a prefix."""
    start = 0
    for _, group in groupby(parents, key=id):
        members = list(group)
        if members[0] is not None:
            yield slice(start, start + len(members)), members[0]
        start += len(members)


def _require_attention(name: str, config: Any) -> None:
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if not kinds <= _ATTENTION or not hasattr(config, "num_attention_heads"):
        raise SimulatorError(
            f"{name} has layers other than full and sliding-window attention, whose state after a prefix cannot "
            "be shared. Use another model as the simulator."
        )
