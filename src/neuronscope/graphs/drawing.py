"""The diagrams in the documentation, drawn from the graphs themselves.

    python -m neuronscope.graphs.drawing                       # prints both
    python -m neuronscope.graphs.drawing docs/graphs.md        # redraws those that a page has

In a page, a comment such as `<!-- drawn from: neuron -->` stands before the block that holds a diagram.
"""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from langgraph.graph import StateGraph

from neuronscope.graphs import neuron_graph_builder, refinement_graph_builder

GRAPHS = ("neuron", "refinement")
"""The graphs that have a diagram."""

_DRAWN = re.compile(r"(<!-- drawn from: (\w+) -->\n\n?)```mermaid\n.*?```", re.DOTALL)


def draw(name: str) -> str:
    """A graph as Mermaid text, with the graphs inside it; dashed edges are conditional."""
    loop = _without_handlers(refinement_graph_builder()).compile(name="refine")
    if name == "refinement":
        return loop.get_graph().draw_mermaid()
    return _without_handlers(neuron_graph_builder(refinement=loop)).compile().get_graph(xray=True).draw_mermaid()


def _without_handlers(graph: StateGraph[Any, Any, Any, Any]) -> StateGraph[Any, Any, Any, Any]:
    """The same graph without the nodes that LangGraph adds for errors, which are beside the way."""
    for name, node in list(graph.nodes.items()):
        if node.is_error_handler:
            del graph.nodes[name]
        else:
            graph.nodes[name] = replace(node, error_handler_node=None)
    return graph


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
