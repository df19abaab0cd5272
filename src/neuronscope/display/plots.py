"""The paper's two drawings of one neuron: scores by iteration (figure 2a) and clusters of conditions (figure 2b)."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from neuronscope.display.page import best_so_far, scored
from neuronscope.display.words import neuron_name, visible
from neuronscope.errors import ConfigurationError
from neuronscope.results import NeuronExplanation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which stays distinct for every kind of colour vision.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A6A00", "#333333")
_MARKERS = "osD^vP*X"
_LABEL_LENGTH = 90


def plot_convergence(explanation: NeuronExplanation) -> Figure:
    """Validation score by iteration: the best so far as a line per mode, every attempt as a faint dot.

    Raises:
        ConfigurationError: matplotlib is not installed.
    """
    figure, axes = canvas(f"Validation score by iteration\n{neuron_name(explanation.neuron)}")
    found = [(mode, scored(mode.history)) for mode in explanation.modes]
    drawn = [(mode, attempts) for mode, attempts in found if attempts]
    for position, (mode, attempts) in enumerate(drawn):
        colour, marker = look(position)
        iterations, scores = zip(*attempts, strict=True)
        axes.plot(iterations, scores, marker, color=colour, alpha=0.3, linestyle="none", label="_nolegend_")
        axes.plot(iterations, best_so_far(attempts), "-", color=colour, label=_label(mode.explanation))
    if not drawn:
        return nothing(figure, axes, "no score was measured" if explanation.modes else "no modes were found")
    axes.set_xticks(range(1 + max(attempt.iteration for _, attempts in drawn for attempt in attempts)))
    axes.set(xlabel="Refinement iteration", ylabel="Best validation score so far")
    return _with_legend(figure, axes)


def plot_clusters(explanation: NeuronExplanation) -> Figure:
    """The atoms on the two principal components of their embeddings, one colour and marker per cluster.

    A ring is around each cluster's representative, which the legend has.

    Raises:
        ConfigurationError: matplotlib is not installed.
    """
    figure, axes = canvas(f"Atoms by meaning\n{neuron_name(explanation.neuron)}")
    clusters = [cluster for cluster in explanation.clusters if cluster.points]
    for position, cluster in enumerate(clusters):
        colour, marker = ("#999999", "x") if cluster.noise else look(position)
        label = "without a cluster" if cluster.noise else _label(cluster.representative)
        first, second = zip(*cluster.points, strict=True)
        axes.scatter(first, second, s=45, color=colour, marker=marker, alpha=0.85, label=label)
        for atom, (x, y) in zip(cluster.atoms, cluster.points, strict=False):
            if atom == cluster.representative and not cluster.noise:
                axes.plot(x, y, "o", markersize=13, markerfacecolor="none", color=colour, label="_nolegend_")
                break
    if not clusters:
        return nothing(figure, axes, "no modes were found")
    axes.set(xlabel="First principal component", ylabel="Second principal component")
    return _with_legend(figure, axes)


def canvas(title: str) -> tuple[Figure, Axes]:
    """An empty drawing under a title.

    Raises:
        ConfigurationError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigurationError(
            "Plots need matplotlib, which is not installed: pip install 'neuronscope[report]'."
        ) from error

    class NotebookFigure(Figure):
        """A figure that a notebook shows although pyplot, which notebooks listen to, was never asked."""

        def _repr_png_(self) -> bytes:
            picture = BytesIO()
            self.savefig(picture, format="png", dpi=110)
            return picture.getvalue()

    figure = NotebookFigure(figsize=(7.0, 4.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=11, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.2)
    return figure, axes


def look(position: int) -> tuple[str, str]:
    """A colour and a marker for what stands at this position of a legend."""
    return _COLOURS[position % len(_COLOURS)], _MARKERS[position % len(_MARKERS)]


def _label(text: str) -> str:
    """A legend entry; a dollar sign would start a formula, and a leading underscore would hide the entry."""
    shown = visible(text).replace("$", r"\$")
    if len(shown) > _LABEL_LENGTH:
        shown = f"{shown[: _LABEL_LENGTH - 1].rstrip()}…"
    return f"\u200a{shown}" if shown.startswith("_") else shown


def _with_legend(figure: Figure, axes: Axes) -> Figure:
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.16), fontsize=8, frameon=False)
    return figure


def nothing(figure: Figure, axes: Axes, why: str) -> Figure:
    """The drawing where there is nothing to draw, which says so."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, f"There is nothing to draw: {why}.", ha="center", transform=axes.transAxes)
    return figure
