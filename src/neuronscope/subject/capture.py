"""Forward passes that read units of any sites, and go no further than the deepest tensor that is asked for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from functools import cache, partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch

from neuronscope.errors import SubjectError
from neuronscope.interfaces import Site, Subject, Tap
from neuronscope.locks import in_forked_child
from neuronscope.subject.sites import activations_at, check_site, width_of
from neuronscope.types import MLP, HookPoint

Captured = tuple[dict[int, torch.Tensor], torch.Tensor]
"""Activations `(batch, longest, width)` by layer, and a boolean mask `(batch, longest)` of real tokens."""
Visitor = Callable[[HookPoint, torch.Tensor], None]
"""Takes a hook point and its activations `(batch, longest, width)`."""


@runtime_checkable
class TensorSubject(Subject, Protocol):
    """A subject that hands out whole batches as tensors, with no detour through numpy."""

    def capture(self, token_ids: Sequence[Sequence[int]], layers: Sequence[int], site: str = MLP) -> Captured:
        """Activations as tensors in the model's dtype and on its device."""


@runtime_checkable
class VisitedSubject(Subject, Protocol):
    """A subject that hands out a layer's activations at the moment it computes them."""

    def visit(self, token_ids: Sequence[Sequence[int]], points: Sequence[HookPoint], visitor: Visitor) -> None:
        """Call the visitor for each hook point, as the pass reaches it; it may overwrite padding, and keep nothing."""


class _DeepestTapReached(Exception):  # noqa: N818 - a signal, not an error
    """Ends a forward pass."""


_pass_under_way: ContextVar[object] = ContextVar("pass_under_way", default=None)
"""Which of our forward passes this thread is in; every other pass through a hooked module is somebody else's."""


class TapReader:
    """The hooks that take one tensor from a module: in their own forward pass, and in no other.

    While they are on a model, other threads, the model's owner among them, may run the model too. Theirs goes on as if
    they were not there.

    Args:
        own_pass: the forward pass.
        tap: what to take.
        take: gets the tensor; True ends the pass, since nothing more is wanted.
    """

    def __init__(self, own_pass: object, tap: Tap, take: Callable[[torch.Tensor], bool]) -> None:
        self._own_pass = own_pass
        self._tap = tap
        self._take = take

    def register(self) -> torch.utils.hooks.RemovableHandle:
        """Put the hook on its module."""
        if self._tap.side == "input":
            return self._tap.module.register_forward_pre_hook(self._before, with_kwargs=True)
        return self._tap.module.register_forward_hook(self._after)

    def _before(self, module: torch.nn.Module, arguments: Any, named: Mapping[str, Any]) -> None:
        if _pass_under_way.get() is self._own_pass:
            by_name = isinstance(self._tap.item, str)
            self._read(_by_name(module, arguments, named) if by_name else [*arguments, *named.values()])

    def _after(self, _module: torch.nn.Module, _arguments: Any, output: Any) -> None:
        if _pass_under_way.get() is self._own_pass:
            self._read(output)

    def _read(self, values: Any) -> None:
        inside = _pass_under_way.set(None)  # a visitor may use the model itself
        try:
            finished = self._take(self._chosen(values))
        finally:
            _pass_under_way.reset(inside)
        if finished:
            raise _DeepestTapReached

    def _chosen(self, values: Any) -> torch.Tensor:
        try:
            chosen = values if isinstance(values, torch.Tensor) else values[self._tap.item]
        except (LookupError, TypeError):
            chosen = None
        if not isinstance(chosen, torch.Tensor):
            raise SubjectError(
                f"A site taps {self._tap.side} {self._tap.item!r} of a {type(self._tap.module).__name__}, which has no "
                "such tensor. Name another with Tap(module, side, item)."
            )
        return chosen


