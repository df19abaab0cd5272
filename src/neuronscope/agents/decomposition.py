"""The Decomposition Agent: hypotheses split into single, falsifiable conditions (paper, section 2.3)."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, ClassVar

from neuronscope.agents import paper_prompts, prompts
from neuronscope.agents.parsing import read_sentences
from neuronscope.agents.role import LLMRole, succeeded
from neuronscope.llm import ask
from neuronscope.llm.answers import read_apart
from neuronscope.state import HasContext, NeuronState
from neuronscope.text import distinct

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

_SUBJECT = re.compile(r"\A(?:(?:this|the) neuron|it)\s+", re.IGNORECASE)
_VERB = re.compile(r"\A(?:also |strongly |weakly |mainly )*(?:activates|fires|responds|reacts)\b", re.IGNORECASE)
_PREPOSITION = re.compile(r"\A(?:when|whenever|if|on|in|at|for|after|before|with)\b", re.IGNORECASE)
_CLAUSE = re.compile(
    r"\b(?:is|are|was|were|has|have|appears?|occurs?|follows?|precedes?|comes?|stands?|mentions?|contains?|refers?|"
    r"describes?|discusses|talks?|begins?|ends?)\b",
    re.IGNORECASE,
)
_CAPITALISED_WORD = re.compile(r"\A[A-Z][a-z]*\b(?!\.)")


class DecompositionAgent(LLMRole):
    """Reads `hypotheses`; writes `atoms`: standalone sentences, each one condition, no two the same.

    The hypotheses are split concurrently. One that fails is reported in `failures`, as long as another one succeeds.
    """

    role: ClassVar[str] = "decomposition"

    async def __call__(self, state: NeuronState, runtime: HasContext) -> NeuronState:
        """Split the hypotheses.

        Raises:
            LLMError: no hypothesis could be split.
        """
        llm = self._model(runtime)
        if llm == "offline":
            from neuronscope.offline.agents import LexicalDecomposition

            return await LexicalDecomposition()(state, runtime)
        requests = [self._split(llm, hypothesis, runtime) for hypothesis in state["hypotheses"]]
        lists, failures = succeeded(await asyncio.gather(*requests, return_exceptions=True), self.role)
        update: NeuronState = {"atoms": distinct([atom for atoms in lists for atom in atoms])}
        return {**update, "failures": failures} if failures else update

    async def _split(self, llm: BaseChatModel, hypothesis: str, runtime: HasContext) -> list[str]:
        context = runtime.context
        is_papers, schema = context.config.prompts == "paper", prompts.sentences_schema("conditions")
        messages = (paper_prompts.decomposition_messages if is_papers else prompts.decomposition_messages)(hypothesis)
        answer = await ask(llm, messages, self.role, schema=schema, usage=context.usage)
        return [standalone(sentence) for sentence in await read_apart(read_sentences, answer, self.role)]


def standalone(sentence: str) -> str:
    """The condition as a sentence about "This neuron": models forget the prompt's fourth rule now and then.

    A clause is put after "activates when", anything else after "activates on": `"Colour words."` becomes
    `"This neuron activates on colour words."`
    """
    sentence = sentence.strip()
    subject = _SUBJECT.match(sentence)
    if subject:
        return f"This neuron {sentence[subject.end() :]}"
    if _CAPITALISED_WORD.match(sentence):
        sentence = sentence[0].lower() + sentence[1:]
    if _VERB.match(sentence):
        return f"This neuron {sentence}"
    if _PREPOSITION.match(sentence):
        return f"This neuron activates {sentence}"
    joint = "activates when" if _CLAUSE.search(sentence) else "activates on"
    return f"This neuron {joint} {sentence}"
