"""Functions that others have put on a model's modules, and what tells one from another.

A hook may ablate or steer, so a model with one is another subject. A function is described by its code and by what it
reaches: defaults, closures, globals, the object that it is bound to. What can change there (lists, tensors, attributes)
is its *state*. State that a pass itself writes, as a hook does that only records, is no setting, and does not count.
An object that cannot be described is known by a name that no other object ever gets, so it is never taken for another.
"""

from __future__ import annotations

import functools
import logging
import sys
import types
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules import module as torch_module

from neuronscope.digests import name_of
from neuronscope.subject.tensor_digest import digest_of_tensor

_HOOKS = ("_forward_pre_hooks", "_forward_hooks")
_NEUTRAL = ("neuronscope.", "transformers.utils.output_capturing", "accelerate.")
"""Modules whose hooks change nothing that is computed: our own, and those that record or move tensors."""
_REWRAPPED = ("accelerate.", "torch._dynamo.", "transformers.")
"""Modules that replace a module's `forward` by one that computes the same."""
_LARGEST = 2000
"""How many values a hook is followed to."""

_names: dict[int, tuple[Any, str]] = {}
"""By address: the object, weakly where that is possible, and its name."""


class Reached(NamedTuple):
    """A value that a function reaches and that can change."""

    root: str
    """The name through which it is reached: what lies behind one name is a setting, or is not, as a whole."""
    value: Any
    """The value; it is referenced, so that no other gets its address in the meantime."""
    text: str
    """Itself, or a digest."""


class Hook(NamedTuple):
    """One function on one module."""

    text: str
    """Where it is, and all of it that cannot change."""
    state: list[Reached]
    """What it reaches that can."""


def describe_hooks(decoder: nn.Module, run_once: Callable[[], None]) -> list[str]:
    """A line for each function that may change what the decoder computes; none for most models.

    Args:
        decoder: the decoder trunk.
        run_once: passes something through the decoder, so that state which a pass writes can be told from settings.
    """
    before = list(_hooks(decoder))
    if not any(hook.state for hook in before):
        return [hook.text for hook in before]
    run_once()
    after = list(_hooks(decoder))
    if [hook.text for hook in after] != [hook.text for hook in before]:  # another thread's, put on in between
        after = before
    return [f"{hook.text} {_settings(hook, then)}" for hook, then in zip(before, after, strict=True)]


def hook_ids(decoder: nn.Module) -> tuple[int, ...]:
    """Which functions are on the decoder's modules, by the address of each."""
    return tuple(id(function) for _, _, function in _functions(decoder))


def _settings(before: Hook, after: Hook) -> str:
    """A digest of the state, without what lies behind names where the pass in between has written."""
    then, now = _by_root(before.state), _by_root(after.state)
    kept = {root: [each.text for each in found] for root, found in then.items() if _same(found, now.get(root, []))}
    return name_of(kept)


def _by_root(state: list[Reached]) -> dict[str, list[Reached]]:
    roots: dict[str, list[Reached]] = {}
    for each in state:
        roots.setdefault(each.root, []).append(each)
    return roots


def _same(before: list[Reached], after: list[Reached]) -> bool:
    pairs = zip(before, after, strict=False)
    return len(before) == len(after) and all(a.text == b.text and a.value is b.value for a, b in pairs)


def _hooks(decoder: nn.Module) -> Iterator[Hook]:
    own = {id(module): name for name, module in decoder.named_modules()}
    for where, kind, function in _functions(decoder):
        description = _Description(own)
        description.add(function)
        yield Hook(f"{where} {kind} {name_of(description.lines)}", description.state)


def _functions(decoder: nn.Module) -> Iterator[tuple[str, str, Any]]:
    """Where each function is, of which kind, and the function itself."""
    for kind in ("_global_forward_pre_hooks", "_global_forward_hooks"):
        for function in getattr(torch_module, kind).values():
            if not _origin(function).startswith(_NEUTRAL):
                yield "every module", kind, function
    for name, module in decoder.named_modules():
        for kind in _HOOKS:
            for function in getattr(module, kind).values():
                if not _origin(function).startswith(_NEUTRAL):
                    yield name or "decoder", kind, function
        replaced = vars(module).get("forward")
        if replaced is not None and not _origin(replaced).startswith(_REWRAPPED):
            yield name or "decoder", "forward", replaced


def describe_code(function: Any) -> str:
    """A digest of a function's code alone; "" for one of a library, which its name tells."""
    if not isinstance(function, types.FunctionType) or _is_of_library(function):
        return ""
    description = _Description({})
    list(description.add_code(function.__code__))
    return name_of(description.lines)


def _origin(function: Any) -> str:
    """The module that a function was written in; of a partial, the one of the function inside."""
    while isinstance(function, functools.partial):
        function = function.func
    return f"{getattr(function, '__module__', None) or type(function).__module__}."


