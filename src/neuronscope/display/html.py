"""An explanation as one self-contained web page, and as a fragment for notebooks.

Text from corpora and language models is untrusted. Two things keep it harmless wherever a template prints it: the
environment escapes every value, and its `finalize` first makes invisible and controlling characters visible.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from neuronscope.display import page as view
from neuronscope.display import words
from neuronscope.events import STEPS, NeuronProgress
from neuronscope.results import NeuronExplanation


def render_page(explanation: NeuronExplanation) -> str:
    """One self-contained HTML page: no scripts, no requests; light, dark and on paper."""
    return _render("page.html.j2", explanation)


def render_fragment(explanation: NeuronExplanation) -> str:
    """The same content for a notebook cell: its styles apply to nothing outside it."""
    return _render("fragment.html.j2", explanation)


def render_progress(progress: NeuronProgress, seconds: float | None = None, stopped: bool = False) -> str:
    """How far a neuron is, for a notebook cell.

    Args:
        progress: what its events have told so far.
        seconds: how long it took, once it is over.
        stopped: whether it was over before it was done.
    """
    template = _environment().get_template("progress.html.j2")
    return template.render(progress=progress, seconds=seconds, stopped=stopped, steps=STEPS, words=words)


def _render(template: str, explanation: NeuronExplanation) -> str:
    return _environment().get_template(template).render(x=explanation, view=view, words=words)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("neuronscope.display"),
        autoescape=True,
        finalize=_harmless,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["number"] = words.number
    return environment


def _harmless(value: Any) -> Any:
    if isinstance(value, str) and not isinstance(value, Markup):
        return words.visible(value)
    return value
