"""Simulators that were trained to be nothing else: Transluce's, and any checkpoint of the same form."""

from __future__ import annotations

import os
from copy import deepcopy
from typing import Any

import torch

from neuronscope.errors import SimulatorError
from neuronscope.locks import lock_of
from neuronscope.simulators.alignment import align
from neuronscope.simulators.causal_lm import CausalModel
from neuronscope.simulators.matrix import CausalSimulator, Text
from neuronscope.subject.tokens import bos_id
from neuronscope.types import Exemplar

TRANSLUCE = "Transluce/llama_8b_simulator"
"""The simulator of the paper's scores, fine-tuned from Llama-3.1-8B-Instruct."""
PROMPT = "## Neuron Description: {explanation}\n\n ## Input: "
"""What stands before the exemplar, behind the model's BOS."""
N_LEVELS = 11
"""The first output tokens are not words but the activations 0 to 10."""
PADDING = "<PAD>"
ALIAS_OF = {
    "<|begin_of_text|>": "<||begin_of_text||>",
    "<|start_header_id|>": "<||start_header_id||>",
    "<|end_header_id|>": "<||end_header_id||>",
    "<|eot_id|>": "<||eot_id||>",
}
"""Llama's special tokens, and those that stand for them in a checkpoint that keeps the originals for chats."""


ALIAS_TOKENS = "alias_tokens"
"""In a checkpoint's configuration: False says that it has no aliases, however many rows it has."""


class FinetunedSimulator(CausalSimulator):
    """Predicts activations with a causal language model whose first eleven outputs are the levels 0 to 10.

    The model reads its BOS, the explanation within `PROMPT`, and the exemplar's tokens; the level of a token is read at
    the token itself. The special tokens of `ALIAS_OF` are replaced by their aliases with doubled bars throughout, the
    BOS included, if the checkpoint has the aliases: in its tokenizer's vocabulary, or as the first rows by which its
    embedding is larger than that vocabulary, after one for `PADDING`. That is how Transluce's own code reads a
    checkpoint; rows beyond these, such as those that round their number up to a multiple of 64, have no token. A
    checkpoint of `examples/train_simulator` says that it has no aliases.

    An exemplar keeps the subject's token ids if they mean the same to the simulator. Otherwise its text is read with
    the simulator's tokenizer, and a token takes the largest value of the simulator's tokens that overlap it.

    Args:
        source: Transluce's checkpoint, or another of this form: a Hugging Face id, a folder, or `(model, tokenizer)`.
        device: as for `load_subject`.
        dtype: as for `load_subject`.

    Raises:
        SimulatorError: there is no such model, or it is no simulator: its vocabulary is too small.
        ConfigurationError: there is no such device or dtype.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | tuple[Any, Any] = TRANSLUCE,
        *,
        device: str = "auto",
        dtype: str | torch.dtype = "auto",
    ) -> None:
        model = CausalModel(source, device=device, dtype=dtype)
        n_embeddings, n_tokens = model.model.get_input_embeddings().weight.shape[0], len(model.tokenizer)
        if model.n_rows < N_LEVELS or n_embeddings < n_tokens:
            raise SimulatorError(
                f"{model.name} is no simulator checkpoint: it has {n_embeddings} embeddings and {model.n_rows} outputs "
                f"for the {n_tokens} tokens of its tokenizer and {N_LEVELS} levels. Give Transluce's checkpoint, "
                "or a folder that examples/train_simulator has written."
            )
        super().__init__(model, range(N_LEVELS), range(N_LEVELS))
        has_aliases = getattr(model.model.config, ALIAS_TOKENS, True)
        self._tokenizer = complete_tokenizer(model.tokenizer, n_embeddings) if has_aliases else model.tokenizer
        self._aliases = _alias_ids(self._tokenizer)
        self.name = f"transluce:{model.name}"
        """What to ask for to get this simulator."""

    def explanation_ids(self, explanation: str) -> list[int]:
        """BOS, if the tokenizer has one, and the explanation in its frame."""
        bos = bos_id(self._tokenizer)
        with lock_of(self._tokenizer):
            ids = self._tokenizer(PROMPT.format(explanation=explanation), add_special_tokens=False)["input_ids"]
        return self._with_aliases([*([] if bos is None else [bos]), *ids])

    def text(self, exemplar: Exemplar) -> Text:
        """The exemplar's tokens, each of which is read at its own place."""
        aligned = align(exemplar.tokens, self._tokenizer, exemplar.token_ids)
        return Text(self._with_aliases(aligned.token_ids), range(len(aligned.token_ids)), aligned.project)

    def _with_aliases(self, ids: list[int]) -> list[int]:
        return [self._aliases.get(token, token) for token in ids]


def complete_tokenizer(tokenizer: Any, n_embeddings: int) -> Any:
    """The tokenizer with `PADDING` and the aliases, if the embedding has rows for them; added as in the reference.

    A tokenizer that names some of the aliases itself has no others, unless the rows are exactly as many as are missing.

    Args:
        tokenizer: a transformers tokenizer; it is not changed.
        n_embeddings: rows of the model's embedding.
    """
    vocabulary = tokenizer.get_vocab()
    padding = [token for token in [PADDING] if token not in vocabulary]
    aliases = [alias for original, alias in ALIAS_OF.items() if original in vocabulary and alias not in vocabulary]
    names_some = any(alias in vocabulary for alias in ALIAS_OF.values())
    room, wanted = n_embeddings - len(tokenizer), len(padding) + len(aliases)
    completed = deepcopy(tokenizer)
    if padding and room > 0:
        completed.add_special_tokens({"pad_token": PADDING})
    if aliases and (room == wanted or (room > wanted and not names_some)):
        completed.add_tokens(aliases)
    return completed


def _alias_ids(tokenizer: Any) -> dict[int, int]:
    vocabulary = tokenizer.get_vocab()
    return {
        vocabulary[original]: vocabulary[alias]
        for original, alias in ALIAS_OF.items()
        if original in vocabulary and alias in vocabulary
    }
