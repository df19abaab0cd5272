"""A transformers model and its tokenizer, as a subject."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch

from neuronscope.errors import SubjectError
from neuronscope.locks import lock_of
from neuronscope.subject.adapters import refuse_unread_adapters
from neuronscope.subject.capture import Captured, Visitor, length_mask, to_device, visit_projections
from neuronscope.subject.layout import find_layout
from neuronscope.subject.plain_pass import plain_pass
from neuronscope.subject.tokens import Bos, leading_ids

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from neuronscope.types import Neuron


class LoadedSubject:
    """The model being explained, with access to its neurons.

    The model is put into evaluation mode. One forward pass of ours runs at a time, so threads may share a subject, or
    have one each of the same model; passes of its owner beside them are left alone.

    Args:
        model: a causal language model of the transformers library.
        tokenizer: its tokenizer.
        name: what people call it.
        source: what `load_subject` loads the same model from on another machine, if anything does.
        bos: whether the model's BOS stands in front of every sequence: as for `load_subject`.
        trust_remote_code: whether the model was loaded with Python code of its own.

    Raises:
        SubjectError: the model's layout is not supported.
        ConfigurationError: a BOS was asked for, and the tokenizer has none.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        name: str,
        source: str | None = None,
        *,
        bos: Bos = "auto",
        trust_remote_code: bool = False,
    ) -> None:
        self._layout = find_layout(model)
        self.model: Any = model.eval()
        """The transformers model."""
        self.tokenizer = tokenizer
        """The transformers tokenizer."""
        self.name = name
        """What people call it: an alias, a Hugging Face id, a folder's name."""
        self.source = source
        """What `load_subject` loads it from, a path in full; None for objects in hand."""
        self.bos = bos
        """Whether the model's BOS stands in front of every sequence, as it was asked for."""
        self.leading_ids = leading_ids(tokenizer, bos)
        """The tokens that stand in front of every sequence; their activations are discarded."""
        self.trust_remote_code = trust_remote_code
        """Whether the model was loaded with Python code of its own."""

    def __repr__(self) -> str:
        kind = str(self.dtype).removeprefix("torch.")
        return f"LoadedSubject({self.name!r}, {self.n_layers} layers, {kind} on {self.device})"

    @property
    def n_layers(self) -> int:
        """How many layers have neurons."""
        return len(self._layout.projections)

    @property
    def dtype(self) -> torch.dtype:
        """What the forward pass computes in."""
        return next(self._layout.decoder.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where the forward pass starts."""
        return next(self._layout.decoder.parameters()).device

    @property
    def parts(self) -> dict[str, str]:
        """What the model computes with, part by part: see `subject.fingerprint`. It is read anew each time."""
        return self.identity()[1]

    @property
    def fingerprint(self) -> str:
        """Names all parts together. It is read anew each time: people train, ablate and switch adapters in place."""
        return self.identity()[0]

    def identity(self) -> tuple[str, dict[str, str]]:
        """The fingerprint and the parts that it is made of, at one reading.

        Raises:
            SubjectError: the weights are not in memory, or an adapter is active that is not read here.
        """
        from neuronscope.subject.fingerprint import fingerprint, parts

        refuse_unread_adapters(self.name, self.model)
        found = parts(self.model, self.tokenizer, self.leading_ids, self._run_once)
        return fingerprint(found), found

    def revision(self) -> tuple[Any, ...]:
        """What tells within milliseconds that the model may have changed; equal ones nearly always compute the same.

        Only writing past torch's own count of changes (`tensor.data`) leaves it as it is; `fingerprint` sees that too.
        """
        from neuronscope.subject.fingerprint import revision

        return revision(self.model)

    def _run_once(self) -> None:
        """One token through the whole trunk: what hooks keep of it is no setting of theirs."""
        ids = torch.zeros(1, 1, dtype=torch.long, device=self.device)
        with (
            lock_of(self._layout.decoder),
            plain_pass(self.model, self.device),
            torch.inference_mode(),
            suppress(Exception),
        ):
            self._layout.decoder(input_ids=ids, use_cache=False)

    def width(self, layer: int) -> int:
        """How many neurons one layer has.

        Raises:
            SubjectError: there is no such layer.
        """
        self.check_layers([layer])
        return self._layout.widths[layer]

    def check_layers(self, layers: Sequence[int]) -> None:
        """Raise a `SubjectError` that names the valid layers if one of `layers` does not exist."""
        for layer in layers:
            if not 0 <= layer < self.n_layers:
                raise SubjectError(
                    f"{self.name} has layers 0 to {self.n_layers - 1}; there is no layer {layer}. "
                    "Choose a layer in that range."
                )

    def check(self, neuron: Neuron) -> None:
        """Raise a `SubjectError` that names the valid ranges if the neuron does not exist."""
        if neuron.site != "mlp":
            raise SubjectError(
                f"{self.name} has no units at the site {neuron.site!r}. "
                "A loaded model offers its MLP neurons: site 'mlp'."
            )
        width = self.width(neuron.layer)
        if not 0 <= neuron.index < width:
            raise SubjectError(
                f"Layer {neuron.layer} of {self.name} has neurons 0 to {width - 1}; there is no neuron "
                f"{neuron.index}. Choose an index in that range."
            )

    def capture(self, token_ids: Sequence[Sequence[int]], layers: Sequence[int]) -> Captured:
        """Raw activations as `(batch, longest, width)` tensors by layer, and the mask of real tokens.

        Tensors are in the model's dtype and on its device; on a GPU nothing here waits for it.
        `neuronscope.subject.capture.capture` is the same for every kind of subject.

        Raises:
            SubjectError: a layer or a token id does not exist, or a sequence is longer than the model's context.
        """
        self.check_layers(layers)
        mask = length_mask([len(sequence) for sequence in token_ids])
        if not mask.any() or not layers:
            nothing = torch.zeros(*mask.shape, 1, dtype=self.dtype, device=self.device)
            return {layer: nothing.repeat(1, 1, self._layout.widths[layer]) for layer in layers}, mask.to(self.device)
        captured: dict[int, torch.Tensor] = {}
        self.visit(token_ids, layers, captured.__setitem__)
        return {layer: captured[layer] for layer in layers}, to_device(mask, self.device)

    def visit(self, token_ids: Sequence[Sequence[int]], layers: Sequence[int], visitor: Visitor) -> None:
        """Show each layer's raw activations, `(batch, longest, width)`, to a visitor while the model computes them.

        The visitor may overwrite padding, which no real token looks at, and nothing else.

        Raises:
            SubjectError: a layer or a token id does not exist, or a sequence is longer than the model's context.
        """
        self.check_layers(layers)
        refuse_unread_adapters(self.name, self.model)
        rows = self._with_bos(token_ids, length_mask([len(sequence) for sequence in token_ids]))
        self._check_input(rows)
        first = len(self.leading_ids)
        with lock_of(self._layout.decoder), plain_pass(self.model, self.device):
            visit_projections(
                self._layout,
                to_device(rows, self.device),
                layers,
                lambda layer, activations: visitor(layer, activations[:, first:].to(self.device)),
            )

    def activations(
        self, token_ids: Sequence[Sequence[int]], layers: Sequence[int]
    ) -> dict[int, list[NDArray[np.float32]]]:
        """Raw (signed) activations: for each layer, one float32 `(len(sequence), width)` array per sequence.

        Args:
            token_ids: sequences of any lengths, without the model's BOS: it is added here and its activation
                discarded.
            layers: layer numbers, from 0.

        Raises:
            SubjectError: a layer or a token id does not exist, or a sequence is longer than the model's context.
        """
        captured, _ = self.capture(token_ids, layers)
        lengths = [len(sequence) for sequence in token_ids]
        arrays = {layer: tensor.float().cpu().numpy() for layer, tensor in captured.items()}
        return {
            layer: [row[:length] for row, length in zip(array, lengths, strict=True)] for layer, array in arrays.items()
        }

    def _with_bos(self, token_ids: Sequence[Sequence[int]], mask: torch.Tensor) -> torch.Tensor:
        """Input ids padded on the right, wider than `mask` by the tokens in front of every sequence."""
        rows = torch.zeros(mask.shape, dtype=torch.long)
        rows[mask] = torch.tensor([token for sequence in token_ids for token in sequence], dtype=torch.long)
        leading = torch.tensor(self.leading_ids, dtype=torch.long)
        return torch.cat([leading.expand(len(rows), -1), rows], dim=1)

    def _check_input(self, rows: torch.Tensor) -> None:
        """Fail in words here; an index error on a GPU would take the whole process down."""
        vocabulary = self.model.get_input_embeddings().weight.shape[0]
        low, high = int(rows.min()), int(rows.max())
        if low < 0 or high >= vocabulary:
            own = low >= 0 and high < _size(self.tokenizer)
            raise SubjectError(
                f"{self.name} knows token ids 0 to {vocabulary - 1}, not {low if low < 0 else high}. "
                + (
                    f"Its own tokenizer has {_size(self.tokenizer)} tokens: some were added, and the model has no "
                    "embedding for them. Give it some, model.resize_token_embeddings(len(tokenizer)), or load the "
                    "tokenizer that was saved with the model."
                    if own
                    else "Tokenize with the subject's own tokenizer."
                )
            )
        context = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        if context is not None and rows.shape[1] > context:
            raise SubjectError(
                f"{self.name} reads at most {context} tokens at once, BOS included; got {rows.shape[1]}. "
                "Use shorter sequences."
            )


def _size(tokenizer: Any) -> int:
    return len(tokenizer) if hasattr(tokenizer, "__len__") else 0
