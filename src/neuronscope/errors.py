"""The errors users see: each message names the thing, what was wrong, and what to do next."""

from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING

from neuronscope.text import one_line

if TYPE_CHECKING:
    from pydantic import ValidationError


class NeuronScopeError(Exception):
    """Base of every error of ours.

    Its message says what was wrong and what to do, so a notebook shows the message alone; after `%xmode Verbose` it
    shows the frames.
    """

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback."""
        shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
        if getattr(getattr(shell, "InteractiveTB", None), "mode", "") == "Verbose":
            return traceback.format_exception(self)
        return [f"\x1b[31m{type(self).__name__}\x1b[0m: {one_line(str(self))}"]


class ConfigurationError(NeuronScopeError):
    """A setting, an argument or a missing optional package."""


class SubjectError(NeuronScopeError):
    """The subject cannot be loaded, or its layout, layer or neuron does not exist."""


class CorpusError(NeuronScopeError):
    """A corpus cannot be found, read, or has nothing to read."""


class StoreError(NeuronScopeError):
    """An exemplar store is missing, damaged, or of another model, corpus or version."""


class LLMError(NeuronScopeError):
    """A language model cannot be reached, or its answer cannot be used."""


class BudgetExceededError(LLMError):
    """What may be spent on language models has been spent."""


class ResultError(NeuronScopeError):
    """A saved result cannot be read."""


class SimulatorError(NeuronScopeError):
    """A simulator failed, or its predictions cannot be used."""


def described(value: object) -> str:
    """What somebody gave in place of what was expected, in a few words and without what it holds, such as keys."""
    if value is None or (isinstance(value, (str, int, float)) and len(str(value)) <= 60):
        return repr(value)
    if isinstance(value, type):
        return f"the class {value.__name__} itself, not an object of it"
    kind = type(value)
    article = "an" if kind.__name__[0].lower() in "aeiou" else "a"
    return (
        f"{article} {kind.__name__}"
        if kind.__module__ == "builtins"
        else f"{article} {kind.__module__}.{kind.__name__}"
    )


def first_problem(error: ValidationError) -> str:
    """What pydantic found wrong first, and where: `config.max_iterations: Input should be ...`."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]
