"""A short name for exactly what a model computes: another weight, adapter, hook, setting or dtype gives another name.

It is taken whenever something is looked up by it, not once when the model is loaded, since people train, prune, ablate
and switch adapters in place. So it is cheap: the bits of all weights are read once, which costs about as much as one
token's forward pass.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from neuronscope.subject.digests import digest_of, digest_of_tensor
from neuronscope.subject.hooks import describe_code, describe_hooks, hook_ids

SCHEME = "2"
"""Version of what a fingerprint covers; another one gives other names, so that nothing made under an older is found."""
_VOLATILE = {"architectures", "dtype", "torch_dtype", "transformers_version", "use_cache"}
"""Configuration entries that say how a model was saved, not what it computes."""
_COMPILED = "_orig_mod."
"""What torch.compile puts before the names of what is inside."""
_ADAPTER_FLAGS = ("_active_adapter", "_disable_adapters", "merged_adapters")
"""Where PEFT's layers keep which adapters count."""
_REBUILT = {"dynamic", "longrope"}
"""Rotary tables of these kinds are made anew for every length."""
_DEPTH = 4
"""How deep numbers are looked for in lists and dictionaries."""

_tokenizers: WeakKeyDictionary[Any, tuple[str, str]] = WeakKeyDictionary()
"""Of tokenizers: a digest of what is small in them, and of all."""


def parts(
    model: Any,
    decoder: nn.Module,
    tokenizer: Any,
    leading: Sequence[int],
    run_once: Callable[[], None] = lambda: None,
) -> dict[str, str]:
    """What makes a model this one, in digests and words, independent of the device and of how it was loaded.

    `scheme` is the version of this list. `configuration`, `weights` (all parameters in order), `buffers` (such as
    quantised weights and masks of pruning), `modules` (the decoder's kinds of modules, and the numbers in them, such
    as an adapter's scale), `adapters` (which are active), `hooks`, `tokenizer`, `bos` (what stands in front of every
    text), and the `dtype`.

    Training mode is not among them: every pass of ours runs in evaluation mode.

    Args:
        model: a transformers model, or one of PEFT around it.
        decoder: its decoder trunk.
        tokenizer: its tokenizer.
        leading: the tokens in front of every text.
        run_once: passes something through the decoder: see `hooks`.
    """
    model = getattr(model, "_orig_mod", model)
    hooks = describe_hooks(decoder, run_once)
    parameters = [(_plain(name), parameter) for name, parameter in model.named_parameters()]
    return {
        "scheme": SCHEME,
        "configuration": digest_of(_configuration(getattr(model, "config", None))),
        "weights": digest_of([[name, digest_of_tensor(each), *_beside(each)] for name, each in parameters]),
        "buffers": digest_of([[name, digest_of_tensor(each)] for name, each in _buffers(model)]),
        "modules": digest_of(list(_modules(decoder))),
        "adapters": _adapters(decoder),
        "hooks": f"{len(hooks)}, {digest_of(hooks)}" if hooks else "none",
        "tokenizer": _tokenizer(tokenizer),
        "bos": " ".join(map(str, leading)) or "none",
        "dtype": " and ".join(sorted({str(each.dtype).removeprefix("torch.") for _, each in parameters})),
    }


def fingerprint(parts: dict[str, str]) -> str:
    """One name for all parts."""
    return digest_of(parts)


def revision(model: Any, decoder: nn.Module) -> tuple[Any, ...]:
    """What changes with nearly every change of a model, and is read at once: torch's count of writes to each tensor."""
    model = getattr(model, "_orig_mod", model)
    tensors = [*model.parameters(), *(each for _, each in _buffers(model))]
    writes = [_writes(each) for each in tensors]
    return writes, list(_modules(decoder)), _adapters(decoder), hook_ids(decoder)


def _writes(tensor: torch.Tensor) -> tuple[int, int, int]:
    plain = type(tensor) in (torch.Tensor, nn.Parameter)
    version = -1 if tensor.is_inference() else tensor._version
    return id(tensor), tensor.data_ptr() if plain else 0, version


def _plain(name: str) -> str:
    return name.replace(_COMPILED, "")


def _configuration(config: Any) -> Any:
    return _lasting(config.to_dict() if hasattr(config, "to_dict") else {})


