"""GGUF files as subjects: converted once to ordinary weights, which load in a second."""

from __future__ import annotations

import hashlib
import io
import logging
import shutil
import uuid
import warnings
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from neuronscope.errors import NeuronScopeError, SubjectError
from neuronscope.io import cache_folder
from neuronscope.subject.weights import load_causal

_FORMAT = 2
"""Version of the converted form; a change of the conversion gets a new number, and so new files."""
_SPLITS_DIGITS = {"smollm"}
"""GGUF pre-tokenizers that are GPT-2's after splitting off each digit; transformers forgets the digits."""

_ROTARY = ("rope_freqs", "rope_factors")
"""How llama.cpp's tensors for longer contexts begin."""

_log = logging.getLogger(__name__)


def converted_folder(path: Path) -> Path:
    """A folder with the file's weights as float32 safetensors and its tokenizer; made on first use, then cached.

    The name holds the file's hash, so a changed file is converted anew, and a copy elsewhere is not.

    Raises:
        SubjectError: the file cannot be read, or transformers cannot convert it.
    """
    folder = cache_folder("subjects") / f"{path.stem}-{_digest(path)}-v{_FORMAT}"
    if folder.is_dir():
        return folder
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    _log.info("Converting %s once; this takes about half a minute.", path.name)
    try:
        _convert(path, partial)
        if not folder.is_dir():  # another process may have been faster
            partial.rename(folder)
    except NeuronScopeError:
        raise
    except Exception as error:  # a damaged file fails in many ways, each with an error of another library
        raise SubjectError(
            f"Cannot convert {path}: {error}. Check that the file is whole, and of an architecture whose GGUF files "
            "transformers reads."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise SubjectError(f"Cannot read {path}: {error.strerror}.") from error


def _convert(path: Path, folder: Path) -> None:
    """Float32 keeps the dequantised values exact, so what is computed does not depend on the route."""
    import torch
    from transformers import AutoTokenizer, GgufConfig

    with redirect_stderr(io.StringIO()):  # this progress bar ignores every switch of transformers
        model = load_causal(
            path.parent, gguf_file=path.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
        )
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, trust_remote_code=False)
    _say_what_is_left_out(path)
    if _pre_tokenizer(path) in _SPLITS_DIGITS:
        _split_digits(tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _say_what_is_left_out(path: Path) -> None:
    """Name tensors that transformers leaves out of its report: they have no place in its models."""
    from gguf import GGUFReader

    found = sorted(tensor.name for tensor in GGUFReader(path).tensors if tensor.name.startswith(_ROTARY))
    if found:
        warnings.warn(
            f"{path.name} stretches its rotary embedding ({', '.join(found)}), which transformers does not read: where "
            "tokens are far apart, activations differ from those of the original model.",
            stacklevel=2,
        )


def _pre_tokenizer(path: Path) -> str:
    from gguf import GGUFReader

    field = GGUFReader(path).get_field("tokenizer.ggml.pre")
    return str(field.contents()) if field is not None else ""


def _split_digits(tokenizer: Any) -> None:
    from tokenizers.pre_tokenizers import Digits, Sequence

    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = Sequence([Digits(individual_digits=True), backend.pre_tokenizer])
