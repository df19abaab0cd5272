"""Exemplars written by hand, chat models that answer from a list, and a runtime without a graph."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import Field

import neuronscope as ns
from neuronscope.state import Instruments

NEURON = ns.Neuron(layer=0, index=0)


def exemplar(marked: str, sequence_id: int = 0) -> ns.Exemplar:
    """An exemplar from text in which `{ water:9.5}` is a token with its activation; other words are silent."""
    tokens, activations = [], []
    for piece in re.findall(r"\{[^{}]*:[\d.]+\}|\s?[^\s{}]+|\s", marked):
        text, _, strength = piece[1:-1].rpartition(":") if piece.startswith("{") else (piece, "", "0")
        tokens.append(text)
        activations.append(float(strength))
    return ns.Exemplar(
        tokens, list(range(len(tokens))), np.array(activations, dtype=np.float32), sequence_id, "by hand"
    )


WATER = [
    exemplar("The town had no drinking{ water:9.8}, so trucks brought bottled{ water:9.1} to the school.", 0),
    exemplar("Add two cups of cold{ water:8.7} and salt, then stir until the{ liquid:4.2} is clear.", 1),
    exemplar("He poured the{ milk:3.6} into a jug and asked for more{ water:8.1}.", 2),
    exemplar("She wore a{ red:7.7} shirt\nand{ blue:7.2} shorts.", 3),
    exemplar("Scientists said the{ water:9.3} level fell by three metres.", 4),
    exemplar("The shed was{ green:6.8} and nobody used it.", 5),
]


def text_of(messages: Sequence[BaseMessage]) -> str:
    """All that messages say."""
    return "\n".join(str(message.content) for message in messages)


class ScriptedModel(BaseChatModel):
    """Answers with the script's next string, or with what the function makes of the prompt; keeps the prompts.

    An exception in the script is raised.
    """

    script: Any
    prompts: list[str] = Field(default_factory=list)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        self.prompts.append(text_of(messages))
        answer = self.script(messages) if callable(self.script) else self.script[len(self.prompts) - 1]
        if isinstance(answer, Exception):
            raise answer
        message = AIMessage(content=answer, usage_metadata={"input_tokens": 10, "output_tokens": 3, "total_tokens": 13})
        return ChatResult(generations=[ChatGeneration(message=message)])

    @property
    def _llm_type(self) -> str:
        return "scripted"


def scripted(*answers: str | Exception) -> ScriptedModel:
    """A model that gives these answers, in this order."""
    return ScriptedModel(script=list(answers))


def answering(answer: Callable[[list[BaseMessage]], str]) -> ScriptedModel:
    """A model that computes its answers."""
    return ScriptedModel(script=answer)


@dataclass
class ListStore:
    """An exemplar source over a list: a sequence's id is its place, and every split has the same."""

    items: Sequence[ns.Exemplar] = field(default_factory=lambda: WATER)

    def by_id(self, neuron: ns.Neuron, sequence_ids: Sequence[int]) -> list[ns.Exemplar]:
        return [self.items[index] for index in sequence_ids]

    def exemplars(self, neuron: ns.Neuron, split: str = "train", n: int = 20) -> list[ns.Exemplar]:
        return list(self.items[:n])

    def random_sequences(self, neuron: ns.Neuron, split: str = "test", n: int = 20, seed: int = 0) -> list[ns.Exemplar]:
        return [exemplar("Nothing to see here, said the man.", 99)]


def runtime(**instruments: Any) -> Any:
    """What LangGraph hands to a node, as far as agents look; settings go in as `config=ExplainConfig(...)`."""
    defaults = {"subject": None, "store": ListStore(), "simulator": None, "embeddings": None}
    return SimpleNamespace(context=Instruments(**{**defaults, **instruments}))
