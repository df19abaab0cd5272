"""The Refinement Agent: new explanations from the ranked history and its mistakes (paper, section 2.4), and tests."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar
from uuid import uuid4

from langchain_core.messages import AIMessage, ToolCall

from neuronscope.agents import paper_prompts
from neuronscope.agents.editing_prompts import MOST_EDITED, editing_prompt, without_note
from neuronscope.agents.evidence_lines import HYPOTHESIS, SHORT
from neuronscope.agents.highlighting import without_marks
from neuronscope.agents.parsing import read_sentence, read_sentences
from neuronscope.agents.prober import CAPTURE, calls_for_texts, capture_tool, read_written, texts_schema
from neuronscope.agents.prober_prompts import N_TEXTS, probe_messages
from neuronscope.agents.prompts import sentences_schema
from neuronscope.agents.refinement_prompts import Situation, refinement_messages
from neuronscope.agents.role import LLMRole, succeeded
from neuronscope.errors import ConfigurationError, LLMError
from neuronscope.llm import ask, ask_many
from neuronscope.llm.answers import read_apart
from neuronscope.metrics.feedback import feedback_of, strengths_of
from neuronscope.state import HasContext, ProposalState, RefinementState
from neuronscope.text import distinct

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

NO_WRITER = (
    'probe_texts=True needs a language model that writes texts, and the Refinement Agent has none (llm="offline"). '
    "Give it one, or leave probes off."
)


class RefinementAgent(LLMRole):
    """Reads `mode`, `siblings` and `history`; writes `proposals`: up to `config.n_candidates` new, different sentences.

    It is shown the neuron's evidence, and thirty misses, thirty false alarms and fifteen hits of the mode's explanation
    on feedback text; without the ids of such text in the state, the errors that the best attempt carries.

    One request asks for all of them; what is missing afterwards is asked for once more, as several answers to one
    request where the backend can give them, else in single requests at the same time. With the paper's prompts every
    candidate is such an independent answer from the beginning. A model that has nothing new to say leaves them
    few, or none.

    With `config.probe_texts` the loop first calls `probe`, which writes texts that test the best attempt; with
    `config.edit` it calls `edit` at the end, which writes all modes as a whole.
    """

    role: ClassVar[str] = "refinement"

    async def __call__(self, state: ProposalState, runtime: HasContext) -> RefinementState:
        """Propose candidates.

        Raises:
            LLMError: the model cannot be reached, or none of its answers can be read.
        """
        llm = self._model(runtime)
        if llm == "offline":
            from neuronscope.offline.agents import LexicalRefinement

            return await LexicalRefinement()(state, runtime)
        situation = await self._situation(state, runtime)
        known = [attempt.explanation for attempt in state["history"]]

        async def request(is_short: bool) -> list[str | LLMError]:
            return await self._candidates(llm, state, replace(situation, is_short=is_short), runtime)

        readable, _ = succeeded(await self._asking(llm, request), self.role)
        return {"proposals": {state["mode"].representative: distinct(readable, known)}}

    async def _candidates(
        self, llm: BaseChatModel, state: ProposalState, situation: Situation, runtime: HasContext
    ) -> list[str | LLMError]:
        """All candidates that could be had, and why others cannot be read."""
        config, known = runtime.context.config, [attempt.explanation for attempt in state["history"]]
        candidates: list[str] = []
        if config.n_candidates > 1 and config.prompts != "paper":
            together = await self._together(llm, state, situation, runtime)
            candidates = distinct(together, known)[: config.n_candidates]
        missing = config.n_candidates - len(candidates)
        singles = await self._singles(llm, state, situation, missing, runtime) if missing else []
        return [*candidates, *singles]

    async def probe(self, state: ProposalState, runtime: HasContext) -> RefinementState:
        """Write texts that should and should not activate the neuron, as a call of `capture_activations`.

        A model that can call tools makes the call itself. One that cannot, or says something else in its place, is
        asked for the texts as lists, and the same call is made of these.

        Returns:
            `messages`: one, with the call.

        Raises:
            LLMError: the model cannot be reached, or writes nothing that can be read as texts.
            ConfigurationError: there is no model.
        """
        llm = self._model(runtime)
        if llm == "offline":
            raise ConfigurationError(NO_WRITER)
        return {"messages": [await self._call(llm, state, runtime)]}

    async def edit(self, state: RefinementState, runtime: HasContext) -> RefinementState:
        """Write a neuron's modes once more, as a whole: few sentences, each with the widest rule that the evidence has.

        Returns:
            `proposals`: the sentences, under "" since they are of no mode; nothing where there is no language model.

        Raises:
            LLMError: the model cannot be reached, or its answer cannot be read.
        """
        llm = self._model(runtime)
        if llm == "offline":
            return {}
        context, neuron, ids, modes = runtime.context, state["neuron"], state["exemplars"], state["modes"]
        evidence = await context.evidence.of(neuron, ids)
        strengths = await strengths_of([mode.explanation for mode in modes], neuron, ids, context.scorer)

        async def request(is_short: bool) -> list[str]:
            prompt = editing_prompt(evidence, modes, strengths, SHORT if is_short else HYPOTHESIS)
            answer = await ask(llm, prompt.messages, self.role, usage=context.usage)
            sentences = await read_apart(read_sentences, answer, self.role)
            return [without_note(without_marks(sentence, prompt.marks)) for sentence in sentences]

        return {"proposals": {"": distinct(await self._asking(llm, request))[:MOST_EDITED]}}

    async def _call(self, llm: BaseChatModel, state: ProposalState, runtime: HasContext) -> AIMessage:
        usage, sample = runtime.context.usage, state.get("iteration", 0)
        mode = state["mode"]
        messages, schema = probe_messages(mode.explanation, mode.probes), texts_schema(N_TEXTS)
        tools = [capture_tool()]
        answer = await ask(llm, messages, self.role, schema=schema, tools=tools, usage=usage, sample=sample)
        if calls_for_texts(answer):
            return answer
        try:
            written = await read_apart(read_written, answer, self.role)
        except LLMError:
            answer = await ask(llm, messages, self.role, schema=schema, usage=usage, sample=sample)
            written = await read_apart(read_written, answer, self.role)
        return AIMessage("", tool_calls=[ToolCall(name=CAPTURE, args=written._asdict(), id=uuid4().hex)])

    async def _situation(self, state: ProposalState, runtime: HasContext) -> Situation:
        """What the prompt shows beside the history, as the settings have it."""
        context, config, mode = runtime.context, runtime.context.config, state["mode"]
        is_shown = config.feedback == "errors" and mode.best is not None
        known = Situation(errors=mode.best.errors if is_shown and mode.best is not None else (), probes=mode.probes)
        ids = state.get("exemplars")
        if config.prompts == "paper" or ids is None:
            return known
        neuron, siblings = state["neuron"], state["siblings"]
        evidence, feedback = await context.evidence.of(neuron, ids), None
        if is_shown and mode.val_score is not None:
            measured = [one for one in siblings if one.val_score is not None] if config.objective == "joint" else []
            siblings = [*measured, *(one for one in siblings if one not in measured)]
            others = [one.explanation for one in measured]
            feedback = await feedback_of(mode.explanation, others, neuron, ids, context.scorer)
        return replace(known, mode=mode, siblings=siblings, evidence=evidence, feedback=feedback)

    async def _together(
        self, llm: BaseChatModel, state: ProposalState, situation: Situation, runtime: HasContext
    ) -> list[str]:
        """All candidates of one request; none if the answer cannot be read."""
        n, usage = runtime.context.config.n_candidates, runtime.context.usage
        messages, schema = refinement_messages(state["history"], n, situation), sentences_schema("explanations", n)
        answer = await ask(llm, messages, self.role, schema=schema, usage=usage, sample=state.get("iteration", 0))
        try:
            return await read_apart(read_sentences, answer, self.role)
        except LLMError:
            return []

    async def _singles(
        self,
        llm: BaseChatModel,
        state: ProposalState,
        situation: Situation,
        n: int,
        runtime: HasContext,
    ) -> list[str | LLMError]:
        """Up to n independent candidates, or why they cannot be read.

        A round that added nothing to the history is followed by one with the same prompt: it draws other samples.
        """
        if runtime.context.config.prompts == "paper":
            messages = paper_prompts.refinement_messages(state["history"], situation.errors, situation.probes)
        else:
            messages = refinement_messages(state["history"], 1, situation)
        first = state.get("iteration", 0) * runtime.context.config.n_candidates
        answers = await ask_many(llm, messages, self.role, n, usage=runtime.context.usage, sample=first)
        return [await read_apart(_read, answer, self.role) for answer in answers]


def _read(answer: AIMessage, role: str) -> str | LLMError:
    try:
        return read_sentence(answer, role)
    except LLMError as error:
        return error
