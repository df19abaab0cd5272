"""A short name for exactly this model: another weight, setting, tokenizer or dtype gives another name."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch

_SAMPLES = 256
"""Words of each tensor that enter the digest one by one."""
_VOLATILE = {"architectures", "dtype", "torch_dtype", "transformers_version", "use_cache"}
"""Configuration entries that say how a model was saved, not what it computes."""


def parts(model: Any, tokenizer: Any) -> dict[str, str]:
    """What makes a model this one: digests of `configuration`, `weights` and `tokenizer`, and its `dtype` in words.

    They are independent of the device and of how the model was loaded.
    """
    weights = hashlib.sha256()
    dtypes = set()
    for name, parameter in model.named_parameters():
        weights.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
        weights.update(_summary(parameter.detach()))
        dtypes.add(str(parameter.dtype).removeprefix("torch."))
    return {
        "configuration": _digest(_configuration(model.config)),
        "weights": weights.hexdigest()[:16],
        "tokenizer": _digest(_tokenizer(tokenizer)),
        "dtype": " and ".join(sorted(dtypes)),
    }


def fingerprint(parts: dict[str, str]) -> str:
    """One name for all parts."""
    return _digest(parts)


def _digest(document: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _summary(tensor: torch.Tensor) -> bytes:
    """The sum of all bits as 64-bit words, which any one changed value changes, and a sample, which sees order."""
    data = tensor.contiguous().flatten().view(torch.uint8)
    if len(data) % 8 or data.storage_offset() % 8:
        data = torch.nn.functional.pad(data, (0, -len(data) % 8))
    words = data.view(torch.int64)
    sample = words[:: max(1, len(words) // _SAMPLES)]
    return torch.cat([words.sum()[None], sample]).cpu().numpy().tobytes()


def _configuration(config: Any) -> dict[str, Any]:
    return {key: value for key, value in config.to_dict().items() if key not in _VOLATILE and not key.startswith("_")}


def _tokenizer(tokenizer: Any) -> dict[str, Any]:
    """What decides the ids of a text; padding and truncation change from call to call and are left out."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = json.loads(backend.to_str()) if backend is not None else {"vocabulary": tokenizer.get_vocab()}
    return {key: value for key, value in rules.items() if key not in {"padding", "truncation"}} | {
        "bos": tokenizer.bos_token_id
    }
