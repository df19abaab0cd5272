"""What a reader sees of a result: a web page, a notebook cell, a terminal, plots. Nothing is computed here."""

from neuronscope.report.html import render_fragment, render_page
from neuronscope.report.plots import plot_clusters, plot_convergence
from neuronscope.report.terminal import TerminalReport

__all__ = ["TerminalReport", "plot_clusters", "plot_convergence", "render_fragment", "render_page"]