def _by_name(module: torch.nn.Module, arguments: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    names = inspect.signature(module.forward).parameters
    return dict(zip(names, arguments, strict=False)) | dict(named)


def capture(subject: Subject, token_ids: Sequence[Sequence[int]], layers: Sequence[int], site: str = MLP) -> Captured:
    """Raw (signed) activations of whole layers, as padded tensors.

    Args:
        subject: any subject; a loaded one answers in its own dtype and on its own device.
        token_ids: sequences of any lengths, without the model's BOS, which the subject adds and discards.
        layers: layer numbers, from 0.
        site: where the units are.

    Returns:
        For each layer one `(batch, longest, width)` tensor, and the boolean mask `(batch, longest)` of real tokens.
        Values where the mask is False mean nothing.
    """
    if isinstance(subject, TensorSubject):
        if site == MLP:
            return subject.capture(token_ids, layers)
        check_site(subject, site)
        return subject.capture(token_ids, layers, site)
    arrays = activations_at(subject, token_ids, layers, site)
    mask = length_mask([len(sequence) for sequence in token_ids])
    widths = {layer: width_of(subject, HookPoint(layer, site)) for layer in layers}
    return {layer: _padded(arrays[layer], mask, width) for layer, width in widths.items()}, mask


def visit(subject: Subject, token_ids: Sequence[Sequence[int]], points: Sequence[HookPoint], visitor: Visitor) -> None:
    """Show whole layers' raw activations to a visitor, one hook point at a time, where the subject can do so.

    So only one layer is held at once, and it is still in the processor's cache. The visitor may overwrite padding.
    """
    if isinstance(subject, VisitedSubject):
        subject.visit(token_ids, points, visitor)
        return
    for site in sorted({point.site for point in points}):
        captured, _ = capture(subject, token_ids, [point.layer for point in points if point.site == site], site)
        for layer in sorted(captured):
            activations = captured.pop(layer)
            # A subject of one's own may hand out what it keeps.
            copied = activations.clone() if isinstance(subject, TensorSubject) else activations
            visitor(HookPoint(layer, site), copied)


def length_mask(lengths: Sequence[int]) -> torch.Tensor:
    """Boolean `(batch, longest)`: True for the first `lengths[i]` positions of row i."""
    return torch.arange(max(lengths, default=0)) < torch.tensor(lengths, dtype=torch.long)[:, None]


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Send a small tensor to the model's device; towards CUDA from pinned memory, so that nothing waits for it."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class SiteTaps(NamedTuple):
    """What one hook point reads of a model."""

    site: Site
    taps: Sequence[Tap]
    width: int


class _Pass:
    """What a forward pass has still to show.

    Args:
        shape: batch and length of its input.
        wanted: what each hook point reads.
        visitor: sees each hook point's activations, when the last of its taps has been reached.
    """

    def __init__(self, shape: torch.Size, wanted: Mapping[HookPoint, SiteTaps], visitor: Visitor) -> None:
        self._shape = shape
        self._wanted = wanted
        self._visitor = visitor
        self.waiting: dict[HookPoint, dict[int, torch.Tensor]] = {point: {} for point in wanted}
        """By hook point that has not been shown: the tensors that have come in, by the position of their tap."""

    def take(self, point: HookPoint, position: int, tensor: torch.Tensor) -> bool:
        """Take in a tensor; whether nothing is wanted any more."""
        found, site_taps = self.waiting.get(point), self._wanted[point]
        if found is None or position in found:  # the module is called once more
            return False
        rows = self._as_rows(point, tensor)
        if len(found) + 1 < len(site_taps.taps):
            found[position] = rows.clone()  # the model may go on to write into its own
            return False
        found[position] = rows
        del self.waiting[point]
        units = site_taps.site.read([found[i] for i in range(len(found))], point.layer)
        self._visitor(point, self._as_batch(point, units))
        return not self.waiting

    def _as_rows(self, point: HookPoint, tensor: torch.Tensor) -> torch.Tensor:
        n_tokens = self._shape.numel()
        if tensor.ndim < 2 or tensor.numel() != n_tokens * tensor.shape[-1]:
            raise SubjectError(
                f"{point} taps a tensor of shape {tuple(tensor.shape)} in a pass over {n_tokens} tokens: a site reads "
                "tensors with one row for each token. In a mixture of experts, each expert sees only its own."
            )
        return tensor.reshape(n_tokens, -1)

    def _as_batch(self, point: HookPoint, units: torch.Tensor | tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        width = self._wanted[point].width
        if isinstance(units, tuple):
            indices, values = units
            dense = torch.zeros(len(values), width, dtype=values.dtype, device=values.device)
            units = dense.scatter_add_(1, indices.long(), values)
        if units.shape != (self._shape.numel(), width):
            raise SubjectError(
                f"The site {point.site!r} reads activations of shape {tuple(units.shape)} in layer {point.layer}; "
                f"{(self._shape.numel(), width)} is expected: tokens, and the width that it has said."
            )
        return units.reshape(*self._shape, width)


def visit_taps(
    decoder: torch.nn.Module, input_ids: torch.Tensor, wanted: Mapping[HookPoint, SiteTaps], visitor: Visitor
) -> None:
    """Show the activations of the asked hook points, `(batch, length, width)` each.

    One forward pass of the decoder trunk serves all; it stops at the deepest tap, and logits are never computed.
    Sequences are padded on the right, where a causal model's real tokens never look: so there is no attention mask,
    which would cost time. Nothing waits for a GPU. Passes of other threads through the same model are left alone.
    """
    own_pass, under_way = object(), _Pass(input_ids.shape, wanted, visitor)
    hooks = [
        TapReader(own_pass, tap, partial(under_way.take, point, position)).register()
        for point, site_taps in wanted.items()
        for position, tap in enumerate(site_taps.taps)
    ]
    entered = _pass_under_way.set(own_pass)
    try:
        with torch.inference_mode(), suppress(_DeepestTapReached):
            run_trunk(decoder, input_ids, **{cache_argument(decoder): _forgetful_cache()})
    finally:
        _pass_under_way.reset(entered)
        for hook in hooks:
            hook.remove()
    if under_way.waiting:
        first = min(under_way.waiting)
        raise SubjectError(
            f"The forward pass never called what the site {first.site!r} reads in layer {first.layer}. Load the model "
            "with its default settings: tensor-parallel emulation and custom kernels can bypass it."
        )


def run_trunk(decoder: torch.nn.Module, input_ids: torch.Tensor, **options: Any) -> None:
    """Run a decoder on token ids, whatever it calls them, with those of the options that it takes."""
    parameters = inspect.signature(decoder.forward).parameters
    takes_any = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    options = {"use_cache": False} | options
    accepted = {name: value for name, value in options.items() if takes_any or name in parameters}
    if takes_any or "input_ids" in parameters:
        decoder(input_ids=input_ids, **accepted)
    else:
        decoder(input_ids, **accepted)


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
