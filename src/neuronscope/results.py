"""What a run leaves behind: attempts, modes and the explanation of a neuron, saved as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, overload

from annotated_types import Ge, Interval

from neuronscope.errors import ConfigurationError
from neuronscope.io import write_atomically
from neuronscope.saved import SavedForm, read_saved
from neuronscope.text import gist, shortened
from neuronscope.types import Neuron

_SAVED = SavedForm("explanation", "Explain the neuron again")

Score = Annotated[float, Interval(ge=-1.0, le=1.0)]
"""A Pearson correlation."""
Bounds = tuple[Score, Score]
"""The lower and the upper end of an interval of scores."""
Level = Annotated[float, Interval(ge=0.0, le=10.0)]
"""An activation on the scale 0-10, where 10 is the neuron's largest."""
Share = Annotated[float, Interval(ge=0.0, le=1.0)]
Count = Annotated[int, Ge(0)]

Status = Literal["explained", "dead", "partial"]


@dataclass(frozen=True, slots=True)
class PredictionError:
    """One token where an explanation's prediction goes wrong, in its left context."""

    context: str
    """The text before the token."""
    token: str
    """The token itself."""
    predicted: Level
    """What the simulator expected, on the scale 0-10."""
    actual: Level
    """What the neuron did, on the same scale."""


@dataclass(frozen=True, slots=True, repr=False)
class Attempt:
    """One explanation of a mode's history, with its validation score."""

    iteration: Count
    """0 is the representative before refinement."""
    explanation: str
    """The sentence that was scored."""
    val_score: Score | None
    """Pearson correlation on the validation set that refinement optimises; None where it could not be measured."""
    errors: tuple[PredictionError, ...] = ()
    """Where this attempt fails most on feedback text, both ways; refinement with `feedback="errors"` sees them."""
    joint_score: Score | None = None
    """Validation score of all the neuron's modes together, with this attempt as the mode's explanation."""
    gain: float | None = None
    """By how much the objective exceeds that of the mode's explanation before; None for the first attempt, and for the
    sentence that was written with the others' as a whole."""
    needed: float = 0.0
    """What the gain has to reach, beside being one: less may be chance where validation text is little."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "errors", tuple(self.errors))  # read back from a checkpoint it is a list

    @property
    def accepted(self) -> bool:
        """Whether it became the mode's explanation: the first attempt does, and each that the objective gains by."""
        return self.gain is None or (self.gain > 0 and self.gain >= self.needed)

    def __repr__(self) -> str:
        return f"Attempt({self.iteration}, {shortened(self.explanation)!r}, {_shown(self.val_score)})"


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of measuring one candidate explanation."""

    explanation: str
    """The candidate."""
    score: Score | None
    """Its validation score; None if it was pruned on the way, or cannot be measured."""
    constant: bool | None
    """Whether it predicts the same everywhere; None where there is no score."""
    sequences: int
    """How many sequences it was compared on."""
    mode: str = ""
    """The representative of the mode that it is for, if that is known."""
    failure: str = ""
    """Why it could not be measured."""


@dataclass(frozen=True, slots=True, repr=False)
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

    def __repr__(self) -> str:
        what = "noise" if self.noise else repr(shortened(self.representative))
        return f"Cluster({_counted(len(self.atoms), 'atom')}, {what})"


@dataclass(frozen=True, slots=True, repr=False)
class Excerpt:
    """A held-out sequence as a reader sees it: what the neuron did, and what the explanation predicted."""

    tokens: list[str]
    """The text of each token."""
    activations: list[Level]
    """What the neuron did at each token, on the scale 0-10 of the neuron's largest activation."""
    predicted: list[Level]
    """What the mode's explanation predicts at each token, 0-10; empty where nothing was predicted."""
    sequence_id: int
    """The sequence's number within its corpus."""
    source: str
    """Which part of the corpus the text came from."""

    def __post_init__(self) -> None:
        if len(self.activations) != len(self.tokens) or len(self.predicted) not in (0, len(self.tokens)):
            raise ConfigurationError(
                "An excerpt needs an activation for each token, and a prediction for each or none: got "
                f"{len(self.tokens)} tokens, {len(self.activations)} activations, {len(self.predicted)} predictions."
            )

    def __repr__(self) -> str:
        peak, text = max(self.activations, default=0.0), shortened("".join(self.tokens[:60]))
        length = _counted(len(self.tokens), "token")
        return f"Excerpt(sequence {self.sequence_id}, {length}, at most {peak:g}, {text!r})"


