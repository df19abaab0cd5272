"""The paper's figure 3: each sentence of a raw hypothesis in the colour of the mode that it is nearest to.

    neuronscope experiment purity --out results

As in appendix D, MiniLM embeds the sentences and the modes' representatives, and the highest cosine decides. It reads
what `table1`, or any other of these experiments, has explained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from neuronscope.experiments.folder import ExperimentFolder
from neuronscope.experiments.nearest import Part, draw_parts, mark, marked, nearest, split_sentences
from neuronscope.experiments.options import with_experiment
from neuronscope.experiments.report import Report, cell, estimate_data, estimated, markdown_table
from neuronscope.metrics.bootstrap import Resampling
from neuronscope.metrics.paired import mean_score
from neuronscope.results import NeuronExplanation, mean_of

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings
    from matplotlib.figure import Figure

app = typer.Typer(add_completion=False)

EMBEDDINGS = "minilm"
"""The paper's for this figure (appendix D)."""
NOTES = (
    "A hypothesis is mixed if its sentences are nearest to two modes or more. The share is a neuron's, then the mean "
    "over the neurons with two modes or more, with its 95 % bootstrap interval over neurons. By chance is what it "
    "would be if each sentence were nearest to a mode drawn at random: something is always nearest, so some mixing "
    "says nothing. Drawn is the neuron with the largest share, of equals the one with most sentences."
)


def assigned(result: NeuronExplanation, embeddings: Embeddings) -> list[list[Part]]:
    """A neuron's hypotheses, sentence by sentence, with the mode that each is nearest to."""
    references = [mode.representative for mode in result.modes]
    hypotheses = [split_sentences(text) for text in result.hypotheses]
    parts = iter(nearest([text for texts in hypotheses for text in texts], references, embeddings))
    return [[next(parts) for _ in texts] for texts in hypotheses]


def is_mixed(parts: list[Part]) -> bool:
    """Whether the sentences of a hypothesis belong to several modes."""
    return len({part.mode for part in parts}) > 1


def by_chance(sentences: int, modes: int) -> float:
    """How probable it is that a hypothesis is mixed if each sentence is nearest to a mode drawn at random."""
    return 1 - modes ** (1 - sentences) if sentences else 0.0


def report(folder: ExperimentFolder) -> Report:
    """Colour the hypotheses of what is saved, and count those that are mixed."""
    from neuronscope.llm.embeddings import resolve_embeddings

    embeddings, resampling = resolve_embeddings(EMBEDDINGS), Resampling(seed=folder.spec.setup.config.seed)
    data: list[dict[str, Any]] = []
    lines, said = [], []
    figures: dict[str, Figure] = {}
    for each in folder.subjects:
        found = [
            (result, parts)
            for result in each.results()
            if result.number > 1 and any(parts := assigned(result, embeddings))
        ]
        shares = [mean_of(float(is_mixed(one)) for one in parts if one) for _, parts in found]
        chance = mean_of(mean_of(by_chance(len(one), result.number) for one in parts if one) for result, parts in found)
        share = mean_score(shares, resampling)
        hypotheses = [one for _, parts in found for one in parts if one]
        data.append(
            {
                "model": each.subject.label,
                "neurons": len(found),
                "hypotheses": len(hypotheses),
                "mixed": sum(map(is_mixed, hypotheses)),
                "share_mixed": estimate_data(share),
                "share_by_chance": chance,
                "assignments": [_assignment_data(result, parts) for result, parts in found],
            }
        )
        expected = "–" if chance is None else f"{chance:.2f}"
        counts = str(len(found)), str(len(hypotheses)), str(sum(map(is_mixed, hypotheses)))
        lines.append((each.subject.label, *counts, estimated(share, 2), expected))
        if not found:
            continue
        rank = [(share or 0.0, sum(map(len, parts))) for share, (_, parts) in zip(shares, found, strict=True)]
        result, parts = found[max(range(len(found)), key=lambda at: rank[at])]
        said.append(_said(each.subject.label, result, parts))
        figures[f"purity-{each.subject.folder}"] = draw_parts(
            f"Raw hypotheses by nearest mode\n{each.subject.label}, neuron {result.neuron}",
            parts,
            [mode.representative for mode in result.modes],
        )
    head = ("model", "neurons with modes", "hypotheses", "mixed", "share mixed", "by chance")
    markdown = "\n\n".join([markdown_table(head, lines), *said, NOTES])
    return Report("purity", "Figure 3: what raw hypotheses mix", markdown, {"rows": data}, figures)


def _assignment_data(result: NeuronExplanation, parts: list[list[Part]]) -> dict[str, Any]:
    return {
        "neuron": str(result.neuron),
        "modes": [mode.representative for mode in result.modes],
        "hypotheses": [[part._asdict() for part in one] for one in parts],
    }


def _said(model: str, result: NeuronExplanation, parts: list[list[Part]]) -> str:
    modes = [f"- {mark(place)} {cell(mode.representative)}" for place, mode in enumerate(result.modes)]
    hypotheses = [f"{number}. {marked(one)}" for number, one in enumerate(parts, 1) if one]
    return "\n".join(
        [f"**{cell(model)}**, neuron {result.neuron}. Modes:", "", *modes, "", "Hypotheses:", "", *hypotheses]
    )


@app.command()
@with_experiment
def purity(folder: ExperimentFolder) -> Report:
    """The paper's figure 3: raw hypotheses by nearest mode, and the share that is mixed."""
    return report(folder)
