"""What an experiment leaves: a table in Markdown, its data as JSON, and figures as SVG and PNG."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuronscope.display.words import number
from neuronscope.io import write_atomically
from neuronscope.text import one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from neuronscope.metrics.bootstrap import Estimate


_ESCAPED = str.maketrans({sign: f"\\{sign}" for sign in "\\`*_[]|"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"})


@dataclass(frozen=True)
class Report:
    """One experiment's outcome; none of it depends on when or how fast it was made."""

    name: str
    """The experiment's, and that of its files."""
    title: str
    markdown: str
    """What it found, below the title."""
    data: Mapping[str, Any]
    """The numbers behind it."""
    figures: Mapping[str, Figure] = field(default_factory=dict)
    """By the names of their files."""

    def save(self, folder: Path) -> list[Path]:
        """Write `<name>.md`, `<name>.json`, and each figure as `.svg` and `.png`; equal reports give equal files."""
        folder.mkdir(parents=True, exist_ok=True)
        written = [
            write_atomically(folder / f"{self.name}.json", json.dumps(self.data, ensure_ascii=False, indent=1)),
        ]
        shown = ""
        for name, figure in self.figures.items():
            written += _save_figure(figure, folder, name)
            shown += f"\n![{name}]({name}.svg)\n"
        text = f"# {self.title}\n\n{self.markdown.strip()}\n{shown}"
        return [write_atomically(folder / f"{self.name}.md", text), *written]


def _save_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        written = []
        for kind, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
            picture = BytesIO()
            figure.savefig(picture, format=kind, dpi=150, metadata=metadata)
            written.append(write_atomically(folder / f"{name}.{kind}", picture.getvalue()))
    return written


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; what stands in a cell cannot leave it."""
    lines = [list(head), ["---"] * len(head), *(list(row) for row in rows)]
    return "\n".join(f"| {' | '.join(cell(text) for text in line)} |" for line in lines)


def cell(text: str) -> str:
    """Untrusted text for a cell: one visible line, in which nothing is Markdown or HTML."""
    return one_line(text).translate(_ESCAPED)


def estimated(found: Estimate, digits: int = 3) -> str:
    """A mean and its interval: `0.412 (0.38 to 0.45)`."""
    if found.value is None:
        return "–"
    ends = found.interval
    return number(found.value, digits) + ("" if ends is None else f" ({number(ends[0])} to {number(ends[1])})")


def estimate_data(found: Estimate) -> dict[str, Any]:
    """The same as data."""
    return {"value": found.value, "low": found.low, "high": found.high}
