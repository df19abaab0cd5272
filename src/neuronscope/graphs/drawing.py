"""The diagrams in the documentation, drawn from the graphs themselves.

    python -m neuronscope.graphs.drawing                       # prints both
    python -m neuronscope.graphs.drawing docs/graphs.md        # redraws those that a page has

In a page, a comment such as `<!-- drawn from: neuron -->` stands before the block that holds a diagram. A graph of a
script is named by its path from the page and the function that makes it, and a graph inside it by its node:
`<!-- drawn from: ../examples/critic.py:graph_with_critic/refine -->`.
"""

from __future__ import annotations

import re
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph

from neuronscope.graphs import neuron_graph_builder, refinement_graph_builder

GRAPHS = ("neuron", "refinement")
"""The graphs that have a diagram."""

_DRAWN = re.compile(r"(<!-- drawn from: ([\w./]+(?::[\w/]+)?) -->\n\n?)```mermaid\n.*?```", re.DOTALL)


def draw(name: str, folder: Path | None = None) -> str:
    """A graph as Mermaid text; dashed edges are conditional.

    Args:
        name: one of `GRAPHS`, or a graph of a script.
        folder: where the script's path begins; None is the current folder.
    """
    if name == "refinement":
        return refinement_graph_builder().compile().get_graph().draw_mermaid()
    if name == "neuron":
        loop = refinement_graph_builder().compile(name="refine")
        return _drawable(neuron_graph_builder(refinement=loop)).get_graph(xray=True).draw_mermaid()
    script, _, inside = name.partition(":")
    return _of_script((folder or Path()) / script, *inside.split("/"))


def _of_script(path: Path, function: str, node: str = "") -> str:
    graph = runpy.run_path(str(path))[function]()
    if node:
        graph = dict(graph.get_subgraphs())[node]
    return _drawable(graph.builder).get_graph().draw_mermaid()


def _drawable(graph: StateGraph[Any, Any, Any, Any]) -> CompiledStateGraph[Any, Any, Any, Any]:
    return _without_handlers(graph).compile()


def _without_handlers(graph: StateGraph[Any, Any, Any, Any]) -> StateGraph[Any, Any, Any, Any]:
    """The same graph without the nodes that LangGraph adds for errors, which are beside the way."""
    for name, node in list(graph.nodes.items()):
        if node.is_error_handler:
            del graph.nodes[name]
        else:
            graph.nodes[name] = replace(node, error_handler_node=None)
    return graph


def redraw(page: str, folder: Path | None = None) -> str:
    """A page in Markdown that lies in this folder, each of its marked diagrams drawn anew."""
    return _DRAWN.sub(lambda found: f"{found[1]}```mermaid\n{draw(found[2], folder)}```", page)


def main(pages: list[str]) -> None:
    """Redraw the diagrams of pages, or print them all."""
    for name in [] if pages else GRAPHS:
        sys.stdout.write(f"{draw(name)}\n")
    for path in map(Path, pages):
        path.write_text(redraw(path.read_text(encoding="utf-8"), path.parent), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
