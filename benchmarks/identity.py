"""What it costs to ask a subject what it computes: `python benchmarks/identity.py [--subject NAME] [--dtype DTYPE]`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch

import neuronscope as ns


def seconds(action: Callable[[], object], rounds: int) -> float:
    """The median of some rounds, after one that is not counted."""
    action()
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        action()
        taken.append(time.perf_counter() - start)
    return median(taken)


def main() -> None:
    """Print each cost beside the forward passes that it comes with."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subject", default="smollm2-135m")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    subject = ns.load_subject(arguments.subject, dtype=arguments.dtype)
    size = sum(each.nbytes for each in subject.model.parameters())
    batch = [[token % 1000 + 5 for token in range(64)]] * 32
    deepest = [subject.n_layers - 1]
    print(f"{subject}, {size / 1e6:,.0f} MB of parameters, {torch.get_num_threads()} threads")
    print(f"fingerprint     {1000 * seconds(lambda: subject.fingerprint, arguments.rounds):8.1f} ms")
    print(f"revision        {1000 * seconds(subject.revision, arguments.rounds):8.1f} ms")
    print(f"one token       {1000 * seconds(lambda: subject.activations([[5]], deepest), arguments.rounds):8.1f} ms")
    print(f"32 × 64 tokens  {1000 * seconds(lambda: subject.activations(batch, deepest), 3):8.1f} ms")


if __name__ == "__main__":
    main()
