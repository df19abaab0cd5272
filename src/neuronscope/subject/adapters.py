"""Folders and hub repositories with an adapter (LoRA and its kin) instead of a whole model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from neuronscope.errors import SubjectError
from neuronscope.subject.weights import require_complete

_OUTSIDE_MODULES = {"XLORA", "POLY", "SHADOW"}
"""Kinds of PEFT whose work is done, or prepared, in the wrapper's own forward pass."""


class Adapter(NamedTuple):
    """What an `adapter_config.json` says."""

    location: Path | str
    """The folder or hub id that it stands in."""
    kind: str
    """Its PEFT type, such as LORA."""
    base: str | None
    """The model that it was trained on."""


def find_adapter(location: Path | str, *, local_files_only: bool) -> Adapter | None:
    """The adapter in a folder or on the hub, if there is one.

    Raises:
        SubjectError: its description cannot be read.
    """
    from transformers.utils.peft_utils import find_adapter_config_file

    try:
        file = find_adapter_config_file(str(location), local_files_only=local_files_only)
    except OSError:
        return None
    if file is None:
        return None
    try:
        described = json.loads(Path(file).read_text("utf-8"))
        return Adapter(location, str(described.get("peft_type", "unknown")), described.get("base_model_name_or_path"))
    except (OSError, ValueError, AttributeError) as error:
        raise SubjectError(f"The adapter's description {file} cannot be read: {error}") from error


def add_adapter(model: Any, adapter: Adapter, *, local_files_only: bool) -> Any:
    """Put an adapter's weights into the model that it belongs to.

    Raises:
        SubjectError: peft is not installed, the kind cannot be read, or the weights are not this model's.
    """
    try:
        from peft import PeftConfig
    except ImportError as error:
        raise SubjectError(
            f"{adapter.location} holds an adapter ({adapter.kind}), which needs peft: pip install "
            "'neuronscope[train]'. Or merge it into its base: model.merge_and_unload().save_pretrained(folder)."
        ) from error
    _refuse(str(adapter.location), PeftConfig.from_pretrained(str(adapter.location), local_files_only=local_files_only))
    options = {"local_files_only": local_files_only}
    report = model.load_adapter(str(adapter.location), adapter_kwargs=options)
    require_complete(model, vars(report), f"The weights of the adapter {adapter.location}")
    return model


def refuse_unread_adapters(name: str, model: Any) -> None:
    """Refuse adapters that work outside the model's modules: the base model would be read in their place.

    Raises:
        SubjectError: such an adapter is active; the message names it.
    """
    configs = getattr(model, "peft_config", None)
    if not isinstance(configs, dict) or getattr(model, "_adapters_disabled", False):
        return
    active = getattr(model, "active_adapter", None)  # of a PeftModel; transformers' own adapters are never of this kind
    for adapter, config in configs.items():
        if not isinstance(active, (str, list)) or adapter == active or adapter in active:
            _refuse(name, config)


def _refuse(name: str, config: Any) -> None:
    kind = str(getattr(config.peft_type, "value", config.peft_type))
    if getattr(config, "is_prompt_learning", False):
        raise SubjectError(
            f"{name} has an adapter of the kind {kind}, whose trained prompt or prefix stands before every text. It is "
            "no part of the model's layers, so that the base model would be read in its place. Read the base model "
            "itself, or an adapter that changes weights, such as LoRA."
        )
    if kind in _OUTSIDE_MODULES or getattr(config, "alora_invocation_tokens", None):
        kind = "activated LoRA" if kind == "LORA" else kind
        raise SubjectError(
            f"{name} has an adapter of the kind {kind}, which acts in its wrapper's own forward pass and is not read "
            "here. Merge it into the model if it can be, or read the base model itself."
        )
