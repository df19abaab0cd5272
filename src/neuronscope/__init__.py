"""NeuronScope finds what a neuron of a language model responds to: every meaning, each with a held-out score.

The public names are in `__init__.pyi`, each written once; they are loaded on first use, so that importing stays fast.
"""

import sys
from typing import Any
from warnings import filterwarnings

import lazy_loader

_load, _dir, __all__ = lazy_loader.attach_stub(__name__, __file__)

if "IPython" in sys.modules:  # tqdm, ours and that of libraries, warns that there are no widgets; its bar is text
    filterwarnings("ignore", message="IProgress not found")


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("neuronscope")
    return _load(name)


def __dir__() -> list[str]:
    return [*_dir(), "__version__"]
