"""Forward passes that read neurons and go no further than the deepest layer asked for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from functools import cache, partial
from typing import Any, Protocol, runtime_checkable

import torch

from neuronscope.errors import SubjectError
from neuronscope.interfaces import Subject
from neuronscope.locks import in_forked_child
from neuronscope.subject.layout import Layout

Captured = tuple[dict[int, torch.Tensor], torch.Tensor]
"""Activations `(batch, longest, width)` by layer, and a boolean mask `(batch, longest)` of real tokens."""
Visitor = Callable[[int, torch.Tensor], None]
"""Takes a layer's number and its activations `(batch, longest, width)`."""


@runtime_checkable
class TensorSubject(Subject, Protocol):
    """A subject that hands out whole batches as tensors, with no detour through numpy."""

    def capture(self, token_ids: Sequence[Sequence[int]], layers: Sequence[int]) -> Captured:
        """Activations as tensors in the model's dtype and on its device."""


@runtime_checkable
class VisitedSubject(Subject, Protocol):
    """A subject that hands out a layer's activations at the moment it computes them."""

    def visit(self, token_ids: Sequence[Sequence[int]], layers: Sequence[int], visitor: Visitor) -> None:
        """Call the visitor for each layer in turn, down to the deepest; it may overwrite padding, and keep nothing."""


class _DeepestLayerReached(Exception):  # noqa: N818 - a signal, not an error
    """Ends a forward pass."""


_pass_under_way: ContextVar[object] = ContextVar("pass_under_way", default=None)
"""Which of our forward passes this thread is in; every other pass through a hooked module is somebody else's."""


class ProjectionReader:
    """The hook that shows an output projection's input to a visitor: in its own forward pass, and in no other.

    While it is on a model, other threads, the model's owner among them, may run the model too. Theirs goes on as if it
    were not there.
    """

    def __init__(self, own_pass: object, show: Callable[[torch.Tensor], None], *, deepest: bool) -> None:
        self._own_pass = own_pass
        self._show = show
        self._deepest = deepest

    def __call__(self, _module: torch.nn.Module, arguments: Any) -> None:
        """Read, and end the pass where nothing more is wanted."""
        if _pass_under_way.get() is not self._own_pass:
            return
        inside = _pass_under_way.set(None)  # a visitor may use the model itself
        try:
            self._show(arguments[0])
        finally:
            _pass_under_way.reset(inside)
        if self._deepest:
            raise _DeepestLayerReached


def capture(subject: Subject, token_ids: Sequence[Sequence[int]], layers: Sequence[int]) -> Captured:
    """Raw (signed) activations of whole layers, as padded tensors.

    Args:
        subject: any subject; a loaded one answers in its own dtype and on its own device.
        token_ids: sequences of any lengths, without the model's BOS, which the subject adds and discards.
        layers: layer numbers, from 0.

    Returns:
        For each layer one `(batch, longest, width)` tensor, and the boolean mask `(batch, longest)` of real tokens.
        Values where the mask is False mean nothing.
    """
    if isinstance(subject, TensorSubject):
        return subject.capture(token_ids, layers)
    arrays = subject.activations(token_ids, layers)
    mask = length_mask([len(sequence) for sequence in token_ids])
    return {layer: _padded(arrays[layer], mask, subject.width(layer)) for layer in layers}, mask


def visit(subject: Subject, token_ids: Sequence[Sequence[int]], layers: Sequence[int], visitor: Visitor) -> None:
    """Show whole layers' raw activations to a visitor, one layer at a time, where the subject can do so.

    So only one layer is held at once, and it is still in the processor's cache. The visitor may overwrite padding.
    """
    if isinstance(subject, VisitedSubject):
        subject.visit(token_ids, layers, visitor)
        return
    captured, _ = capture(subject, token_ids, layers)
    for layer in sorted(captured):
        activations = captured.pop(layer)
        # A subject of one's own may hand out what it keeps.
        visitor(layer, activations.clone() if isinstance(subject, TensorSubject) else activations)


def length_mask(lengths: Sequence[int]) -> torch.Tensor:
    """Boolean `(batch, longest)`: True for the first `lengths[i]` positions of row i."""
    return torch.arange(max(lengths, default=0)) < torch.tensor(lengths, dtype=torch.long)[:, None]


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Send a small tensor to the model's device; towards CUDA from pinned memory, so that nothing waits for it."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def visit_projections(layout: Layout, input_ids: torch.Tensor, layers: Sequence[int], visitor: Visitor) -> None:
    """Show the inputs of the asked layers' output projections, `(batch, length, width)` each.

    One forward pass of the decoder trunk serves all layers; it stops at the deepest, and logits are never computed.
    Sequences are padded on the right, where a causal model's real tokens never look: so there is no attention mask,
    which would cost time. Nothing waits for a GPU. Passes of other threads through the same model are left alone.
    """
    deepest, own_pass = max(layers), object()
    seen: set[int] = set()

    def show(layer: int, projected: torch.Tensor) -> None:
        seen.add(layer)
        visitor(layer, projected.reshape(*input_ids.shape, -1))

    hooks = [
        layout.projections[layer].register_forward_pre_hook(
            ProjectionReader(own_pass, partial(show, layer), deepest=layer == deepest)
        )
        for layer in set(layers)
    ]
    entered = _pass_under_way.set(own_pass)
    try:
        with torch.inference_mode(), suppress(_DeepestLayerReached):
            memory = cache_argument(layout.decoder)
            layout.decoder(input_ids=input_ids, use_cache=False, **{memory: _forgetful_cache()})
    finally:
        _pass_under_way.reset(entered)
        for hook in hooks:
            hook.remove()
    missing = sorted(set(layers) - seen)
    if missing:
        raise SubjectError(
            f"The forward pass never called the output projection of layer {missing[0]}. Load the model with its "
            "default settings: tensor-parallel emulation and custom kernels can bypass it."
        )


def cache_argument(decoder: torch.nn.Module) -> str:
    """What a decoder calls the cache that it is given: newer versions of transformers have renamed it."""
    return "cache" if "cache" in inspect.signature(decoder.forward).parameters else "past_key_values"


@cache
def _forgetful_cache() -> Any:
    """A cache that keeps nothing.

    Without mask and cache, transformers looks in the position ids for sequences packed into one row, and waits for the
    device to find none (`find_packed_sequence_indices`); with a cache there is nothing to look for.
    """
    from transformers import DynamicCache

    class ForgetfulCache(DynamicCache):
        def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
            return key_states, value_states

    return ForgetfulCache()


def _compute_in_one_thread() -> None:
    """A fork does not copy the threads that OpenMP keeps for torch, and waits for them for ever."""
    torch.set_num_threads(1)


in_forked_child(_compute_in_one_thread)


def _padded(arrays: Sequence[Any], mask: torch.Tensor, width: int) -> torch.Tensor:
    padded = torch.zeros(*mask.shape, width)
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = torch.as_tensor(array)
    return padded