@dataclass(frozen=True, slots=True, repr=False)
class ProbeText:
    """One text that an agent wrote, and what the neuron did on it."""

    text: str
    """The text as the subject read it, cut at 256 tokens."""
    expected: bool
    """Whether it should activate the neuron, if the explanation is true."""
    activated: bool
    """Whether some token exceeds a quarter of the neuron's largest activation."""
    token: str
    """Where the neuron was most active; empty if it was inactive throughout."""
    activation: Level
    """How active it was there, on the scale 0-10 of the neuron's largest activation."""

    def __repr__(self) -> str:
        expected, found = ("active" if yes else "inactive" for yes in (self.expected, self.activated))
        return f"ProbeText({shortened(self.text)!r}, expected {expected}, {found} at {self.activation:g})"


@dataclass(frozen=True, slots=True, repr=False)
class Probe:
    """Texts written to test an explanation, and what the neuron did on them."""

    iteration: Count
    """The refinement iteration that it precedes; after the last iteration, the number that the next would have."""
    explanation: str
    """What was tested: the best attempt at that time."""
    texts: list[ProbeText] = field(default_factory=list)
    """The texts that should activate the neuron, then those that should not."""
    error: str = ""
    """Why there are no texts."""

    def __repr__(self) -> str:
        found = shortened(self.error) if self.error else _counted(len(self.texts), "text")
        return f"Probe({self.iteration}, {shortened(self.explanation)!r}, {found})"


