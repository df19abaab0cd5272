"""The diagrams in the documentation, drawn from the graphs themselves.

    python -m neuronscope.graphs.drawing                       # prints both
    python -m neuronscope.graphs.drawing docs/graphs.md        # redraws those that a page has

In a page, a comment such as `<!-- drawn from: neuron -->` stands before the block that holds a diagram.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langgraph.graph.state import CompiledStateGraph

from neuronscope.graphs import build_neuron_graph, build_refinement_graph

GRAPHS: dict[str, Callable[[], CompiledStateGraph[Any, Any, Any, Any]]] = {
    "neuron": build_neuron_graph,
    "refinement": build_refinement_graph,
}
"""The graphs that have a diagram."""

_DRAWN = re.compile(r"(<!-- drawn from: (\w+) -->\n\n?)```mermaid\n.*?```", re.DOTALL)


def draw(name: str) -> str:
    """A graph as Mermaid text, with the graphs inside it; dashed edges are conditional."""
    return GRAPHS[name]().get_graph(xray=True).draw_mermaid()


def redraw(page: str) -> str:
    """A page in Markdown, each of its marked diagrams drawn anew."""
    return _DRAWN.sub(lambda found: f"{found[1]}```mermaid\n{draw(found[2])}```", page)


def main(pages: list[str]) -> None:
    """Redraw the diagrams of pages, or print them all."""
    for name in [] if pages else GRAPHS:
        sys.stdout.write(f"{draw(name)}\n")
    for path in map(Path, pages):
        path.write_text(redraw(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
