"""The Refinement Agent: new explanations from the ranked history and its mistakes (paper, section 2.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from neuronscope.agents.parsing import distinct, read_sentence, read_sentences
from neuronscope.agents.prompts import refinement_messages, sentences_schema
from neuronscope.agents.role import LLMRole, succeeded
from neuronscope.errors import LLMError
from neuronscope.llm import ask
from neuronscope.state import HasContext, RefinementState

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from neuronscope.result import Attempt, PredictionError


class RefinementAgent(LLMRole):
    """Reads `history`; writes `candidates`: up to `config.n_candidates` new explanations, all different.

    One request asks for all of them; what is missing afterwards is asked for once more, in single requests at the
    same time. A model that has nothing new to say leaves `candidates` short, or empty.
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
            together = await self._together(llm, history, errors, runtime)
            candidates = distinct(together, known)[: config.n_candidates]
        missing = config.n_candidates - len(candidates)
        requests = [self._single(llm, history, errors, runtime) for _ in range(missing)]
        outcomes = await asyncio.gather(*requests, return_exceptions=True)
        singles, _ = succeeded([*candidates, *outcomes], self.role)
        return {"candidates": distinct(singles, known)}

    async def _together(
        self, llm: BaseChatModel, history: list[Attempt], errors: Sequence[PredictionError], runtime: HasContext
    ) -> list[str]:
        """All candidates of one request; none if the answer cannot be read."""
        n = runtime.context.config.n_candidates
        messages, schema = refinement_messages(history, n, errors), sentences_schema("explanations", n)
        answer = await ask(llm, messages, self.role, schema=schema, meter=runtime.context.meter)
        try:
            return read_sentences(answer, self.role)
        except LLMError:
            return []

    async def _single(
        self, llm: BaseChatModel, history: list[Attempt], errors: Sequence[PredictionError], runtime: HasContext
    ) -> str:
        messages = refinement_messages(history, 1, errors)
        return read_sentence(await ask(llm, messages, self.role, meter=runtime.context.meter), self.role)


def _errors_of_best(history: Sequence[Attempt]) -> tuple[PredictionError, ...]:
    return max(history, key=lambda attempt: attempt.val_score).errors if history else ()