@dataclass(frozen=True, slots=True, repr=False)
class Mode:
    """One of a neuron's meanings: a cluster of atoms with one explanation.

    A score that is None could not be measured; the result's `failures` say why. 0 is a measurement.
    """

    explanation: str
    """The best sentence found, by the objective."""
    score: Score | None = None
    """Test score: Pearson correlation over all tokens of the neuron's whole test set."""
    val_score: Score | None = None
    """The largest validation score among the attempts that the objective accepted; of a sentence that was written with
    the others' as a whole its own."""
    subset_score: Score | None = None
    """Test score on the exemplars that belong to this mode, plus the random ones (the paper's D_k)."""
    unrefined_score: Score | None = None
    """Test score of the representative, before refinement."""
    history: list[Attempt] = field(default_factory=list)
    """The representative, then the best candidate of each iteration, then the sentence that was written with the
    others' as a whole."""
    atoms: list[str] = field(default_factory=list)
    """The atomic conditions that the clustering put together."""
    constant: bool = False
    """True if the explanation predicts the same everywhere on the test set; such a prediction scores 0."""
    excerpts: list[Excerpt] = field(default_factory=list)
    """Test exemplars of this mode, strongest first."""
    probes: list[Probe] = field(default_factory=list)
    """The Refinement Agent's tests of explanations, with `probe_texts=True`."""
    conditions: list[str] = field(default_factory=list)
    """What the explanation says, condition by condition, as the offline agents read it; the score is the sentence's."""
    strength: Level | None = None
    """The activation that it stands for where it applies fully; fitted on train text, None if it was not."""
    interval: Bounds | None = None
    """The 95 % interval of `score`: a bootstrap over the test sequences."""
    supported: bool | None = None
    """Whether the interval is above 0, and five test sequences at least on which the neuron is active are the mode's
    own: it predicts something in them, and no other mode fits them as well. None where there is no score."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "interval", _bounds(self.interval))

    @property
    def representative(self) -> str:
        """What refinement began with; it names the mode as long as the neuron is being explained."""
        return self.history[0].explanation if self.history else self.explanation

    @property
    def best(self) -> Attempt | None:
        """The attempt that is the mode's explanation: the last that the objective accepted.

        Of attempts without a `gain`, made by hand say, it is the one with the best score; the earliest of equals.
        """
        if any(attempt.gain is not None for attempt in self.history):
            return next(attempt for attempt in reversed(self.history) if attempt.accepted)
        return max(self.history, key=lambda attempt: sortable(attempt.val_score), default=None)

    @property
    def generation_score(self) -> float | None:
        """The share of the texts written from `explanation` that activate the neuron; None where there are none."""
        activated = [
            text.activated
            for probe in self.probes
            if probe.explanation == self.explanation
            for text in probe.texts
            if text.expected
        ]
        return sum(activated) / len(activated) if activated else None

    def __repr__(self) -> str:
        return f"Mode({shortened(self.explanation, 80)!r}, score {_shown(self.score)})"


@dataclass(frozen=True, slots=True, repr=False)
class Failure:
    """Something that went wrong on the way, and how far it got."""

    agent: str
    """The node that failed."""
    message: str
    """What was wrong, and what to do."""

    def __str__(self) -> str:
        return f"{self.agent}: {self.message}"

    def __repr__(self) -> str:
        return f"Failure({self.agent!r}, {shortened(self.message, 120)!r})"


@dataclass(frozen=True, slots=True)
class AgentUsage:
    """What one agent cost: a row of `Usage`."""

    requests: int
    answers: int
    cached: int
    input_tokens: int
    output_tokens: int
    dollars: float | None
    cached_input_tokens: int = 0


Dollars = Annotated[float, Ge(0.0)]


@dataclass(frozen=True, slots=True, repr=False)
class Usage:
    """What an explanation cost."""

    requests: dict[str, Count] = field(default_factory=dict)
    """LLM requests per agent."""
    input_tokens: dict[str, Count] = field(default_factory=dict)
    """Prompt tokens per agent, as the backend reports them."""
    output_tokens: dict[str, Count] = field(default_factory=dict)
    """Generated tokens per agent, as the backend reports them."""
    simulated_tokens: Count = 0
    """Explanation-token pairs the simulator predicted."""
    seconds: Annotated[float, Ge(0.0)] = 0.0
    """Wall time of the graph."""
    answers: dict[str, Count] = field(default_factory=dict)
    """Answers per agent that were asked for; more than `requests` where one request brought several."""
    cached: dict[str, Count] = field(default_factory=dict)
    """Answers per agent that were cached in an earlier run, at no cost."""
    dollars: dict[str, Dollars | None] = field(default_factory=dict)
    """US dollars per agent; None where a price, or what was used, is not known."""
    cached_input_tokens: dict[str, Count] = field(default_factory=dict)
    """Prompt tokens per agent, among `input_tokens`, that the provider says it had in its own cache of prompts."""

    def __repr__(self) -> str:
        requests = sum(self.requests.values())
        cost = "cost unknown" if self.total_dollars is None else f"${self.total_dollars:.4f}"
        return f"Usage({_counted(requests, 'request')}, {self.llm_tokens:,} tokens, {cost}, {self.seconds:.1f} s)"

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
                cached_input_tokens=self.cached_input_tokens.get(agent, 0),
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

    @property
    def llm_tokens(self) -> int:
        """Prompt and generated tokens of all agents together."""
        return sum(self.input_tokens.values()) + sum(self.output_tokens.values())

    def of_agents(self, *agents: str) -> Usage:
        """What these agents asked for; without simulated tokens and time, which are no agent's."""
        own: dict[str, Any] = {
            each.name: {agent: n for agent, n in getattr(self, each.name).items() if agent in agents}
            for each in fields(self)
            if isinstance(getattr(self, each.name), dict)
        }
        return Usage(**own)

    def __add__(self, other: Usage) -> Usage:
        """Both together; dollars that one of them does not know are unknown."""
        both: dict[str, Any] = {}
        for each in fields(self):
            mine, theirs = getattr(self, each.name), getattr(other, each.name)
            if isinstance(mine, dict):
                pairs = {agent: (mine.get(agent, 0), theirs.get(agent, 0)) for agent in {**mine, **theirs}}
                both[each.name] = {agent: None if None in pair else sum(pair) for agent, pair in pairs.items()}
            else:
                both[each.name] = mine + theirs
        return Usage(**both)


