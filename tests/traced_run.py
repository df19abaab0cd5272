"""Explains the planted neuron with the chat model at an address, as a user's script would; for `test_tracing.py`."""

import sys

from langchain_core.embeddings import DeterministicFakeEmbedding

import neuronscope as ns
from planted import BOTH, instruments

if __name__ == "__main__":
    world = instruments()
    x = ns.explain_neuron(
        world.subject,
        layer=BOTH.layer,
        neuron=BOTH.index,
        store=world.store,
        simulator=world.simulator,
        embeddings=DeterministicFakeEmbedding(size=8),
        llm={agent: f"openai:{agent}" for agent in ("hypothesis", "decomposition", "refinement")},
        base_url=sys.argv[1],
        config=ns.ExplainConfig(second_hypothesis=False, cache_answers=False, max_iterations=1, n_hypotheses=2),
    )
    print(x.status, x.number)
