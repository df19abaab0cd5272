"""Experiments without a language model: train text with a condition's words put into it, and without them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import uuid4

from langchain_core.messages import AIMessage, ToolCall

from neuronscope.agents.prober import CAPTURE, MOST_TEXTS
from neuronscope.baselines.single_pass import AgentRuntime
from neuronscope.offline.conditions import Condition
from neuronscope.offline.sentences import conditions_in, name_in, sentence
from neuronscope.text import distinct

if TYPE_CHECKING:
    from neuronscope.results import Probe
    from neuronscope.state import Instruments
    from neuronscope.types import ExemplarIds, Neuron

CARRIER_WORDS = 8
"""Words of train text that stand before a condition's words."""
CARRIERS = 50
"""Train sequences that they are taken from."""


class OfflineWriter:
    """Hypotheses of the offline roles; texts and next versions by rule."""

    def __init__(self, neuron: Neuron, exemplars: ExemplarIds, instruments: Instruments) -> None:
        self._neuron = neuron
        self._exemplars = exemplars
        self._instruments = instruments

    async def hypotheses(self, n: int) -> list[str]:
        """The sentences of the offline hypotheses, each of a cluster of conditions."""
        from neuronscope.offline.agents import LexicalDecomposition, LexicalHypothesis

        runtime = AgentRuntime(self._instruments)
        state = await LexicalHypothesis()({"neuron": self._neuron, "exemplars": self._exemplars}, runtime)
        atoms = (await LexicalDecomposition()({"hypotheses": state["hypotheses"]}, runtime))["atoms"]
        return distinct(atoms)[:n]

    async def texts(self, hypothesis: str, probes: Sequence[Probe]) -> AIMessage:
        """A text for each of the strongest conditions that no test had yet, and the same text without its words."""
        tested = "\n".join(text.text for probe in probes for text in probe.texts if text.expected)
        conditions = _words_of(hypothesis)
        new = [
            each for each in conditions if not tested.endswith(_written(each)) and f"{_written(each)}\n" not in tested
        ]
        carriers = await self._carriers(f"{hypothesis}/{len(probes)}")
        chosen = (new or conditions)[:MOST_TEXTS]
        beginnings = [carriers[index % len(carriers)] for index in range(len(chosen))]
        texts = [f"{start} {_written(each)}" for start, each in zip(beginnings, chosen, strict=True)]
        args = {"texts": texts or [hypothesis], "hard_negatives": list(dict.fromkeys(beginnings))}
        return AIMessage("", tool_calls=[ToolCall(name=CAPTURE, args=args, id=uuid4().hex)])

    async def refined(self, hypothesis: str, probes: Sequence[Probe]) -> str:
        """The hypothesis without the conditions whose texts did not activate the neuron."""
        failed = [text.text for probe in probes for text in probe.texts if text.expected and not text.activated]
        conditions = conditions_in(hypothesis)
        left = [each for each in conditions if not any(text.endswith(f" {_written(each)}") for text in failed)]
        return sentence(left, name_in(hypothesis)) if left and len(left) < len(conditions) else ""

    async def _carriers(self, name: str) -> list[str]:
        """Beginnings of train sequences drawn at random."""
        store, seed = self._instruments.store, self._instruments.config.seed
        drawn = await asyncio.to_thread(store.random_sequences, self._neuron, "train", CARRIERS, seed)
        found = [" ".join(each.text.split()[:CARRIER_WORDS]) for each in drawn]
        carriers = [text for text in found if text] or ["This is what they said about"]
        random.Random(f"{seed}/{name}").shuffle(carriers)
        return carriers


def _words_of(hypothesis: str) -> list[Condition]:
    """The conditions that a word of a text can fulfil, strongest first."""
    conditions = [each for each in conditions_in(hypothesis) if each.strength > 0 and each.text and each.form == "word"]
    return sorted(conditions, key=lambda each: -each.strength)


def _written(condition: Condition) -> str:
    """A condition's words as a text has them."""
    return " ".join([*condition.after[:1], condition.text])
