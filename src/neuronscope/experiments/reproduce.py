"""What an experiment cost, and how to make it again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from neuronscope.comparison import MethodScore
from neuronscope.display.plan import count, dollars, duration
from neuronscope.experiments.folder import SPEC_FILE, ExperimentFolder
from neuronscope.experiments.report import markdown_table
from neuronscope.results import Usage

FILES = """| file | has |
|---|---|
| `all.md`, `all.json` | every table and figure below, in one |
| `table1.*` | Score and Number with and without refinement |
| `convergence.*`, `convergence-<model>.svg`, `.png` | figure 2a |
| `clusters.*`, `clusters-<model>.svg`, `.png` | figure 2b |
| `purity.*`, `purity-<model>.svg`, `.png` | figure 3 |
| `compare.*`, `compare-<model>.svg`, `.png` | table 3, and methods compared |
| `experiment.json` | the whole spec |
| `environment.json` | versions and machine |
| `cost.json` | requests, tokens, dollars and seconds |
| `runs/<model>/results/` | every neuron's explanation, `ns.NeuronExplanation.load` |
| `compare/<model>/scores/` | every method's row for every neuron, `ns.MethodScore.load` |
"""


def costs(folder: ExperimentFolder) -> dict[str, dict[str, Any]]:
    """What each model's neurons have cost, and the methods that they are compared with.

    Seconds are added up, also over neurons that were under way side by side.
    """
    found = {}
    for each in folder.subjects:
        scores = sorted((folder.path / "compare" / each.subject.folder / "scores").glob("*/*.json"))
        rows = [row for file in scores if (row := MethodScore.load(file)).method not in ("neuronscope", "first_mode")]
        found[each.subject.label] = {
            "explaining": _sum(result.usage for result in each.results()),
            "comparing": _sum(row.usage for row in rows),
        }
    return found


def _sum(usages: Iterable[Usage]) -> dict[str, Any]:
    total = sum(usages, start=Usage())
    return {
        "requests": sum(total.requests.values()),
        "cached_answers": sum(total.cached.values()),
        "input_tokens": sum(total.input_tokens.values()),
        "output_tokens": sum(total.output_tokens.values()),
        "dollars": total.total_dollars,
        "simulated_tokens": total.simulated_tokens,
        "seconds": round(total.seconds, 1),
        "by_agent": {agent: asdict(usage) for agent, usage in total.by_agent.items()},
    }


def reproduce(folder: ExperimentFolder, spent: dict[str, dict[str, Any]]) -> str:
    """How to make everything again, as Markdown."""
    spec, environment = folder.spec, folder.environment()
    lines = [
        (
            model,
            stage,
            *(count(of[name]) for name in ("requests", "input_tokens", "output_tokens")),
            dollars(of["dollars"]),
            count(of["simulated_tokens"]),
            duration(of["seconds"]),
        )
        for model, stages in spent.items()
        for stage, of in stages.items()
    ]
    head = ("model", "stage", "requests", "prompt tokens", "answer tokens", "dollars", "simulator tokens", "time")
    packages = markdown_table(("package", "version"), environment["packages"].items())
    origins = {each.subject.label: _origin(each.results()) for each in folder.subjects}
    own, others = environment["packages"].get("neuronscope", ""), dict(environment["packages"])
    others.pop("neuronscope", None)
    pins = " ".join(f"'{name}=={version.partition('+')[0]}'" for name, version in others.items())
    return f"""# How this was made

```bash
pip install 'neuronscope[datasets,experiments]=={own}' {pins}
neuronscope experiment all --spec {SPEC_FILE} --out again
```

with `{SPEC_FILE}` from this folder (JSON is YAML). In this folder itself, `neuronscope experiment all --out .` explains
nothing again, and makes tables and figures anew. Seed: {spec.setup.config.seed}. The same spec gives the same numbers,
with the same versions on the same kind of machine, as far as a language model behind an API does. The JSON files of the
tables have no times in them, so that they can be compared byte by byte.

## The files

{FILES}
## Versions

Python {environment["python"]}, {environment["platform"]}.

{packages}

## Models and text

```json
{json.dumps(origins, ensure_ascii=False, indent=1)}
```

## Time and cost

{markdown_table(head, lines)}

Time is that of the neurons added up, also where several were under way at once; collecting exemplars is not in it.
"""


def _origin(results: Any) -> dict[str, Any]:
    """What the results of a run say about where they come from."""
    for result in results:
        return {name: value for name, value in result.provenance.items() if name != "config"}
    return {}