def _lasting(settings: Any) -> Any:
    """Settings without the volatile ones, also in the configurations of a model's parts."""
    if not isinstance(settings, dict):
        return settings
    lasting = {key: value for key, value in settings.items() if str(key) not in _VOLATILE and str(key)[:1] != "_"}
    return {key: _lasting(value) for key, value in lasting.items()}


def _beside(parameter: torch.Tensor) -> list[Any]:
    """What a quantised parameter keeps beside its bits, such as bitsandbytes' scales."""
    return [
        part
        for value in vars(parameter).values()
        for part in _numbers([value, *vars(value).values()] if hasattr(value, "__dict__") else value)
    ]


def _buffers(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for prefix, module in model.named_modules(remove_duplicate=False):
        rope = getattr(module, "rope_type", None)  # one, or one for each kind of layer
        rebuilt = not _REBUILT.isdisjoint(rope.values() if isinstance(rope, dict) else [rope])
        for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False):
            if not (rebuilt and name.endswith("inv_freq")):
                yield _plain(f"{prefix}.{name}"), buffer


def _modules(decoder: nn.Module) -> Iterator[list[Any]]:
    """Each module's kind and the numbers that it computes with, but for dropout, which never decides."""
    for name, module in decoder.named_modules():
        kind = type(module)
        if kind.__module__.startswith("torch._dynamo") or isinstance(module, nn.modules.dropout._DropoutNd):
            continue
        found = {key: list(_numbers(value)) for key, value in vars(module).items() if key not in _TORCHS_OWN}
        numbers = {key: values for key, values in found.items() if values and not _is_computed(key, module)}
        code = describe_code(getattr(kind, "forward", None))
        yield [_plain(name), f"{kind.__module__}.{kind.__qualname__}", code, numbers]


_TORCHS_OWN = vars(nn.Module()).keys()


def _is_computed(key: str, module: nn.Module) -> bool:
    """Whether an older form of pruning or of weight norm computes the attribute anew in every pass."""
    return bool({f"{key}_orig", f"{key}_g"} & (module._parameters.keys() | module._buffers.keys()))


def _numbers(value: Any, depth: int = _DEPTH) -> Iterator[Any]:
    """The fractions and tensors in a value, also in lists and dictionaries; whole numbers are sizes and counters."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, torch.Tensor):
        yield digest_of_tensor(value)
    elif isinstance(value, dict) and depth:
        for key, each in value.items():
            found = list(_numbers(each, depth - 1))
            if found:
                yield [str(key), *found]
    elif isinstance(value, (list, tuple)) and depth:
        for each in value:
            yield from _numbers(each, depth - 1)


def _adapters(decoder: nn.Module) -> str:
    """The names of the adapters that count, and a digest of which do where."""
    flags = [
        [_plain(name), *(vars(module).get(flag) for flag in _ADAPTER_FLAGS)]
        for name, module in decoder.named_modules()
        if "_active_adapter" in vars(module)
    ]
    if not flags:
        return "none"
    active = {name for _, names, disabled, _ in flags if not disabled for name in _listed(names)}
    return f"{', '.join(sorted(active)) or 'disabled'} ({digest_of(flags)})"


def _listed(names: Any) -> list[str]:
    return [names] if isinstance(names, str) else list(names or ())


def _tokenizer(tokenizer: Any) -> str:
    """What decides the ids of a text; padding and truncation change from call to call and are left out.

    Writing out a vocabulary takes longer than reading all weights, so it is done again only if one of the small parts,
    or the number of tokens, is another.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return digest_of({"vocabulary": tokenizer.get_vocab(), "bos": tokenizer.bos_token_id})
    small = [
        [bytes(each.__getstate__()).decode() if each is not None else None for each in _steps(backend)],
        {key: repr(token) for key, token in backend.get_added_tokens_decoder().items()},
        backend.get_vocab_size(),
        getattr(backend.model, "dropout", None),
        tokenizer.bos_token_id,
    ]
    key = digest_of(small)
    known = _tokenizers.get(tokenizer)
    if known is None or known[0] != key:
        rules = json.loads(backend.to_str())
        rest = {name: value for name, value in rules.items() if name not in {"padding", "truncation"}}
        known = _tokenizers[tokenizer] = (key, digest_of(rest | {"bos": tokenizer.bos_token_id}))
    return known[1]


def _steps(backend: Any) -> list[Any]:
    return [backend.normalizer, backend.pre_tokenizer, backend.post_processor, backend.decoder]