@dataclass(frozen=True, slots=True, repr=False)
class NeuronExplanation:
    """Every meaning found for one neuron, with the scores on held-out text.

    A score that is None could not be measured: the neuron is dead, or `failures` say why. 0 is a measurement.
    """

    neuron: Neuron
    """The neuron that was explained."""
    status: Status
    """"explained"; "dead": no activation of this sign in the corpus; "partial": something failed or could not be
    measured, see `failures`."""
    modes: list[Mode] = field(default_factory=list)
    """Best test score first."""
    score: Score | None = None
    """Mean over the modes that have a test score: the paper's Score."""
    joint_score: Score | None = None
    """Test score of all modes together: at every token the largest prediction of any mode."""
    interval: Bounds | None = None
    """The 95 % interval of `joint_score`: a bootstrap over the test sequences."""
    corpus_score: Score | None = None
    """What the prediction of all modes together would score on the whole test split, estimated from a sample of it
    whose weights are known; None where none was drawn."""
    corpus_interval: Bounds | None = None
    """The 95 % interval of `corpus_score`; without any width where the whole split was small enough to be predicted,
    so that the score is exact."""
    number_interval: tuple[Count, Count] | None = None
    """The 95 % interval of how many modes have evidence, a bootstrap over the test sequences: a mode has it where its
    correlation is above 0 and five active sequences are its own. An upper end below `number` says that a mode is
    likely one too many."""
    separation: Share | None = None
    """How well the modes tell apart what the neuron activates on, times how much of it they cover: see
    `docs/metrics.md`. None where no sample of the whole test split was drawn, or there are no embeddings."""
    separation_interval: Bounds | None = None
    """The 95 % interval of `separation`: a bootstrap over the test sequences."""
    null_score: Score | None = None
    """The null of `joint_score`: what other neurons' explanations score on this neuron's test set, in the mean."""
    null_best: Score | None = None
    """The same corrected for choice: the best that is to be expected of as many explanations of other neurons as
    candidates were tried for this one."""
    unrefined_score: Score | None = None
    """`score` before refinement, on the same test set."""
    hypotheses: list[str] = field(default_factory=list)
    """The raw hypotheses."""
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
    def summary(self) -> str:
        """One line for the neuron: what its modes say, in their order; empty where there are none."""
        return "; ".join(gist(mode.explanation) for mode in self.modes)

    def __post_init__(self) -> None:
        for name in ("interval", "corpus_interval", "number_interval", "separation_interval"):
            object.__setattr__(self, name, _bounds(getattr(self, name)))
        for name in ("score", "unrefined_score"):  # means over modes, which are not None where a mode has one
            if getattr(self, name) is None:
                object.__setattr__(self, name, mean_of(getattr(mode, name) for mode in self.modes))

    def __repr__(self) -> str:
        found = f"{self.status}, {_counted(self.number, 'mode')}, score {_shown(self.score)}"
        subject = self.provenance.get("subject")
        name = subject.get("name") if isinstance(subject, dict) else None
        of = f" of {shortened(name, 40)}" if isinstance(name, str) and name else ""
        return f"NeuronExplanation({self.neuron}{of}: {found})"

    @property
    def number(self) -> int:
        """How many modes: the paper's Number."""
        return len(self.modes)

    def to_json(self) -> str:
        """The whole result as JSON text.

        Raises:
            ResultError: a number in it is not finite, which JSON cannot hold.
        """
        return _SAVED.to_json(self)

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
        return read_saved(path, cls.from_json)

    @overload
    def to_html(self, path: None = None) -> str: ...

    @overload
    def to_html(self, path: str | Path) -> Path: ...

    def to_html(self, path: str | Path | None = None) -> str | Path:
        """One self-contained page, for a browser.

        Args:
            path: where to write it; None writes nothing.

        Returns:
            The path, or without one the page itself.
        """
        from neuronscope.display.html import render_page

        page = render_page(self)
        return page if path is None else write_atomically(path, page)

    def plot_convergence(self) -> Any:
        """Validation score by iteration, one line per mode (a matplotlib figure; extra `[report]`)."""
        from neuronscope.display.plots import plot_convergence

        return plot_convergence(self)

    def plot_clusters(self) -> Any:
        """The atoms on their two principal components, coloured by cluster (matplotlib; extra `[report]`)."""
        from neuronscope.display.plots import plot_clusters

        return plot_clusters(self)

    def _repr_html_(self) -> str:
        from neuronscope.display.html import render_fragment

        return render_fragment(self)


def _bounds(interval: Sequence[float] | None) -> tuple[float, float] | None:
    """Read back from a checkpoint, pairs are lists."""
    return None if interval is None else (interval[0], interval[1])


def mean_of(scores: Iterable[float | None]) -> float | None:
    """The mean of the scores that were measured; None if none was."""
    measured = [score for score in scores if score is not None]
    return sum(measured) / len(measured) if measured else None


def sortable(score: float | None) -> float:
    """A score to sort by: what was not measured is below everything that was."""
    return -math.inf if score is None else score


def _counted(n: int, noun: str) -> str:
    return f"1 {noun}" if n == 1 else f"{n:,} {noun}s"


def _shown(score: float | None) -> str:
    return "not measured" if score is None else f"{score:.2f}"
