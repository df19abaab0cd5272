"""An agent that experiments: several hypotheses, each tested by texts written for it (SAGE, DAFI).

1. Write several different hypotheses from the strongest exemplars.
2. For each: write texts that should activate the neuron if it is true, and such as should not; measure them.
3. If they came out as expected, the hypothesis is confirmed; if none that should activate the neuron does, in two tests
   or in the last, it is rejected; else it is refined, and tested again.
4. Of each hypothesis that was not rejected, the version with the best validation score is the explanation.

The decisions are those of the criteria in SAGE's prompts (Han et al. 2025, arXiv 2511.20820), as code; competing
hypotheses, contrasts and a score beside the tests are DAFI's (Marin-Llobet and Ferrando 2026, arXiv 2605.01555). Tests
and scores are calls of the graph's own tools.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol
from uuid import uuid4

from langchain_core.messages import AIMessage, ToolCall, ToolMessage

from neuronscope.agents import RefinementAgent
from neuronscope.agents.highlighting import without_marks
from neuronscope.agents.parsing import read_sentence, read_sentences
from neuronscope.agents.prompts import sentences_schema
from neuronscope.agents.refinement_prompts import Situation, refinement_messages
from neuronscope.agents.role import succeeded
from neuronscope.arguments import integer
from neuronscope.baselines.registry import baseline
from neuronscope.baselines.single_pass import AgentRuntime, excerpt_messages
from neuronscope.errors import LLMError, SubjectError
from neuronscope.interfaces import Explained
from neuronscope.llm import ask
from neuronscope.llm.answers import read_apart
from neuronscope.results import Attempt, Measured, Mode, Probe, ProbeText, sortable
from neuronscope.text import distinct

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from neuronscope.state import Instruments
    from neuronscope.types import ExemplarIds, Neuron

TESTS = 3
"""Tests of one hypothesis at most (SAGE asks for two or three)."""
SHOWN = 10
"""Exemplars that hypotheses are written from (SAGE's `--top_k`)."""
CONFIRMED = 0.75
"""Share of the texts of either kind that must come out as expected to confirm a hypothesis."""

_REQUEST = """\
Write {n} different hypotheses about what makes this neuron activate. They compete: each names another word, \
kind of word or context, so that texts can be written that tell them apart. Each is one sentence that begins with \
"This neuron activates" and quotes the words that it is about. Return a JSON array of exactly {n} strings \
and nothing else."""


class Writer(Protocol):
    """Who writes hypotheses, texts that test one, and its next version."""

    async def hypotheses(self, n: int) -> list[str]:
        """Up to n different sentences."""

    async def texts(self, hypothesis: str, probes: Sequence[Probe]) -> AIMessage:
        """A message with a call of `capture_activations`."""

    async def refined(self, hypothesis: str, probes: Sequence[Probe]) -> str:
        """The next version; "" if there is none."""


@baseline("experimenter")
class Experimenter:
    """Hypotheses that survive tests, each a sentence.

    Without a language model, the texts are train text with a condition's words put into it, and a hypothesis is refined
    by dropping the conditions whose texts do not activate the neuron.

    Args:
        n_hypotheses: how many to begin with.
    """

    def __init__(self, n_hypotheses: int = 4) -> None:
        self.n_hypotheses = integer(n_hypotheses, "n_hypotheses", least=1)

    @property
    def name(self) -> str:
        """With the number of hypotheses, if that is not SAGE's."""
        return "experimenter" if self.n_hypotheses == 4 else f"experimenter:{self.n_hypotheses}"

    async def explain(self, neuron: Neuron, exemplars: ExemplarIds, instruments: Instruments) -> Explained:
        """Write hypotheses, test them, and return what is left.

        Raises:
            LLMError: no hypothesis could be written, or none tested.
            NeuronScopeError: the subject or the simulator failed.
        """
        llm = instruments.llm_for("hypothesis")
        writer: Writer
        if isinstance(llm, str):
            from neuronscope.baselines.offline_tests import OfflineWriter

            writer = OfflineWriter(neuron, exemplars, instruments)
        else:
            writer = LLMWriter(llm, neuron, exemplars, instruments)
        tools = _Tools(neuron, exemplars, instruments)
        hypotheses = await writer.hypotheses(self.n_hypotheses)
        outcomes = await asyncio.gather(*(_test(each, writer, tools) for each in hypotheses), return_exceptions=True)
        tested, failures = succeeded(outcomes, "experimenter")
        supported = sorted(tested, key=lambda each: -each.support)
        chosen = [each for each in tested if not each.rejected] or supported[:1]
        sentences = [await tools.best(each.versions) for each in chosen]
        return Explained(sentences=distinct(sentences), failures=failures)


@dataclass(frozen=True, slots=True)
class Tested:
    """A hypothesis after its tests."""

    versions: list[str]
    """What it said, and what it was refined to."""
    probes: list[Probe]
    """The tests, in their order."""
    rejected: bool

    @property
    def support(self) -> float:
        """The largest share of texts that came out as expected in a test."""
        return max((sum(as_expected(probe)) / 2 for probe in self.probes), default=0.0)


def as_expected(probe: Probe) -> tuple[float, float]:
    """The share of the texts that activate the neuron as they should, and of those that do not as they should not.

    Without texts of the second kind nothing has come out otherwise.
    """
    positive = [text.activated for text in probe.texts if text.expected]
    negative = [not text.activated for text in probe.texts if not text.expected]
    return (
        sum(positive) / len(positive) if positive else 0.0,
        sum(negative) / len(negative) if negative else 1.0,
    )


async def _test(hypothesis: str, writer: Writer, tools: _Tools) -> Tested:
    """Test a hypothesis until it is confirmed or rejected, or there is nothing more to try."""
    versions, probes = [hypothesis], list[Probe]()
    while True:
        call = await writer.texts(versions[-1], probes)
        probes.append(Probe(len(probes) + 1, versions[-1], await tools.measure(call)))
        active, inactive = as_expected(probes[-1])
        if min(active, inactive) >= CONFIRMED:
            return Tested(versions, probes, rejected=False)
        is_last = len(probes) == TESTS
        failed = sum(as_expected(probe)[0] == 0 for probe in probes)
        if failed == 2 or is_last:
            return Tested(versions, probes, rejected=active == 0)
        refined = await writer.refined(versions[-1], probes)
        if not refined:
            return Tested(versions, probes, rejected=active == 0)
        versions.append(refined)


@dataclass(frozen=True, slots=True)
class _Tools:
    """The graph's two tools, called for one neuron."""

    neuron: Neuron
    exemplars: ExemplarIds
    instruments: Instruments

    async def measure(self, call: AIMessage) -> list[ProbeText]:
        """What the neuron did on the texts of a call of `capture_activations`."""
        found: list[ProbeText] = (await self._answer(call)).artifact
        return found

    async def best(self, versions: Sequence[str]) -> str:
        """The version with the best validation score; of equals the latest."""
        if len(versions) == 1:
            return versions[0]
        args = {"explanations": list(versions)}
        call = AIMessage("", tool_calls=[ToolCall(name="score_explanations", args=args, id=uuid4().hex)])
        measured: list[Measured] = (await self._answer(call)).artifact
        return max(reversed(measured), key=lambda each: sortable(each.score)).explanation

    async def _answer(self, call: AIMessage) -> ToolMessage:
        from neuronscope.graphs.tool_calls import call_tools

        (answer, *_) = await call_tools(call, self.neuron, self.exemplars, self.instruments)
        if answer.status == "error":
            raise SubjectError(f"experimenter: {answer.content}")
        return answer


class _Prober(RefinementAgent):
    """The Refinement Agent's texts, counted as this one's."""

    role: ClassVar[str] = "experimenter"


class LLMWriter:
    """A language model writes."""

    def __init__(self, llm: BaseChatModel, neuron: Neuron, exemplars: ExemplarIds, instruments: Instruments) -> None:
        self._llm = llm
        self._neuron = neuron
        self._exemplars = exemplars
        self._instruments = instruments

    async def hypotheses(self, n: int) -> list[str]:
        """One request for all of them.

        Raises:
            LLMError: the model cannot be reached, or its answer cannot be read.
        """
        shown = await self._instruments.scorer.exemplars(self._neuron, self._exemplars.train[:SHOWN])
        messages, marks = excerpt_messages(shown, shown, _REQUEST.format(n=n))
        answer = await ask(
            self._llm,
            messages,
            "experimenter",
            schema=sentences_schema("hypotheses", n),
            usage=self._instruments.usage,
        )
        sentences = await read_apart(read_sentences, answer, "experimenter")
        return distinct([without_marks(each, marks) for each in sentences])[:n]

    async def texts(self, hypothesis: str, probes: Sequence[Probe]) -> AIMessage:
        """Texts as the Refinement Agent writes them.

        Raises:
            LLMError: the model cannot be reached, or writes nothing that can be read as texts.
        """
        mode = Mode(hypothesis, history=[Attempt(0, hypothesis, None)], probes=list(probes))
        runtime = AgentRuntime(self._instruments)
        written = await _Prober(self._llm).probe({"mode": mode, "iteration": len(probes)}, runtime)
        (message,) = written["messages"]
        assert isinstance(message, AIMessage)
        # two requests' ids may be the same
        return message.model_copy(update={"tool_calls": [{**call, "id": uuid4().hex} for call in message.tool_calls]})

    async def refined(self, hypothesis: str, probes: Sequence[Probe]) -> str:
        """One request with the tests so far; an answer that cannot be read is no version."""
        messages = refinement_messages([Attempt(0, hypothesis, None)], 1, Situation(probes=probes))
        usage, sample = self._instruments.usage, len(probes)
        answer = await ask(self._llm, messages, "experimenter", usage=usage, sample=sample)
        try:
            sentence = await read_apart(read_sentence, answer, "experimenter")
        except LLMError:
            return ""
        return "" if sentence in {hypothesis, *(probe.explanation for probe in probes)} else sentence
