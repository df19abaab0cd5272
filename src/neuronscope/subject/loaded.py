"""A transformers model and its tokenizer, as a subject."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch

from neuronscope.errors import SubjectError
from neuronscope.locks import lock_of
from neuronscope.subject.adapters import refuse_unread_adapters
from neuronscope.subject.capture import Captured, SiteTaps, Visitor, length_mask, run_trunk, to_device, visit_taps
from neuronscope.subject.input_check import check_input
from neuronscope.subject.layout import AnyLayout, describe_layout, find_parts
from neuronscope.subject.plain_pass import plain_pass
from neuronscope.subject.sites import check_neuron, check_site, site_named, site_names
from neuronscope.subject.tokens import Bos, leading_ids
from neuronscope.types import MLP, HookPoint

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

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
        layout: where a model of unusual build has its neurons: as for `load_subject`.

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
        layout: AnyLayout | None = None,
    ) -> None:
        self._parts = find_parts(model, layout)
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
        self.layout = layout
        """Where its neurons are, as the user has described it; None where that was found."""

    def __repr__(self) -> str:
        kind = str(self.dtype).removeprefix("torch.")
        return f"LoadedSubject({self.name!r}, {self.n_layers} layers, {kind} on {self.device})"

    @property
    def n_layers(self) -> int:
        """How many layers have neurons."""
        return len(self._parts.projections)

    @property
    def layers(self) -> tuple[nn.Module, ...]:
        """The decoder's layers, from 0: what sites tap.

        Raises:
            SubjectError: a layout names its projections one by one, and so not its layers.
        """
        if not self._parts.layers:
            raise SubjectError(
                f"Where {self.name} has its layers is not known: its layout names projections only. Give "
                "load_subject(..., layout=ns.Layout(layers=..., mlp_output=...))."
            )
        return self._parts.layers

    @property
    def projections(self) -> tuple[nn.Module, ...]:
        """Each layer's MLP's output projection, whose inputs are the neurons."""
        return self._parts.projections

    @property
    def sites(self) -> tuple[str, ...]:
        """The names of all registered sites."""
        return site_names()

    @property
    def dtype(self) -> torch.dtype:
        """What the forward pass computes in."""
        return next(self._parts.decoder.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where the forward pass starts."""
        return next(self._parts.decoder.parameters()).device

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
        found = parts(self.model, self._parts.decoder, self.tokenizer, self.leading_ids, self._run_once)
        if self.layout is not None:
            found["layout"] = describe_layout(self.layout)
        return fingerprint(found), found

    def revision(self) -> tuple[Any, ...]:
        """What tells within milliseconds that the model may have changed; equal ones nearly always compute the same.

        Only writing past torch's own count of changes (`tensor.data`) leaves it as it is; `fingerprint` sees that too.
        """
        from neuronscope.subject.fingerprint import revision

        return revision(self.model, self._parts.decoder)

    def _run_once(self) -> None:
        """One token through the whole trunk: what hooks keep of it is no setting of theirs."""
        ids = torch.zeros(1, 1, dtype=torch.long, device=self.device)
        with (
            lock_of(self._parts.decoder),
            plain_pass(self.model, self.device),
            torch.inference_mode(),
            suppress(Exception),
        ):
            run_trunk(self._parts.decoder, ids)

    def width(self, layer: int, site: str = MLP) -> int:
        """How many neurons one layer has, or units of another site.

        Raises:
            SubjectError: there is no such layer or site.
        """
        self.check_layers([layer])
        check_site(self, site)
        return site_named(site).width(self, layer)

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
        check_neuron(self, neuron)

    def capture(self, token_ids: Sequence[Sequence[int]], layers: Sequence[int], site: str = MLP) -> Captured:
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
            return {layer: nothing.repeat(1, 1, self.width(layer, site)) for layer in layers}, mask.to(self.device)
        captured: dict[HookPoint, torch.Tensor] = {}
        points = [HookPoint(layer, site) for layer in layers]
        self.visit(token_ids, points, captured.__setitem__)
        return {point.layer: captured[point] for point in points}, to_device(mask, self.device)

    def visit(self, token_ids: Sequence[Sequence[int]], points: Sequence[HookPoint], visitor: Visitor) -> None:
        """Show raw activations, `(batch, longest, width)` of each hook point, to a visitor as the model computes them.

        The visitor may overwrite padding, which no real token looks at, and nothing else.

        Raises:
            SubjectError: a layer, a site or a token id does not exist, or a sequence is longer than the context.
        """
        wanted = {point: self._taps(point) for point in points}
        refuse_unread_adapters(self.name, self.model)
        rows = self._with_bos(token_ids, length_mask([len(sequence) for sequence in token_ids]))
        check_input(self.name, self.model, self.tokenizer, rows)
        first = len(self.leading_ids)
        with lock_of(self._parts.decoder), plain_pass(self.model, self.device):
            visit_taps(
                self._parts.decoder,
                to_device(rows, self.device),
                wanted,
                lambda point, activations: visitor(point, activations[:, first:].to(self.device)),
            )

    def _taps(self, point: HookPoint) -> SiteTaps:
        width = self.width(point.layer, point.site)
        site = site_named(point.site)
        return SiteTaps(site, site.taps(self, point.layer), width)

    def activations(
        self, token_ids: Sequence[Sequence[int]], layers: Sequence[int], site: str = MLP
    ) -> dict[int, list[NDArray[np.float32]]]:
        """Raw (signed) activations: for each layer, one float32 `(len(sequence), width)` array per sequence.

        Args:
            token_ids: sequences of any lengths, without the model's BOS: it is added here and its activation
                discarded.
            layers: layer numbers, from 0.
            site: where the units are.

        Raises:
            SubjectError: a layer, a site or a token id does not exist, or a sequence is longer than the context.
        """
        captured, _ = self.capture(token_ids, layers, site)
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
