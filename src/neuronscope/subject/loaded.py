"""A transformers model and its tokenizer, as a subject."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from neuronscope.errors import SubjectError
from neuronscope.locks import lock_of
from neuronscope.subject.architectures import find_layout
from neuronscope.subject.capture import Captured, Visitor, length_mask, to_device, visit_projections
from neuronscope.subject.tokens import bos_id

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from neuronscope.units import Neuron


class LoadedSubject:
    """The model being explained, with access to its neurons.

    The model is put into evaluation mode. One forward pass of ours runs at a time, so threads may share a subject, or
    have one each of the same model; passes of its owner beside them are left alone.

    Args:
        model: a causal language model of the transformers library.
        tokenizer: its tokenizer.
        name: what people call it.
        source: what `load_subject` loads the same model from on another machine, if anything does.

    Raises:
        SubjectError: the model's layout is not supported.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str, source: str | None = None) -> None:
        self._layout = find_layout(model)
        self.model: Any = model.eval()
        """The transformers model."""
        self.tokenizer = tokenizer
        """The transformers tokenizer."""
        self.name = name
        """What people call it: an alias, a Hugging Face id, a folder's name."""
        self.source = source
        """What `load_subject` loads it from, a path in full; None for objects in hand."""
        self._bos = bos_id(tokenizer)

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

    @cached_property
    def parts(self) -> dict[str, str]:
        """Digests of configuration, weights and tokenizer, and the dtype; taken once, on first use."""
        from neuronscope.subject.fingerprint import parts

        return parts(self.model, self.tokenizer)

    @cached_property
    def fingerprint(self) -> str:
        """Names configuration, weights, tokenizer and dtype together."""
        from neuronscope.subject.fingerprint import fingerprint

        return fingerprint(self.parts)

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
        rows = self._with_bos(token_ids, length_mask([len(sequence) for sequence in token_ids]))
        self._check_input(rows)
        first = 0 if self._bos is None else 1
        with lock_of(self._layout.decoder):
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
        """Input ids padded on the right, one column wider than `mask` if there is a BOS."""
        rows = torch.zeros(mask.shape, dtype=torch.long)
        rows[mask] = torch.tensor([token for sequence in token_ids for token in sequence], dtype=torch.long)
        if self._bos is None:
            return rows
        return torch.cat([torch.full((len(rows), 1), self._bos), rows], dim=1)

    def _check_input(self, rows: torch.Tensor) -> None:
        """Fail in words here; an index error on a GPU would take the whole process down."""
        vocabulary = self.model.get_input_embeddings().weight.shape[0]
        low, high = int(rows.min()), int(rows.max())
        if low < 0 or high >= vocabulary:
            raise SubjectError(
                f"{self.name} knows token ids 0 to {vocabulary - 1}, not {low if low < 0 else high}. "
                "Tokenize with the subject's own tokenizer."
            )
        context = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        if context is not None and rows.shape[1] > context:
            raise SubjectError(
                f"{self.name} reads at most {context} tokens at once, BOS included; got {rows.shape[1]}. "
                "Use shorter sequences."
            )
