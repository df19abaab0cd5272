"""Every table and figure of the paper, in one folder, with what it takes to make them again.

    neuronscope experiment all --preset small --out results

Killed at any moment, the same command goes on; on several machines `--shard 0/8` and so on explain, and the same
without it merges them and makes the rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import typer

from neuronscope.experiments.folder import ExperimentFolder
from neuronscope.experiments.named import clusters, compare, convergence, purity, table1
from neuronscope.experiments.options import with_experiment
from neuronscope.experiments.report import Report
from neuronscope.experiments.reproduce import costs, reproduce
from neuronscope.io import write_atomically

app = typer.Typer(add_completion=False)

REPORTS: dict[str, Callable[[ExperimentFolder], Report]] = {
    "table1": table1.report,
    "convergence": convergence.report,
    "clusters": partial(clusters.report, neuron=None),
    "purity": purity.report,
    "compare": compare.report,
}
"""In the paper's order."""


def report(folder: ExperimentFolder) -> Report:
    """Make and save every report, and say in `reproduce.md` how it was made.

    Raises:
        NeuronScopeError: one of them cannot be made; those before it are saved.
    """
    sections: list[str] = []
    data: dict[str, Any] = {}
    for name, make in REPORTS.items():
        made = make(folder)
        made.save(folder.path)
        data[name] = made.data
        figures = "".join(f"\n\n![{figure}]({figure}.svg)" for figure in made.figures)
        sections.append(f"## {made.title}\n\n{made.markdown}{figures}")
    spent = costs(folder)
    write_atomically(folder.path / "cost.json", json.dumps(spent, ensure_ascii=False, indent=1))
    environment = json.dumps(folder.environment(), ensure_ascii=False, indent=1)
    write_atomically(folder.path / "environment.json", environment)
    write_atomically(folder.path / "reproduce.md", reproduce(folder, spent))
    return Report("all", "The paper's tables and figures", "\n\n".join(sections), data)


@app.command(name="all")
@with_experiment
def everything(folder: ExperimentFolder) -> Report:
    """All of the paper's tables and figures, resumably, with what it takes to make them again."""
    return report(folder)
