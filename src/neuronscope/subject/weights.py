"""Weights as they were saved, or an error: transformers fills what a file lacks with random numbers."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from neuronscope.errors import SubjectError

_WRAPPERS = {r"_orig_mod\.": "", r"^module\.": "", r"_fsdp_wrapped_module\.": "", r"_checkpoint_wrapped_module\.": ""}
"""What torch.compile, DDP, FSDP and activation checkpointing put into the names of the weights that they wrap."""
_IGNORABLE = re.compile(r"(rotary_emb\.inv_freq|masked_bias|position_ids|\.[kv]_scale)$")
"""Tensors that change nothing here: tables that are computed, masks, and scales of quantised key-value caches."""
_NO_ADAPTER = {"subfolder": ".none", "local_files_only": True}
"""Where transformers is to look for an adapter: it would load one unasked, report on nothing else, and ask the hub."""
_PLAIN_LAYERS = {"Linear", "Embedding", "LayerNorm", "Conv1D"}
"""Layers that multiply with their weights as they are; those of quantised models have other names."""
_NAMED = 4
"""How many tensors an error names one by one."""


def load_causal(location: Path | str, **options: Any) -> Any:
    """`AutoModelForCausalLM.from_pretrained`, and a look at what was missing, unexpected or of another shape.

    Adapters in the same place are left alone: `subject.adapters` loads them. Names that torch.compile and other
    wrappers have prefixed are read as the ones that they stand for.

    Args:
        location: a folder, or an id on the hub.
        **options: for `from_pretrained`.

    Raises:
        SubjectError: the weights are not those of the model that the configuration describes; the message names them.
    """
    from transformers import AutoModelForCausalLM

    def load(**more: Any) -> tuple[Any, dict[str, Any]]:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            location,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            adapter_kwargs=_NO_ADAPTER,
            **options,
            **more,
        )
        model, report = loaded
        return model, report

    model, report = load()
    if any(re.search(wrapper, key) for key in report["unexpected_keys"] for wrapper in _WRAPPERS):
        model, report = load(key_mapping=_WRAPPERS)
    require_complete(model, report, f"The weights of {options.get('gguf_file') or location}")
    return model


def require_complete(model: Any, report: Mapping[str, Any], what: str) -> None:
    """Check what transformers reports of a load; tensors outside the decoder that nobody asked for are only mentioned.

    Args:
        model: what was loaded.
        report: its `missing_keys`, `mismatched_keys` and `unexpected_keys`.
        what: the weights, as the subject of a sentence.

    Raises:
        SubjectError: a tensor is missing, of another shape, or belongs to the decoder and has no place there.
    """
    missing = sorted(report["missing_keys"])
    mismatched = sorted(f"{key} {_shape(saved)}, not {_shape(own)}" for key, saved, own in report["mismatched_keys"])
    unexpected = sorted(key for key in report["unexpected_keys"] if not _IGNORABLE.search(key))
    inside = [key for key in unexpected if _in_decoder(model, key)]
    found = [_listed("missing", missing), _listed("of another shape", mismatched), _listed("unexpected", inside)]
    if any(found):
        raise SubjectError(
            f"{what} are not those of a {type(model).__name__} with this configuration: "
            f"{'; '.join(filter(None, found))}. Weights that are missing would be random numbers. Check that "
            "config.json and the weights belong together, and that all files are there; or save the model again with "
            "model.save_pretrained, adapters merged."
        )
    if unexpected:
        warnings.warn(f"{what} have tensors that are not used: {_some(unexpected)}.", stacklevel=2)


def _in_decoder(model: Any, key: str) -> bool:
    """Whether a tensor's name lies in the decoder trunk, with or without the trunk's own prefix."""
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model
    prefix = next((name for name, module in model.named_modules() if module is decoder), "")
    inner = key.removeprefix(f"{prefix}.") if prefix else key
    first = inner.partition(".")[0]
    return inner != key or first in {name for name, _ in decoder.named_children()} or _is_adapter(key)


def _is_adapter(key: str) -> bool:
    return ".lora_" in key or ".base_layer." in key


def _listed(kind: str, keys: Sequence[str]) -> str:
    return f"{len(keys)} {kind} ({_some(keys)})" if keys else ""


def _some(keys: Sequence[str]) -> str:
    rest = len(keys) - _NAMED
    return ", ".join(keys[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _shape(sizes: Iterable[int]) -> str:
    return "×".join(map(str, sizes))


def check_readable(name: str, model: Any, *, computing: bool = True) -> None:
    """Refuse weights that are not in memory, and plain layers in a dtype that torch does not compute in.

    Args:
        name: what the model is called.
        model: the model.
        computing: whether to look at the dtype, too.

    Raises:
        SubjectError: there are such weights; the message names one.
    """
    for key, tensor in model.named_parameters():
        if tensor.is_meta:
            raise SubjectError(
                f"{name} is not in memory: {key} is offloaded, or was never loaded (device 'meta'). Load the whole "
                "model onto one device, with no device_map or with one that has room for it, or in a smaller dtype."
            )
    if not computing:
        return
    for key, module in model.named_modules():
        weight = getattr(module, "weight", None) if type(module).__name__ in _PLAIN_LAYERS else None
        if weight is not None and not (weight.is_floating_point() and weight.element_size() > 1):
            raise SubjectError(
                f"{name} has plain weights in {str(weight.dtype).removeprefix('torch.')} ({key}.weight), which torch "
                "stores and does not compute in. Load it in another dtype, such as dtype='bfloat16'; a quantised model "
                "needs the layers that it was quantised for."
            )
