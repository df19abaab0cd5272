"""The states and the context of the graphs.

The states' keys are public API, since people write nodes against them. States hold text, numbers and ids only, so a
checkpoint stays small; models and arrays live in `Instruments`, the graphs' context.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import add
from typing import Annotated, Any, Literal, Protocol, TypedDict

from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AnyMessage

from neuronscope.config import ExplainConfig
from neuronscope.errors import ConfigurationError
from neuronscope.interfaces import ExemplarSource, Simulator, Subject
from neuronscope.results import Attempt, Cluster, Experiment, Failure, Mode, NeuronExplanation
from neuronscope.types import Neuron


@dataclass(frozen=True, slots=True)
class ExemplarIds:
    """Which sequences are used for what; the exemplars themselves are in the store."""

    train: list[int] = field(default_factory=list)
    """The top train sequences: what the agents see."""
    validation: list[int] = field(default_factory=list)
    """The top validation sequences."""
    validation_random: list[int] = field(default_factory=list)
    """Validation sequences drawn without regard to activation."""
    test: list[int] = field(default_factory=list)
    """The top test sequences."""
    test_random: list[int] = field(default_factory=list)
    """Test sequences drawn without regard to activation."""
    maximum: float = 0.0
    """The neuron's largest activation in the whole corpus, of its sign: 10 on the 0-10 scale."""


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


AnyLLM = BaseChatModel | Literal["offline"]
"""A LangChain chat model, or the built-in roles that need none."""


@dataclass(kw_only=True)
class Instruments:
    """What a graph works with: LangGraph's `context_schema`. None of it is ever checkpointed."""

    subject: Subject
    store: ExemplarSource
    simulator: Simulator
    embeddings: Embeddings
    llm: AnyLLM | dict[str, AnyLLM] = "offline"
    """One model for all agents, or one per agent by name: hypothesis, decomposition, refinement, or "default"."""
    config: ExplainConfig = field(default_factory=ExplainConfig)
    scorer: Any = None
    """Made by the graph on first use: the one place where the scoring requests of all modes meet."""
    meter: Any = None
    """Counts what is asked per agent, if given; a `neuronscope.llm.Meter` also brings budget, limits and cache."""

    def llm_for(self, agent: str) -> AnyLLM:
        """The model of one agent: in a mapping its own, or that of "default".

        Raises:
            ConfigurationError: the mapping has neither.
        """
        if not isinstance(self.llm, dict):
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
