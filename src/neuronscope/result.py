"""What a run leaves behind: attempts, modes and the explanation of a neuron, saved as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from neuronscope.files import write_atomically
from neuronscope.saved import SavedForm, read_saved
from neuronscope.units import Neuron

SCHEMA_VERSION = 1
"""Version of the saved form; a file of another version is refused with an error that says so."""
_SAVED = SavedForm("explanation", SCHEMA_VERSION, "Explain the neuron again")

Status = Literal["explained", "dead", "partial"]


@dataclass(frozen=True, slots=True)
class PredictionError:
    """One token where an explanation's prediction goes wrong, in its left context."""

    context: str
    """The text before the token."""
    token: str
    """The token itself."""
    predicted: float
    """What the simulator expected, on the scale 0-10."""
    actual: float
    """What the neuron did, on the same scale."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One explanation of a mode's history, with its validation score."""

    iteration: int
    """0 is the representative before refinement."""
    explanation: str
    """The sentence that was scored."""
    val_score: float
    """Pearson correlation on the validation set that refinement optimises."""
    errors: tuple[PredictionError, ...] = ()
    """Where this attempt fails most, both ways; refinement with `feedback="errors"` sees them."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "errors", tuple(self.errors))  # read back from a checkpoint it is a list


@dataclass(frozen=True, slots=True)
class Cluster:
    """Atoms that say the same thing."""

    atoms: list[str]
    """The conditions of this cluster."""
    representative: str
    """The atom nearest the centroid of the embeddings."""
    points: list[tuple[float, float]] = field(default_factory=list)
    """The atoms' embeddings on their two principal components, for plots."""
    noise: bool = False
    """True for the atoms that HDBSCAN left without a cluster; they become modes only with `noise="keep"`."""

    def __post_init__(self) -> None:
        # Read back from a checkpoint, pairs are lists.
        object.__setattr__(self, "points", [(float(x), float(y)) for x, y in self.points])


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A held-out sequence as a reader sees it: what the neuron did, and what the explanation predicted."""

    tokens: list[str]
    """The text of each token."""
    activations: list[float]
    """What the neuron did at each token, on the scale 0-10 of the neuron's largest activation."""
    predicted: list[float]
    """What the mode's explanation predicts at each token, 0-10."""
    sequence_id: int
    """The sequence's number within its corpus."""
    source: str
    """Which part of the corpus the text came from."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One text that an agent wrote, and what the neuron did on it."""

    text: str
    """The text as the subject read it, cut at 256 tokens."""
    expected: bool
    """Whether the neuron should fire in it, if the explanation is true."""
    fired: bool
    """Whether some token exceeds a quarter of the neuron's largest activation."""
    token: str
    """Where the neuron was most active; empty if it was silent throughout."""
    activation: float
    """How active it was there, on the scale 0-10 of the neuron's largest activation."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """Texts written to test an explanation, and what the neuron did on them."""

    iteration: int
    """The refinement iteration that it precedes; after the last iteration, the number that the next would have."""
    explanation: str
    """What was tested: the best attempt at that time."""
    trials: list[Trial] = field(default_factory=list)
    """The texts that should fire, then those that should not."""
    error: str = ""
    """Why there are no trials."""


@dataclass(frozen=True, slots=True)
class Mode:
    """One of a neuron's meanings: a cluster of atoms with one explanation."""

    explanation: str
    """The best sentence found, by validation score."""
    score: float = 0.0
    """Test score: Pearson correlation over all tokens of the neuron's whole test set."""
    val_score: float = 0.0
    """The best validation score of the history."""
    subset_score: float = 0.0
    """Test score on the exemplars that belong to this mode, plus the random ones (the paper's D_k)."""
    unrefined_score: float = 0.0
    """Test score of the representative, before refinement."""
    history: list[Attempt] = field(default_factory=list)
    """The representative, then the best candidate of each iteration."""
    atoms: list[str] = field(default_factory=list)
    """The atomic conditions that the clustering put together."""
    siblings: list[str] = field(default_factory=list)
    """Representatives of all the neuron's modes when refinement began: they decide which exemplars are whose."""
    constant: bool = False
    """True if the explanation predicts the same everywhere on the test set; such a prediction scores 0."""
    excerpts: list[Excerpt] = field(default_factory=list)
    """Test exemplars of this mode, strongest first."""
    experiments: list[Experiment] = field(default_factory=list)
    """What the Refinement Agent tried out, with `experiments=True`."""
    generation_score: float | None = None
    """The share of the texts written from `explanation` in which the neuron fires; None where there are none."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that went wrong on the way, and how far it got."""

    agent: str
    """The node that failed."""
    message: str
    """What was wrong, and what to do."""


