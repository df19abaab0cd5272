"""The Hypothesis Agent: hypotheses of everything that the top exemplars suggest (paper, section 2.2)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

from neuronscope.agents import paper_prompts, prompts
from neuronscope.agents.highlighting import Marks, without_marks
from neuronscope.agents.role import LLMRole, succeeded
from neuronscope.llm import ask
from neuronscope.llm.answers import read_apart, read_text
from neuronscope.state import HasContext, NeuronState
from neuronscope.text import distinct

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage

    from neuronscope.types import Exemplar


class HypothesisAgent(LLMRole):
    """Reads `neuron` and `exemplars.train`; writes `hypotheses`, each one text.

    Where there are exemplars in `unexplained`, it reads these, and adds to the `hypotheses` that there are.

    Hypotheses are independent: each is a request of its own, and all but the first see a part of the exemplars in
    another order. A hypothesis that fails is reported in `failures`, as long as another one succeeds.
    """

    role: ClassVar[str] = "hypothesis"

    async def __call__(self, state: NeuronState, runtime: HasContext) -> NeuronState:
        """Write the hypotheses.

        Raises:
            LLMError: no request succeeded.
        """
        llm = self._model(runtime)
        if llm == "offline":
            from neuronscope.offline.agents import LexicalHypothesis

            return await LexicalHypothesis()(state, runtime)
        context = runtime.context
        wanted = state.get("unexplained") or state["exemplars"].train
        exemplars = await asyncio.to_thread(context.store.by_id, state["neuron"], wanted)
        earlier = state.get("hypotheses", []) if state.get("unexplained") else []
        if not exemplars:
            return {"hypotheses": earlier}
        requests = (self._write(llm, exemplars, index, runtime) for index in range(context.config.n_hypotheses))
        texts, failures = succeeded(await asyncio.gather(*requests, return_exceptions=True), self.role)
        update: NeuronState = {"hypotheses": distinct([*earlier, *texts])}
        return {**update, "failures": failures} if failures else update

    async def _write(self, llm: BaseChatModel, exemplars: list[Exemplar], index: int, runtime: HasContext) -> str:
        config = runtime.context.config
        prompt_of = paper_prompts.hypothesis_prompt if config.prompts == "paper" else prompts.hypothesis_prompt
        prompt = prompt_of(exemplars, index=index, seed=config.seed)
        answer = await ask(llm, prompt.messages, self.role, usage=runtime.context.usage, sample=index)
        return await read_apart(_read, answer, self.role, prompt.marks)


def _read(answer: AIMessage, role: str, marks: Marks) -> str:
    lines = without_marks(read_text(answer, role), marks).splitlines()
    return "\n".join(distinct(lines))  # small models repeat themselves
