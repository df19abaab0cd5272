"""How many layers and neurons a model has, from its configuration alone: a wrong layer costs no loading."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from neuronscope.io import cache_folder
from neuronscope.subject.layout import find_parts

_KNOWN = {"smollm2-135m": {"model_type": "llama", "num_hidden_layers": 30, "intermediate_size": 1536}}
"""Configurations of aliases, as far as they matter here."""
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
_WIDTHS = ("intermediate_size", "n_inner", "ffn_dim")
_ALIKE = {"gemma", "gemma2", "gemma3_text", "gpt_neox", "llama", "mistral", "phi3", "qwen2", "qwen3"}
"""Kinds of models all of whose layers have as many neurons as the configuration says; of others, modules are built."""


class Shape(NamedTuple):
    """Of a model that is not loaded."""

    name: str
    widths: tuple[int, ...]

    @property
    def n_layers(self) -> int:
        """How many layers it has."""
        return len(self.widths)

    def width(self, layer: int) -> int:
        """How many neurons a layer has."""
        return self.widths[layer]


def shape_beyond(source: str | os.PathLike[str], points: Iterable[tuple[int, int]]) -> Shape | None:
    """The shape of a model, if one of these neurons is beyond it; None if all exist, or if nothing is known yet.

    Where a kind of model may count otherwise than its configuration, its modules are built, without weights, to make
    sure. Whatever cannot be read is left to the loading, which says what is wrong.

    Args:
        source: a name, folder or file, as `load_subject` takes it.
        points: layers and indices.
    """
    name = os.fspath(source)
    deepest, widest = (max(numbers) for numbers in zip(*points, strict=True))
    with suppress(Exception):  # each library has errors of its own
        config = _config(name)
        text = config.get("text_config") or config
        n_layers, width = _first(text, _LAYERS), _first(text, _WIDTHS)
        if n_layers is None or (deepest < n_layers and width is not None and widest < width):
            return None
        alike = text.get("model_type") in _ALIKE and width is not None
        return Shape(_name(name), (width,) * n_layers if alike and width is not None else _built(config))
    return None


def _first(config: Mapping[str, Any], names: Iterable[str]) -> int | None:
    found = (config.get(name) for name in names)
    return next((value for value in found if isinstance(value, int)), None)


def _name(source: str) -> str:
    path = Path(source).expanduser()
    if source in _KNOWN or not path.exists():
        return source
    return path.stem if path.suffix == ".gguf" else path.resolve().name


def _config(source: str) -> dict[str, Any]:
    if source in _KNOWN:
        return _KNOWN[source]
    path = Path(source).expanduser()
    if path.suffix == ".gguf":
        return _config_of_gguf(path)
    return _read(path / "config.json" if path.is_dir() else _from_hub(source))


def _config_of_gguf(path: Path) -> dict[str, Any]:
    """From the file's header, which takes seconds, if the file has not been converted before; then loading is quick."""
    if any(cache_folder("subjects").glob(f"{glob.escape(path.stem)}-*")):
        return {}
    from transformers import AutoConfig

    read: Any = AutoConfig.from_pretrained  # untyped
    found: dict[str, Any] = read(path.parent, gguf_file=path.name, trust_remote_code=False).to_dict()
    return found


def _from_hub(source: str) -> Path:
    """A copy on this machine, or else the hub's, asked for once: where there is no network, it would ask for long."""
    from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(source, "config.json")
    if isinstance(cached, str):
        return Path(cached)
    HfApi().model_info(source, timeout=10)
    return Path(hf_hub_download(source, "config.json"))


def _read(file: Path) -> dict[str, Any]:
    content = json.loads(file.read_bytes())
    return content if isinstance(content, dict) else {}


def _built(config: dict[str, Any]) -> tuple[int, ...]:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    make: Any = AutoModelForCausalLM.from_config  # untyped
    kind: Any = AutoConfig.for_model(**config)
    with torch.device("meta"):
        return find_parts(make(kind, trust_remote_code=False)).widths
