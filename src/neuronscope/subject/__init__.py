"""The language model being explained: loading it, and reading its neurons.

Imported lazily, since loading needs torch and `tokens` does not. `capture` is the module; its function of the same
name is `neuronscope.subject.capture.capture`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuronscope.subject.loaded import LoadedSubject
    from neuronscope.subject.loading import load_subject
    from neuronscope.subject.tokens import token_strings

_MODULE_OF = {
    "LoadedSubject": "neuronscope.subject.loaded",
    "load_subject": "neuronscope.subject.loading",
    "token_strings": "neuronscope.subject.tokens",
}

__all__ = ["LoadedSubject", "load_subject", "token_strings"]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)
