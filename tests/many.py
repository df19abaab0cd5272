"""A planted world with many neurons, and the server that answers for its agents."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langchain_core.embeddings import DeterministicFakeEmbedding

import neuronscope as ns
from fake_openai import Reply
from planted import (
    ANIMAL_MODE,
    ANIMALS,
    BETTER_ANIMALS,
    BETTER_COLOURS,
    COLOUR_MODE,
    COLOURS,
    MemorySource,
    PlantedSubject,
    WordSimulator,
    documents,
)

AGENTS = ("hypothesis", "decomposition", "refinement")
CONFIG = ns.ExplainConfig(n_hypotheses=2, n_candidates=2, max_iterations=2, patience=None, max_concurrency=4)
DEAD = ns.Neuron(0, 3)


class ManySubject(PlantedSubject):
    """Neurons that fire on colours and animals, each in its own proportions; the fourth is dead."""

    def width(self, layer: int) -> int:
        return 40

    def _row(self, token_id: int) -> list[float]:
        word = self.tokenizer.words[token_id].strip()
        if word not in [*COLOURS, *ANIMALS]:
            return [0.0] * 40
        kind = [*COLOURS, *ANIMALS].index(word)
        return [0.0 if index == DEAD.index else 3.0 + (index * (kind + 1)) % 41 / 13 for index in range(40)]


def useful(request: dict[str, Any], number: int) -> Reply:
    """What a good model says; it is called after the agent that asks it."""
    schema = "response_format" in request
    sentences = {"decomposition": [COLOUR_MODE, ANIMAL_MODE], "refinement": [BETTER_COLOURS, BETTER_ANIMALS]}
    if request["model"] == "hypothesis":
        prompt = json.dumps(request["messages"]).encode()  # so every neuron's drafts are its own
        return Reply(f"It activates on colours and on animals, draft {hashlib.sha256(prompt).hexdigest()[:8]}.")
    return Reply(json.dumps({"sentences": sentences[request["model"]]} if schema else sentences[request["model"]]))


def slow(seconds: float) -> Callable[[dict[str, Any], int], Reply]:
    """The same after some time."""

    def answer(request: dict[str, Any], number: int) -> Reply:
        time.sleep(seconds)
        return useful(request, number)

    return answer


def arguments(address: str, **changes: Any) -> dict[str, Any]:
    """What a user passes to `explain_neurons`, but for the neurons."""
    subject = ManySubject()
    settings: dict[str, Any] = {
        "subject": subject,
        "store": MemorySource(subject, documents()),
        "simulator": WordSimulator(),
        "embeddings": DeterministicFakeEmbedding(size=8),
        "llm": {agent: f"openai:{agent}" for agent in AGENTS},
        "base_url": address,
        "config": CONFIG,
        "progress": False,
    }
    return settings | changes


def found(results: list[ns.NeuronExplanation]) -> dict[ns.Neuron, dict[str, Any]]:
    """Results without what they cost."""
    return {x.neuron: json.loads(x.to_json()) | {"usage": None} for x in results}


def results_in(folder: Path) -> list[ns.NeuronExplanation]:
    return [ns.NeuronExplanation.load(file) for file in sorted((folder / "results").glob("*.json"))]