class _Description:
    """What a function is made of, line by line, and what it reaches that can change."""

    def __init__(self, modules: Mapping[int, str]) -> None:
        self.lines: list[str] = []
        self.state: list[Reached] = []
        self._modules = modules
        self._seen: set[int] = set()
        self._root: str | None = None

    def add(self, value: Any) -> None:
        """Describe a value."""
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes, torch.dtype, torch.device)):
            self._note(value, repr(value))
        elif id(value) in self._seen or len(self._seen) > _LARGEST:
            self._note(value, "again")
        else:
            self._seen.add(id(value))
            self._add_object(value)

    def add_code(self, code: types.CodeType) -> Iterator[str]:
        """Describe code; yields the names that it looks up."""
        self._note(code, name_of([code.co_code.hex(), code.co_varnames, code.co_names]))
        yield from code.co_names
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                yield from self.add_code(constant)
            else:
                self._note(constant, repr(constant))

    def _note(self, value: Any, text: str) -> None:
        if self._root is None:
            self.lines.append(text)
        else:
            self.state.append(Reached(self._root, value, text))

    def _add_object(self, value: Any) -> None:
        kind = type(value)
        if id(value) in self._modules:
            self._note(value, f"module {self._modules[id(value)]}")
        elif isinstance(value, torch.Tensor):
            self._add_changeable("tensor", {"": value}, lambda each: self._note(each, digest_of_tensor(each)))
        elif isinstance(value, types.FunctionType):
            self._add_function(value)
        elif isinstance(value, types.MethodType):
            self._add_all(value, [value.__func__, value.__self__])
        elif isinstance(value, functools.partial):
            self._add_all(value, [value.func, *value.args, *value.keywords.items()])
        elif isinstance(value, (tuple, frozenset)):
            self._add_all(value, sorted(value, key=repr) if kind is frozenset else value)
        elif isinstance(value, (list, set)):
            self._add_changeable(kind.__name__, dict(enumerate(sorted(value, key=repr) if kind is set else value)))
        elif isinstance(value, dict):
            self._add_changeable("dict", value)
        elif isinstance(value, (types.ModuleType, type)):
            self._note(value, f"{value.__name__} of {getattr(value, '__module__', '')}")
        elif isinstance(value, types.BuiltinFunctionType):
            owner = [] if isinstance(value.__self__, types.ModuleType) else [value.__self__]
            self._add_all(value.__qualname__, owner)
        elif isinstance(value, nn.Module):
            self._add_changeable(kind.__qualname__, dict(enumerate([*value.parameters(), *value.buffers()])))
        elif isinstance(value, logging.Logger):
            self._note(value, "logger")
        elif kind.__module__ == "numpy":
            self._add_changeable("array", {"": value}, lambda each: self._note(each, name_of(each.tolist())))
        else:
            library = kind.__module__.startswith("torch.nn.utils")
            self._note(value, kind.__qualname__ if library else _name_of(value))
            for name, each in getattr(value, "__dict__", {}).items():
                self._add_changeable(name, {"": each})

    def _add_all(self, value: Any, parts: Iterable[Any]) -> None:
        self._note(value, value if isinstance(value, str) else type(value).__name__)
        for part in parts:
            self.add(part)

    def _add_changeable(self, name: str, parts: Mapping[Any, Any], add: Callable[[Any], None] | None = None) -> None:
        """Describe what lies behind one name that can be written to: it is a setting, or it is not, as a whole."""
        outer = self._root
        self._root = name if outer is None else outer
        for key, part in parts.items():
            self._note(key, repr(key))
            (add or self.add)(part)
        self._root = outer

    def _add_function(self, function: types.FunctionType) -> None:
        self._note(function, f"{function.__module__}.{function.__qualname__}")
        if _is_of_library(function):
            return
        names = list(self.add_code(function.__code__))
        for value in (function.__defaults__ or (), tuple((function.__kwdefaults__ or {}).items())):
            self.add(value)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
            if _is_filled(cell):
                self._add_changeable(name, {"": cell.cell_contents})
        for name in names:
            if name in function.__globals__:
                self._add_changeable(name, {"": function.__globals__[name]})


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - an empty cell raises
    except ValueError:
        return False
    return True


def _is_of_library(function: types.FunctionType) -> bool:
    file = function.__code__.co_filename
    return "site-packages" in file or "dist-packages" in file or function.__module__.split(".")[0] in _STANDARD


_STANDARD = sys.stdlib_module_names


def _name_of(value: Any) -> str:
    """A name that this object keeps and no other ever gets, though addresses are used again."""
    known = _names.get(id(value))
    if known is not None and (known[0]() if isinstance(known[0], weakref.ref) else known[0]) is value:
        return known[1]
    try:
        reference: Any = weakref.ref(value)
    except TypeError:
        reference = value
    _names[id(value)] = (reference, uuid.uuid4().hex)
    return _names[id(value)][1]