@dataclass(frozen=True, slots=True)
class AgentUsage:
    """What one agent cost: a row of `Usage`."""

    requests: int
    answers: int
    cached: int
    input_tokens: int
    output_tokens: int
    dollars: float | None


@dataclass(frozen=True, slots=True)
class Usage:
    """What an explanation cost."""

    requests: dict[str, int] = field(default_factory=dict)
    """LLM requests per agent."""
    input_tokens: dict[str, int] = field(default_factory=dict)
    """Prompt tokens per agent, as the backend reports them."""
    output_tokens: dict[str, int] = field(default_factory=dict)
    """Generated tokens per agent, as the backend reports them."""
    simulated_tokens: int = 0
    """Explanation-token pairs the simulator predicted."""
    seconds: float = 0.0
    """Wall time of the graph."""
    answers: dict[str, int] = field(default_factory=dict)
    """Answers per agent that were asked for; more than `requests` where one request brought several."""
    cached: dict[str, int] = field(default_factory=dict)
    """Answers per agent that were kept from an earlier run, for nothing."""
    dollars: dict[str, float | None] = field(default_factory=dict)
    """US dollars per agent; None where a price, or what was used, is not known."""

    @property
    def by_agent(self) -> dict[str, AgentUsage]:
        """The same, agent by agent."""
        agents = dict.fromkeys([*self.requests, *self.cached, *self.input_tokens, *self.output_tokens])
        return {
            agent: AgentUsage(
                requests=self.requests.get(agent, 0),
                answers=self.answers.get(agent, self.requests.get(agent, 0)),
                cached=self.cached.get(agent, 0),
                input_tokens=self.input_tokens.get(agent, 0),
                output_tokens=self.output_tokens.get(agent, 0),
                dollars=self.dollars.get(agent, None if agent in self.requests else 0.0),
            )
            for agent in agents
        }

    @property
    def total_dollars(self) -> float | None:
        """What the neuron cost; None if that is not known of every agent."""
        costs = [agent.dollars for agent in self.by_agent.values()]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if len(known) == len(costs) else None


@dataclass(frozen=True, slots=True)
class NeuronExplanation:
    """Every meaning found for one neuron, with the scores on held-out text."""

    neuron: Neuron
    """The neuron that was explained."""
    status: Status
    """"explained"; "dead": no activation of this sign in the corpus; "partial": an agent failed, see `failures`."""
    modes: list[Mode] = field(default_factory=list)
    """Best test score first."""
    score: float = 0.0
    """Mean over modes of the test score: the paper's Score."""
    joint_score: float = 0.0
    """Test score of all modes together: at every token the largest prediction of any mode."""
    unrefined_score: float = 0.0
    """`score` before refinement, on the same test set."""
    hypotheses: list[str] = field(default_factory=list)
    """The raw drafts."""
    atoms: list[str] = field(default_factory=list)
    """The single conditions they were split into."""
    clusters: list[Cluster] = field(default_factory=list)
    """How the atoms were grouped, noise included."""
    failures: list[Failure] = field(default_factory=list)
    """What went wrong, agent by agent."""
    usage: Usage = field(default_factory=Usage)
    """What it cost."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Model, corpus, settings, backends and versions that made this."""

    @property
    def number(self) -> int:
        """How many modes: the paper's Number."""
        return len(self.modes)

    def to_json(self) -> str:
        """The whole result as JSON text."""
        from pydantic import TypeAdapter

        return _SAVED.to_json(TypeAdapter(NeuronExplanation).dump_python(self, mode="json"))

    @classmethod
    def from_json(cls, text: str | bytes) -> NeuronExplanation:
        """Read what `to_json` wrote.

        Raises:
            ResultError: the text is not a saved explanation of this version.
        """
        return _SAVED.from_json(cls, text)

    def save(self, path: str | Path) -> Path:
        """Write the result as JSON, under a temporary name first."""
        return write_atomically(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> NeuronExplanation:
        """Read a saved result.

        Raises:
            ResultError: there is no such file, or it is not a saved explanation of this version.
        """
        return cls.from_json(read_saved(path))

    def to_html(self, path: str | Path | None = None) -> str:
        """One self-contained page, for a browser; written to `path` if given."""
        from neuronscope.report.html import render_page

        page = render_page(self)
        if path is not None:
            write_atomically(path, page)
        return page

    def plot_convergence(self) -> Any:
        """Validation score by iteration, one line per mode (a matplotlib figure; extra `[report]`)."""
        from neuronscope.report.plots import plot_convergence

        return plot_convergence(self)

    def plot_clusters(self) -> Any:
        """The atoms on their two principal components, coloured by cluster (matplotlib; extra `[report]`)."""
        from neuronscope.report.plots import plot_clusters

        return plot_clusters(self)

    def _repr_html_(self) -> str:
        from neuronscope.report.html import render_fragment

        return render_fragment(self)
