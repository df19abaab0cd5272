"""What a person sees: how far a run is, and a result as a web page, a notebook cell, a table, a plot."""

from neuronscope.display.choice import Listener, Progress, watching
from neuronscope.display.html import render_fragment, render_page
from neuronscope.display.notebook import NotebookProgress
from neuronscope.display.plots import plot_clusters, plot_convergence
from neuronscope.display.progress import GraphProgress
from neuronscope.display.terminal import TerminalReport

__all__ = [
    "GraphProgress",
    "Listener",
    "NotebookProgress",
    "Progress",
    "TerminalReport",
    "plot_clusters",
    "plot_convergence",
    "render_fragment",
    "render_page",
    "watching",
]
