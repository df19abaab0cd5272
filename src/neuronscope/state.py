"""The states and the context of the graphs.

The states' keys are public API, since people write nodes against them. States hold text, numbers and ids only, so a
checkpoint stays small; models and arrays live in `Instruments`, the graphs' context.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import add
from typing import Annotated, Literal, Protocol

from langchain_core.embeddings import Embeddings
from langchain_core.messages import AnyMessage
from typing_extensions import TypedDict  # pydantic makes a JSON schema of it before Python 3.12, too

from neuronscope.config import ExplainConfig
from neuronscope.errors import ConfigurationError
from neuronscope.evidence import EvidenceSource
from neuronscope.interfaces import CountedSimulator, ExemplarSource, Simulator, Subject
from neuronscope.llm.types import AnyLLM
from neuronscope.llm.usage import UsageTracker
from neuronscope.metrics.scorer import Scorer
from neuronscope.results import Attempt, Cluster, Failure, Mode, NeuronExplanation
from neuronscope.types import ExemplarIds, Neuron


class NeuronState(TypedDict, total=False):
    """State of the whole graph."""

    neuron: Neuron
    exemplars: ExemplarIds
    hypotheses: list[str]
    atoms: list[str]
    clusters: list[Cluster]
    modes: list[Mode]
    unexplained: list[int]
    """Train exemplars that no mode explains; the second hypothesis is made from these."""
    failures: Annotated[list[Failure], add]
    explanation: NeuronExplanation


def by_mode(known: dict[str, list[str]], new: dict[str, list[str]]) -> dict[str, list[str]]:
    """Proposals of several branches together."""
    return {**known, **new}


def latest(_: str, new: str) -> str:
    """The latest value: several branches write the same."""
    return new


class RefinementState(TypedDict, total=False):
    """State of the refinement of all modes of a neuron."""

    neuron: Neuron
    exemplars: ExemplarIds
    clusters: list[Cluster]
    modes: list[Mode]
    unexplained: list[int]
    """Train exemplars that no mode explains: in the input those that the second hypothesis was made from, in the output
    those to make it from."""
    is_second_hypothesis: bool
    """Whether the clusters come from the second hypothesis."""
    proposals: Annotated[dict[str, list[str]], by_mode]
    """Candidate explanations of this round, by the representative of the mode that they are for."""
    settled: Annotated[list[str], add]
    """Representatives of the modes that propose no more: they have converged, or their agent has failed."""
    phase: Annotated[Literal["proposals", "probes"], latest]
    """Whether agents have proposed explanations in this round, or written texts that probe them."""
    probed_iteration: int
    """The last round before which explanations were probed."""
    answered_calls: list[str]
    """The ids of the tool calls that were answered in this round."""
    iteration: int
    """The number of this round; 0 measures the representatives."""
    messages: Annotated[list[AnyMessage], add]
    failures: Annotated[list[Failure], add]


class ProposalState(TypedDict, total=False):
    """What one mode's branch of `propose` or `probe` gets; what it returns is a part of `RefinementState`."""

    neuron: Neuron
    exemplars: ExemplarIds
    """Without validation and test: an agent sees neither."""
    mode: Mode
    siblings: list[Mode]
    """The neuron's other modes, as they are now."""
    history: list[Attempt]
    """The mode's."""
    iteration: int


@dataclass(frozen=True, kw_only=True)
class Instruments:
    """What a graph works with: LangGraph's `context_schema`. None of it is ever checkpointed."""

    subject: Subject
    store: ExemplarSource
    simulator: Simulator
    embeddings: Embeddings
    llm: AnyLLM | Mapping[str, AnyLLM] = "offline"
    """One model for all agents, or one per agent by name: hypothesis, decomposition, refinement, or "default"."""
    config: ExplainConfig = field(default_factory=ExplainConfig)
    usage: UsageTracker = field(default_factory=UsageTracker)
    """Counts what one neuron's agents ask; it also brings budget, limits and the cache of answers."""
    scorer: Scorer = field(default=None)  # type: ignore[assignment]  # made below
    """Where the scoring requests of all modes meet; made of simulator and store, if not given."""
    evidence: EvidenceSource = field(default=None)  # type: ignore[assignment]  # made below
    """What agents are shown of a neuron, gathered once; made of subject and store, if not given."""

    def __post_init__(self) -> None:
        if not self.scorer:
            simulator = self.simulator
            if isinstance(simulator, CountedSimulator):  # it asks a language model
                simulator = simulator.counted_by(self.usage)
            object.__setattr__(self, "scorer", Scorer(simulator, self.store))
        if not self.evidence:
            object.__setattr__(self, "evidence", EvidenceSource(self.subject, self.store, self.config))

    def forget(self, neuron: Neuron) -> None:
        """Drop what is cached of a neuron that is done."""
        self.scorer.forget(neuron)
        self.evidence.forget(neuron)

    @property
    def asks_a_language_model(self) -> bool:
        """Whether any agent is a language model."""
        models = self.llm.values() if isinstance(self.llm, Mapping) else [self.llm]
        return any(model != "offline" for model in models)

    def llm_for(self, agent: str) -> AnyLLM:
        """The model of one agent: in a mapping its own, or that of "default".

        Raises:
            ConfigurationError: the mapping has neither.
        """
        if not isinstance(self.llm, Mapping):
            return self.llm
        if agent not in self.llm and "default" not in self.llm:
            raise ConfigurationError(
                f'The mapping of models has none for {agent!r}: add it, or "default" for all that it does not name.'
            )
        return self.llm[agent] if agent in self.llm else self.llm["default"]


class HasContext(Protocol):
    """All an agent needs of LangGraph's runtime: the context that holds the instruments."""

    @property
    def context(self) -> Instruments:
        """Models and stores of this run."""
