"""The states and the context of the graphs.

The states' keys are public API, since people write nodes against them. States hold text, numbers and ids only, so a
checkpoint stays small; models and arrays live in `Instruments`, the graphs' context.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from operator import add
from typing import Annotated, Protocol, TypedDict

from langchain_core.embeddings import Embeddings
from langchain_core.messages import AnyMessage

from neuronscope.config import ExplainConfig
from neuronscope.errors import ConfigurationError
from neuronscope.interfaces import CountedSimulator, ExemplarSource, Simulator, Subject
from neuronscope.llm.types import AnyLLM
from neuronscope.llm.usage import UsageTracker
from neuronscope.metrics.scorer import Scorer
from neuronscope.results import Attempt, Cluster, Experiment, Failure, Mode, NeuronExplanation
from neuronscope.types import ExemplarIds, Neuron


class NeuronState(TypedDict, total=False):
    """State of the whole graph."""

    neuron: Neuron
    exemplars: ExemplarIds
    hypotheses: list[str]
    atoms: list[str]
    clusters: list[Cluster]
    modes: Annotated[list[Mode], add]
    failures: Annotated[list[Failure], add]
    explanation: NeuronExplanation


class RefinementState(TypedDict, total=False):
    """State of one mode's refinement loop."""

    neuron: Neuron
    exemplars: ExemplarIds
    mode: Mode
    history: list[Attempt]
    experiments: list[Experiment]
    candidates: list[str]
    iteration: int
    messages: Annotated[list[AnyMessage], add]
    modes: list[Mode]
    failures: list[Failure]


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

    def __post_init__(self) -> None:
        if not self.scorer:
            simulator = self.simulator
            if isinstance(simulator, CountedSimulator):  # it asks a language model
                simulator = simulator.counted_by(self.usage)
            object.__setattr__(self, "scorer", Scorer(simulator, self.store))

    def counted_by(self, usage: UsageTracker) -> Instruments:
        """The same instruments for another neuron, whose costs this tracker counts.

        A simulator that asks a language model is counted with the neuron that it works for, so such neurons have a
        scorer each. All others share this one, where their requests are batched together.
        """
        scorer = None if isinstance(self.simulator, CountedSimulator) else self.scorer
        return replace(self, usage=usage, scorer=scorer)  # type: ignore[arg-type]  # None makes one

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
