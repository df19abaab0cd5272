"""The Refinement Agent: new explanations from the ranked history and its mistakes (paper, section 2.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from neuronscope.agents.parsing import distinct, read_sentence, read_sentences
from neuronscope.agents.prompts import refinement_messages, sentences_schema
from neuronscope.agents.role import LLMRole, succeeded
from neuronscope.errors import LLMError
from neuronscope.llm import ask, ask_many
from neuronscope.state import HasContext, RefinementState

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage

    from neuronscope.result import Attempt, PredictionError


class RefinementAgent(LLMRole):
    """Reads `history`; writes `candidates`: up to `config.n_candidates` new explanations, all different.

    One request asks for all of them; what is missing afterwards is asked for once more, as several answers to one
    request where the backend can give them, else in single requests at the same time. A model that has nothing new to
    say leaves `candidates` short, or empty.
    """

    role: ClassVar[str] = "refinement"

    async def __call__(self, state: RefinementState, runtime: HasContext) -> RefinementState:
        """Propose candidates.

        Raises:
            LLMError: the model cannot be reached, or none of its answers can be read.
        """
        llm = self._model(runtime)
        if llm == "offline":
            from neuronscope.agents.lexical import LexicalRefinement

            return await LexicalRefinement()(state, runtime)
        history, config = state["history"], runtime.context.config
        errors = _errors_of_best(history) if config.feedback == "errors" else ()
        known = [attempt.explanation for attempt in history]
        candidates: list[str] = []
        if config.n_candidates > 1:
            together = await self._together(llm, state, errors, runtime)
            candidates = distinct(together, known)[: config.n_candidates]
        missing = config.n_candidates - len(candidates)
        singles = await self._singles(llm, state, errors, missing, runtime) if missing else []
        readable, _ = succeeded([*candidates, *singles], self.role)
        return {"candidates": distinct(readable, known)}

    async def _together(
        self, llm: BaseChatModel, state: RefinementState, errors: Sequence[PredictionError], runtime: HasContext
    ) -> list[str]:
        """All candidates of one request; none if the answer cannot be read."""
        n, meter = runtime.context.config.n_candidates, runtime.context.meter
        messages, schema = refinement_messages(state["history"], n, errors), sentences_schema("explanations", n)
        answer = await ask(llm, messages, self.role, schema=schema, meter=meter, sample=state.get("iteration", 0))
        try:
            return read_sentences(answer, self.role)
        except LLMError:
            return []

    async def _singles(
        self,
        llm: BaseChatModel,
        state: RefinementState,
        errors: Sequence[PredictionError],
        n: int,
        runtime: HasContext,
    ) -> list[str | LLMError]:
        """Up to n independent candidates, or why they cannot be read.

        A round that added nothing to the history is followed by one with the same prompt: it draws other samples.
        """
        messages = refinement_messages(state["history"], 1, errors)
        first = state.get("iteration", 0) * runtime.context.config.n_candidates
        answers = await ask_many(llm, messages, self.role, n, meter=runtime.context.meter, sample=first)
        return [_read(answer, self.role) for answer in answers]


def _read(answer: AIMessage, role: str) -> str | LLMError:
    try:
        return read_sentence(answer, role)
    except LLMError as error:
        return error


def _errors_of_best(history: Sequence[Attempt]) -> tuple[PredictionError, ...]:
    return max(history, key=lambda attempt: attempt.val_score).errors if history else ()
