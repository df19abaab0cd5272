"""The Hypothesis Agent: drafts of everything that the top exemplars suggest (paper, section 2.2)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

from neuronscope.agents import paper_prompts, prompts
from neuronscope.agents.highlighting import Marks, without_marks
from neuronscope.agents.parsing import distinct
from neuronscope.agents.role import LLMRole, succeeded
from neuronscope.llm import ask
from neuronscope.llm.answers import read_apart, read_text
from neuronscope.state import HasContext, NeuronState

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage

    from neuronscope.types import Exemplar


class HypothesisAgent(LLMRole):
    """Reads `neuron` and `exemplars.train`, or `unexplained`; writes `hypotheses`, one text per draft.

    Drafts are independent: each is a request of its own, and all but the first see a part of the exemplars in another
    order. A draft that fails is reported in `failures`, as long as another one succeeds.
    """

    role: ClassVar[str] = "hypothesis"

    async def __call__(self, state: NeuronState, runtime: HasContext) -> NeuronState:
        """Write the drafts.

        Raises:
            LLMError: no draft succeeded.
        """
        llm = self._model(runtime)
        if llm == "offline":
            from neuronscope.offline.agents import LexicalHypothesis

            return await LexicalHypothesis()(state, runtime)
        context = runtime.context
        wanted = state.get("unexplained") or state["exemplars"].train
        exemplars = await asyncio.to_thread(context.store.by_id, state["neuron"], wanted)
        if not exemplars:
            return {"hypotheses": []}
        drafts = (self._draft(llm, exemplars, number, runtime) for number in range(context.config.n_hypotheses))
        texts, failures = succeeded(await asyncio.gather(*drafts, return_exceptions=True), self.role)
        update: NeuronState = {"hypotheses": distinct(texts)}
        return {**update, "failures": failures} if failures else update

    async def _draft(self, llm: BaseChatModel, exemplars: list[Exemplar], number: int, runtime: HasContext) -> str:
        config = runtime.context.config
        written = paper_prompts.hypothesis_prompt if config.prompts == "paper" else prompts.hypothesis_prompt
        prompt = written(exemplars, draft=number, seed=config.seed)
        answer = await ask(llm, prompt.messages, self.role, usage=runtime.context.usage, sample=number)
        return await read_apart(_read, answer, self.role, prompt.marks)


def _read(answer: AIMessage, role: str, marks: Marks) -> str:
    lines = without_marks(read_text(answer, role), marks).splitlines()
    return "\n".join(distinct(lines))  # small models repeat themselves
