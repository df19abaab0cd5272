"""What a plan says beforehand, beside what the run then takes.

    python benchmarks/plan.py
    python benchmarks/plan.py --neurons 20 --delay 0.3

Neurons, text, simulator and the local server are those of `orchestrate.py`. One neuron is explained as a sample, and
the others are planned by it. A ratio of 1 is a plan that was right.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import neuronscope as ns
from orchestrate import ByKind, Planted, Quoting, Source, serve

AGENTS = ("hypothesis", "decomposition", "refinement")


class Inactive(Planted):
    """A subject that can be timed."""

    def width(self, layer: int) -> int:
        """As many neurons as the longest run here."""
        return 1_000

    def activations(self, token_ids: Sequence[Sequence[int]], layers: Sequence[int]) -> dict[int, list[Any]]:
        """Zeros, at once."""
        return {layer: [np.zeros((len(ids), self.width(layer)), np.float32) for ids in token_ids] for layer in layers}


def main() -> None:
    """Print planned and taken amounts, and their ratios."""
    parser = argparse.ArgumentParser(description="What a plan says beside what the run then takes.")
    parser.add_argument("--neurons", type=int, default=20)
    parser.add_argument("--delay", type=float, default=0.3, help="seconds that an answer takes")
    arguments = parser.parse_args()
    os.environ["OPENAI_API_KEY"] = "none"
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    server = context.Process(target=serve, args=(arguments.delay, there), daemon=True)
    server.start()
    neurons = [ns.Neuron(0, index) for index in range(arguments.neurons)]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NEURONSCOPE_CACHE"] = folder
        setup = ns.Setup(
            subject=Inactive(),
            store=Source(),
            simulator=Quoting(),
            embeddings=ByKind(),
            llm={agent: f"openai:{agent}" for agent in AGENTS},
            base_url=f"http://127.0.0.1:{here.recv()}/v1",
        )
        with setup.open(layers=[0]) as lab:
            plan = lab.plan(neurons, out=Path(folder) / "run", sample=1)
            began = time.perf_counter()
            results = list(lab.explain_many(neurons, out=Path(folder) / "run", progress=False))
            seconds = time.perf_counter() - began
    server.terminate()
    usages = [result.usage for result in results]
    taken = {
        "requests": sum(sum(usage.requests.values()) for usage in usages) - plan.spent.requests,
        "simulated_tokens": sum(usage.simulated_tokens for usage in usages) - plan.spent.simulated_tokens,
        "seconds": seconds,
    }
    print(f"{plan.left} of {plan.neurons} neurons, planned by {plan.measured}, answers after {arguments.delay:g} s")
    for name, amount in taken.items():
        planned = getattr(plan, name)
        print(f"{name:<18} planned {planned:10.1f}   taken {amount:10.1f}   ratio {planned / amount:.2f}")


if __name__ == "__main__":
    main()
