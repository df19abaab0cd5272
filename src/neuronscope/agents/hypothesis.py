"""The Hypothesis Agent: hypotheses of everything that the top exemplars suggest (paper, section 2.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from neuronscope.agents import paper_prompts, prompts
from neuronscope.agents.evidence_lines import HYPOTHESIS, SHORT
from neuronscope.agents.highlighting import Marks, without_marks
from neuronscope.agents.role import LLMRole, succeeded
from neuronscope.llm import ask
from neuronscope.llm.answers import read_apart, read_text
from neuronscope.state import HasContext, NeuronState
from neuronscope.text import distinct

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage

    from neuronscope.agents.prompts import HypothesisPrompt
    from neuronscope.types import Exemplar


class HypothesisAgent(LLMRole):
    """Reads `neuron` and `exemplars.train`; writes `hypotheses`, each one text.

    Where there are exemplars in `unexplained`, it reads these, and adds to the `hypotheses` that there are.

    It is shown the neuron's evidence (`Instruments.evidence`), with the paper's prompts the exemplars alone. Hypotheses
    are independent: each is a request of its own, and all but the first see a part of the excerpts in another order.
    A hypothesis that fails is reported in `failures`, as long as another one succeeds.
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
        prompt_of = await self._prompts(exemplars, state, runtime)
        requests = (self._write(llm, prompt_of, index, runtime) for index in range(context.config.n_hypotheses))
        texts, failures = succeeded(await asyncio.gather(*requests, return_exceptions=True), self.role)
        update: NeuronState = {"hypotheses": distinct([*earlier, *texts])}
        return {**update, "failures": failures} if failures else update

    async def _prompts(
        self, exemplars: list[Exemplar], state: NeuronState, runtime: HasContext
    ) -> Callable[[int, bool], HypothesisPrompt]:
        """The prompt of each hypothesis, by its number and whether it is to be short."""
        context, config = runtime.context, runtime.context.config
        if config.prompts == "paper":
            return lambda index, _: paper_prompts.hypothesis_prompt(exemplars, index, config.seed)
        evidence = await context.evidence.of(state["neuron"], state["exemplars"])
        is_second = bool(state.get("unexplained"))
        make = partial(
            prompts.hypothesis_prompt,
            evidence,
            seed=config.seed,
            unexplained=exemplars if is_second else (),
            known=[mode.explanation for mode in state.get("modes", [])] if is_second else (),
        )
        return lambda index, is_short: make(index, sizes=SHORT if is_short else HYPOTHESIS)

    async def _write(
        self, llm: BaseChatModel, prompt_of: Callable[[int, bool], HypothesisPrompt], index: int, runtime: HasContext
    ) -> str:
        async def request(is_short: bool) -> str:
            prompt = prompt_of(index, is_short)
            answer = await ask(llm, prompt.messages, self.role, usage=runtime.context.usage, sample=index)
            return await read_apart(_read, answer, self.role, prompt.marks)

        return await self._asking(llm, request)


def _read(answer: AIMessage, role: str, marks: Marks) -> str:
    lines = without_marks(read_text(answer, role), marks).splitlines()
    return "\n".join(distinct(lines))  # small models repeat themselves
