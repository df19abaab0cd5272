"""The paper's figure 2b: a neuron's atoms on two principal components, by cluster, with the representatives.

    neuronscope experiment clusters --out results --neuron 5/2941

It reads what `table1`, or any other of these experiments, has explained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from neuronscope.errors import ConfigurationError
from neuronscope.experiments.folder import ExperimentFolder, SubjectRun
from neuronscope.experiments.nearest import mark
from neuronscope.experiments.options import with_experiment
from neuronscope.experiments.report import Report, cell, estimate_data, estimated, markdown_table
from neuronscope.metrics.bootstrap import Estimate, Resampling
from neuronscope.metrics.paired import mean_score
from neuronscope.results import Cluster, NeuronExplanation
from neuronscope.types import Neuron

app = typer.Typer(add_completion=False)

NOTES = (
    "Shown is, unless one is named, the neuron with most clusters, the first of equals in the population's order: not "
    "a typical one. Clusters are made in the whole embedding space; the plane is for looking. Separation is the mean "
    "silhouette of the atoms in the plane, from -1 to 1, over all neurons with two clusters and more atoms than "
    "clusters, with its 95 % bootstrap interval over neurons."
)


def clusters_of(result: NeuronExplanation) -> list[Cluster]:
    """Those that are no noise."""
    return [cluster for cluster in result.clusters if not cluster.noise]


def separation(result: NeuronExplanation) -> float | None:
    """The mean silhouette of a neuron's atoms in the plane; None where that is not defined."""
    from sklearn.metrics import silhouette_score

    clusters = clusters_of(result)
    points = [point for cluster in clusters for point in cluster.points]
    labels = [number for number, cluster in enumerate(clusters) for _ in cluster.points]
    if not 2 <= len(set(labels)) < len(labels) or len(set(points)) < 2:
        return None
    return float(silhouette_score(points, labels))


def report(folder: ExperimentFolder, neuron: str | None = None) -> Report:
    """Draw one neuron of each model, or the one that is named.

    Raises:
        ConfigurationError: the neuron is not one of the experiment's, or has no result yet.
    """
    resampling = Resampling(seed=folder.spec.setup.config.seed)
    chosen = [(each, result) for each in folder.subjects if (result := _chosen(each, neuron)) is not None]
    if neuron is not None and not chosen:
        raise ConfigurationError(f"No model of the experiment in {folder.path} has a result for the neuron {neuron}.")
    said, figures = [], {}
    data: list[dict[str, Any]] = []
    for each in folder.subjects:
        found = [separation(result) for result in each.results()]
        mean = mean_score(found, resampling)
        shown = next((result for own, result in chosen if own.subject == each.subject), None)
        measured = sum(value is not None for value in found)
        data.append(
            {
                "model": each.subject.label,
                "separation": estimate_data(mean),
                "separation_neurons": measured,
                "neuron": None if shown is None else str(shown.neuron),
                "clusters": [] if shown is None else [_cluster_data(cluster) for cluster in shown.clusters],
            }
        )
        said.append(_said(each, shown, mean, measured))
        if shown is not None:
            figures[f"clusters-{each.subject.folder}"] = shown.plot_clusters()
    markdown = "\n\n".join([*said, NOTES])
    return Report("clusters", "Figure 2b: clusters of atoms", markdown, {"rows": data}, figures)


def _chosen(each: SubjectRun, name: str | None) -> NeuronExplanation | None:
    results: Sequence[NeuronExplanation] = each.results()
    if name is not None:
        wanted = Neuron.parse(name)
        return next((result for result in results if result.neuron == wanted), None)
    return max((result for result in results if result.clusters), key=lambda x: len(clusters_of(x)), default=None)


def _cluster_data(cluster: Cluster) -> dict[str, Any]:
    return {
        "representative": cluster.representative,
        "noise": cluster.noise,
        "atoms": [
            {"text": atom, "x": point[0], "y": point[1]}
            for atom, point in zip(cluster.atoms, cluster.points, strict=False)
        ],
    }


def _said(each: SubjectRun, shown: NeuronExplanation | None, mean: Estimate, measured: int) -> str:
    overall = f"separation {estimated(mean)} over {measured} neurons"
    if shown is None:
        return f"**{cell(each.subject.label)}**: no neuron has a cluster; {overall}."
    table = markdown_table(
        ("cluster", "atoms", "representative"),
        [
            ("⬜" if cluster.noise else mark(number), str(len(cluster.atoms)), cluster.representative)
            for number, cluster in enumerate(shown.clusters)
        ],
    )
    return f"**{cell(each.subject.label)}**, neuron {shown.neuron}; {overall}.\n\n{table}"


@app.command()
@with_experiment
def clusters(
    folder: ExperimentFolder,
    neuron: Annotated[str | None, typer.Option("--neuron", help="Which to draw, such as 5/2941.")] = None,
) -> Report:
    """The paper's figure 2b: a neuron's atoms by cluster, with representatives."""
    return report(folder, neuron)
