"""Several methods on the same neurons: rows as they are scored, and what may be said of them together."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing, nullcontext
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from neuronscope import blocking
from neuronscope.baselines.registry import AnyBaselines, resolve_baselines
from neuronscope.config import Progress
from neuronscope.errors import BudgetExceededError, ConfigurationError, NeuronScopeError
from neuronscope.io import write_atomically
from neuronscope.metrics.bootstrap import Estimate, Resampling
from neuronscope.metrics.paired import PairedDifference, mean_score, paired_difference, surviving_gain
from neuronscope.results import Failure, NeuronExplanation, Usage
from neuronscope.saved import SavedForm, read_saved
from neuronscope.types import Neuron

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from neuronscope.interfaces import Explainer
    from neuronscope.resources import Resources

logger = logging.getLogger(__name__)

METHODS = (
    "neuronscope",
    "unrefined",
    "first_mode",
    "best_of_n",
    "single_pass",
    "best_of_k",
    "clustered",
    "experimenter",
    "token_lookup",
    "token_lookup_own_size",
    "another_neuron",
    "random_description",
    "random_description:8",
)
"""What is compared where nobody says what: every method, and the null of as many sentences as a best of k has."""

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


async def compare(
    resources: Resources,
    neurons: Sequence[Neuron],
    methods: AnyBaselines,
    out: str | Path | None,
    progress: Progress,
    known: Iterable[NeuronExplanation] = (),
) -> AsyncGenerator[MethodScore, None]:
    """Yield the rows of each neuron as they are scored; `out` keeps them, and an equal call goes on from there.

    Raises:
        ConfigurationError: there is no method of a name, or `out` belongs to something else.
        BudgetExceededError: the budget is spent; what is done stays in `out`.
    """
    from neuronscope.runs.folder import RunFolder
    from neuronscope.runs.run import resume

    explanations = {each.neuron: each for each in known}
    needed = [neuron for neuron in neurons if neuron not in explanations] if _needs_explanations(methods) else []
    explanations |= await _explain(resources, needed, out, progress)
    explainers = resolve_baselines(methods, explanations)
    with nullcontext() if out is None else RunFolder(out) as folder:
        if folder is not None:
            await blocking.in_callers_thread(resume, folder, resources, neurons)
        for neuron, explainer in product(neurons, explainers):
            path = None if folder is None else _path(folder.path, neuron, explainer.name)
            if path is not None and path.exists():
                yield MethodScore.load(path)
                continue
            row = await _score(explainer, neuron, resources)
            if path is not None and not (row.failures and row.joint_score is None):
                path.parent.mkdir(parents=True, exist_ok=True)
                row.save(path)
            yield row


def _needs_explanations(methods: AnyBaselines) -> bool:
    """Whether one of the methods is made from what `explain` finds; also checks the names before anything is paid."""
    from neuronscope.baselines.registry import named_baselines

    known = named_baselines()
    names = [each.name.partition(":")[0] for each in resolve_baselines(methods)]
    return any(name in known and known[name].of_explanations for name in names)


async def _explain(
    resources: Resources, neurons: Sequence[Neuron], out: str | Path | None, progress: Progress
) -> dict[Neuron, NeuronExplanation]:
    """What `explain` finds of each neuron, or has found in an earlier call."""
    from neuronscope.runs.run import explain_many

    if not neurons:
        return {}
    results = explain_many(
        resources, neurons, out=out, checkpoints="auto", parallel=8, engine="local", progress=progress
    )
    async with aclosing(results) as stream:
        return {explanation.neuron: explanation async for explanation in stream}


async def _score(explainer: Explainer, neuron: Neuron, resources: Resources) -> MethodScore:
    """One method's row for one neuron; what fails for it is in the row, and loses no other."""
    from neuronscope.graphs.conclude import usage_of
    from neuronscope.graphs.explainer import score_explainer

    instruments = resources.instruments()
    try:
        scored = await score_explainer(explainer, neuron, instruments)
    except BudgetExceededError:
        raise
    except NeuronScopeError as error:
        logger.warning("%s has no score for %s: %s", explainer.name, neuron, error)
        spent = usage_of(neuron, instruments)
        instruments.scorer.forget(neuron)
        failures = [Failure(explainer.name, str(error))]
        return MethodScore(neuron=neuron, method=explainer.name, usage=spent, failures=failures)
    explanation = scored.explanation
    return MethodScore(
        neuron=neuron,
        method=explainer.name,
        joint_score=scored.joint_score,
        score=scored.score,
        val_score=scored.val_score,
        val_joint_score=scored.val_joint_score,
        corpus_score=scored.corpus_score,
        number=scored.number,
        sentences=[] if explanation is None else [mode.explanation for mode in explanation.modes],
        usage=scored.usage,
        failures=list(scored.failures),
    )


def _path(folder: Path, neuron: Neuron, method: str) -> Path:
    """The file of a row."""
    name = "".join(character if character.isalnum() or character in "_-" else "-" for character in method)
    return folder / "scores" / neuron.file_name / f"{name}.json"
