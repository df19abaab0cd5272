"""Several methods on the same neurons: rows as they are scored, and what may be said of them together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from neuronscope.errors import ConfigurationError
from neuronscope.io import write_atomically
from neuronscope.metrics.bootstrap import Estimate, Resampling
from neuronscope.metrics.paired import PairedDifference, mean_score, paired_difference, surviving_gain
from neuronscope.results import Failure, Usage
from neuronscope.saved import SavedForm, read_saved
from neuronscope.types import Neuron

if TYPE_CHECKING:
    from matplotlib.figure import Figure


ScoreName = Literal["joint_score", "score", "val_score", "val_joint_score", "corpus_score"]
_SAVED = SavedForm("comparison", "Compare again")


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodScore:
    """What one method got for one neuron. A score that could not be measured is None, and `failures` say why."""

    neuron: Neuron
    method: str
    joint_score: float | None = None
    """Test score of all sentences together, or of the method's own predictions."""
    score: float | None = None
    """Test score: the mean over its sentences (the paper's Score)."""
    val_score: float | None = None
    """As `score`, on validation text."""
    val_joint_score: float | None = None
    """As `joint_score`, on validation text."""
    corpus_score: float | None = None
    """What `joint_score` would be on the whole test split, estimated."""
    number: int | None = None
    """How many sentences; None for predictions alone."""
    sentences: list[str] = field(default_factory=list)
    """The best test score first."""
    usage: Usage = field(default_factory=Usage)
    """What it cost, scoring included."""
    failures: list[Failure] = field(default_factory=list)
    """What went wrong."""

    def save(self, path: str | Path) -> Path:
        """Write the row as JSON."""
        return write_atomically(path, _SAVED.to_json(self))

    @classmethod
    def load(cls, path: str | Path) -> MethodScore:
        """Read a saved row.

        Raises:
            ResultError: there is no such file, or it is not a saved row of this version.
        """
        return read_saved(path, lambda text: _SAVED.from_json(cls, text))


@dataclass(frozen=True, slots=True)
class Comparison:
    """The rows of several methods, and their statistics: each neuron is compared with itself.

    ```python
    comparison = ns.Comparison(lab.compare(neurons, out="runs/compare"))
    comparison.paired("neuronscope", "best_of_n")  # whether feedback pays
    comparison.paired("neuronscope", "unrefined")  # refinement, with the number of modes held
    comparison.paired("best_of_k:8", "random_description:8")  # a best of k, corrected by that of as many random ones
    ```
    """

    rows: Sequence[MethodScore]

    def __init__(self, rows: Iterable[MethodScore]) -> None:
        object.__setattr__(self, "rows", list(rows))

    @property
    def methods(self) -> list[str]:
        """The methods' names, in the rows' order."""
        return list(dict.fromkeys(row.method for row in self.rows))

    @property
    def neurons(self) -> list[Neuron]:
        """The neurons, in the rows' order."""
        return list(dict.fromkeys(row.neuron for row in self.rows))

    def scores(self, method: str, score: ScoreName = "joint_score") -> list[float | None]:
        """One method's scores, one for each of `neurons`.

        Raises:
            ConfigurationError: there are no rows of this method.
        """
        if method not in self.methods:
            raise ConfigurationError(
                f"There are no rows of the method {method!r}. There are those of {', '.join(self.methods) or 'none'}."
            )
        found = {row.neuron: getattr(row, score) for row in self.rows if row.method == method}
        return [found.get(neuron) for neuron in self.neurons]

    def mean(self, method: str, score: ScoreName = "joint_score", resampling: Resampling | None = None) -> Estimate:
        """A method's mean over the neurons that were measured, with its 95 % bootstrap interval."""
        return mean_score(self.scores(method, score), resampling)

    def paired(
        self, method: str, baseline: str, score: ScoreName = "joint_score", resampling: Resampling | None = None
    ) -> PairedDifference:
        """By how much a method scores more than another on the same neurons, with an interval and a sign test."""
        return paired_difference(self.scores(method, score), self.scores(baseline, score), resampling)

    def surviving_gain(
        self, method: str = "neuronscope", baseline: str = "unrefined", resampling: Resampling | None = None
    ) -> Estimate:
        """How much of what a method gains over another in joint validation score survives on test, as a share."""
        return surviving_gain(
            self.scores(baseline, "val_joint_score"),
            self.scores(method, "val_joint_score"),
            self.scores(baseline),
            self.scores(method),
            resampling,
        )

    def records(self) -> list[dict[str, Any]]:
        """The rows as dictionaries, with what they cost: `pandas.DataFrame(comparison.records())`."""
        return [
            {**{name: value for name, value in asdict(row).items() if name != "usage"}, "neuron": str(row.neuron)}
            | {
                "llm_tokens": row.usage.llm_tokens,
                "requests": sum(row.usage.requests.values()),
                "simulated_tokens": row.usage.simulated_tokens,
                "dollars": row.usage.total_dollars,
                "seconds": row.usage.seconds,
            }
            for row in self.rows
        ]

    def plot_cost(self, tokens: Literal["llm", "simulated"] = "llm") -> Figure:
        """Mean joint score against the mean of tokens spent on a neuron, a point for each method (matplotlib).

        Args:
            tokens: those of language models, prompt and answer; or those that the simulator predicted.

        Raises:
            ConfigurationError: matplotlib is not installed.
        """
        from neuronscope.display.comparison import plot_cost

        return plot_cost(self, tokens)
