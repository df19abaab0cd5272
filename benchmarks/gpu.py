"""A rehearsal for a GPU: what only a card can tell, in at most eight minutes, without weights and without a network.

    python benchmarks/gpu.py          # on one card of 80 GB
    python benchmarks/gpu.py --tiny   # the same steps with a tiny shape, on a processor: whether they work, no speeds

Subject and simulator are random models of Llama-3.1-8B's shape, made on the device from a seed, in bfloat16. Speed and
memory are those of trained ones; what they predict is of no interest. The text is Python's own documentation, in tokens
of a vocabulary that is learned from it. Four parts:

- collection: exemplars of four layers, against the trunk alone (see `collect.py`), and the memory it takes;
- simulation: pairs of explanation and exemplar a second with a simulator of the fine-tuned form, against one prompt a
  pair without a shared prefix, at its best of several batch sizes (see `simulate.py`);
- together: the most memory that is allocated while one process collects and simulates;
- precision: how far predictions in bfloat16 are from those in float32, on a part of the pairs.

Each line is printed as it is measured, and ends with the card, torch's version and the dtype. A part for which too
little time is left is skipped with a line. A part that fails is named, the others go on, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import torch

import collect
import simulate
from measuring import Memory, TimeLimit, finish
from neuronscope.exemplars.statistics_pass import CHUNK_SEQUENCES, Collection
from neuronscope.simulators import FinetunedSimulator
from neuronscope.simulators.finetuned import PROMPT
from neuronscope.subject import LoadedSubject
from random_models import llama_tokenizer, random_model, random_simulator_model
from scale import MODELS, Model

LAYERS = (5, 10, 20, 31)
DTYPE = torch.bfloat16
CARD_BYTES = 80e9
"""What subject and simulator are to share."""
TEXTS = [text for _, text in sorted(topics.items())]


@dataclass(frozen=True)
class Plan:
    """How large the models are, and how much is measured."""

    shape: Model
    """Of the subject; the simulator has five tokens more."""
    tokenizer_size: int
    sequences: int
    """Of a round of collection."""
    rounds: int
    """At most, where time allows."""
    exemplars: int
    """Of 64 tokens; each explanation is predicted on each."""
    naive_pairs: int
    naive_sizes: tuple[int, ...]
    precise_exemplars: int
    """On which predictions of both dtypes are compared."""
    needs: dict[str, float]
    """Seconds without which a part does not begin, the models that it is the first to use included."""


FULL = Plan(
    shape=next(each for each in MODELS if each.name == "meta-llama/Llama-3.1-8B"),
    tokenizer_size=8000,
    sequences=CHUNK_SEQUENCES,
    rounds=5,
    exemplars=80,
    naive_pairs=64,
    naive_sizes=(1, 8, 16, 32, 64),
    precise_exemplars=10,
    needs={"collection": 90, "simulation": 75, "together": 30, "precision": 45},
)
TINY = replace(
    FULL,
    shape=Model("tiny", 32, 32, 48, 4, 2, 8, 1000, tied=False),
    tokenizer_size=400,
    sequences=16,
    rounds=2,
    exemplars=4,
    naive_pairs=4,
    naive_sizes=(1, 4),
    precise_exemplars=2,
    needs=dict.fromkeys(FULL.needs, 0.0),
)


class Rehearsal:
    """The parts, and the models that they share, each made when it is first needed."""

    def __init__(self, plan: Plan, limit: TimeLimit, device: torch.device, seed: int) -> None:
        self.plan, self.limit, self.device, self.seed = plan, limit, device, seed
        self.memory = Memory(device)
        self.parts = {
            "collection": self.collection,
            "simulation": self.simulation,
            "together": self.together,
            "precision": self.precision,
        }

    def run(self) -> int:
        """All parts; the exit status, 1 if one failed."""
        shape, plan = self.plan.shape, self.plan
        self.say("start", f"shape of {shape.name}, {shape.layers} layers, seed {self.seed}, {self.limit.left:.0f} s")
        failed = []
        for name, part in self.parts.items():
            if self.limit.left <= plan.needs[name]:
                self.say(name, f"skipped: {max(self.limit.left, 0):.0f} s left, needs {plan.needs[name]:.0f}")
                continue
            try:
                self.memory.restart()
                part()
            except Exception as error:  # noqa: BLE001 - named here; the other parts can still be measured
                traceback.print_exc()
                first_line = (str(error).splitlines() or [""])[0]
                self.say(name, f"failed: {type(error).__name__}: {first_line}")
                failed.append(name)
        self.say("end", f"failed: {', '.join(failed)}" if failed else "no part failed")
        return 1 if failed else 0

    def say(self, part: str, text: str) -> None:
        """Print a line at once."""
        on_gpu = self.device.type == "cuda"
        card = torch.cuda.get_device_name(self.device) if on_gpu else f"processor, {torch.get_num_threads()} threads"
        kind = str(DTYPE).removeprefix("torch.")
        print(
            f"{self.limit.elapsed:7.1f} s  {part:<10}  {text}  [{card}, torch {torch.__version__}, {kind}]", flush=True
        )

    def collection(self) -> None:
        """Four layers against the trunk."""
        subject, plan = self.subject, self.plan
        gathered = self._gathered()
        chunk = next(collect.stream(subject, TEXTS, plan.sequences))
        collect.run_floor(subject, collect.inputs(subject, chunk), max(LAYERS))  # its first pass is slower
        self.memory.restart()
        before, rounds = self.memory.now, self.limit.rounds(plan.rounds, self._reserved("collection"))
        found = collect.compare([gathered], TEXTS, plan.sequences, rounds)
        (collector,) = found.collectors
        self.say(
            "collection",
            f"layers {', '.join(map(str, LAYERS))}: ratio {collector / found.floor:.3f} to the trunk, "
            f"{collector / found.strict:.3f} to the same pass with nothing kept; {found.speed(collector):,.0f} "
            f"tokens/s beside {found.speed(found.floor):,.0f} and {found.speed(found.strict):,.0f}; "
            f"{found.n_rounds} rounds of {found.n_tokens:,.0f} tokens; "
            f"peak {_gigabytes(self.memory.peak)}, {_gigabytes(before)} of it before",
        )

    def simulation(self) -> None:
        """Shared prefixes against one prompt a pair."""
        plan = self.plan
        rounds = self.limit.rounds(plan.rounds, self._reserved("simulation"))
        found = simulate.compare(
            self.simulator,
            [],
            simulate.EXPLANATIONS,
            self.exemplars,
            plan.naive_pairs,
            rounds,
            naive_sizes=plan.naive_sizes,
        )
        self.say(
            "simulation",
            f"{1 / found.ours:,.1f} pairs/s beside {1 / found.naive:,.1f} with one prompt of {found.prompt_tokens} "
            f"tokens a pair, {found.naive_size} in a batch: ratio {found.naive / found.ours:.2f}; "
            f"{found.ours / found.floor:.2f} times a bare pass over the exemplars; {found.n_rounds} rounds of "
            f"{len(simulate.EXPLANATIONS)} explanations x {len(self.exemplars)} exemplars",
        )

    def together(self) -> None:
        """Subject and simulator in one process."""
        simulator, gathered = self.simulator, self._gathered()
        self.memory.restart()
        gathered.add_chunk(next(collect.stream(self.subject, TEXTS, self.plan.sequences)))
        simulator.simulate(simulate.EXPLANATIONS, self.exemplars)
        finish()
        peak, held = self.memory.peak, self.memory.held
        fits = "fits in" if held < CARD_BYTES else "does not fit in"
        self.say(
            "together",
            f"subject and simulator: peak {_gigabytes(peak)}, {_gigabytes(held)} with the allocator's reserve; "
            f"{fits} {CARD_BYTES / 1e9:.0f} GB",
        )

    def precision(self) -> None:
        """The simulator's predictions in both dtypes; afterwards it is what it was."""
        simulator, exemplars = self.simulator, self.exemplars[: self.plan.precise_exemplars]
        coarse = np.concatenate(simulator.simulate(simulate.EXPLANATIONS, exemplars), axis=1)
        simulator.model.model.float()
        try:
            precise = np.concatenate(simulator.simulate(simulate.EXPLANATIONS, exemplars), axis=1)
        finally:
            simulator.model.model.to(DTYPE)
        difference = np.abs(coarse - precise)
        self.say(
            "precision",
            f"bfloat16 against float32: largest difference {difference.max():.4f}, mean {difference.mean():.5f} on the "
            f"scale 0-10, where predictions have a standard deviation of {precise.std():.3f}; {precise.shape[0]} "
            f"explanations x {len(exemplars)} exemplars",
        )

    @cached_property
    def tokenizer(self) -> Any:
        """Of both models."""
        return llama_tokenizer([*TEXTS, *simulate.EXPLANATIONS * 20, PROMPT * 20], self.plan.tokenizer_size)

    @cached_property
    def subject(self) -> LoadedSubject:
        """The random model that is explained."""
        model = self._announced("subject", lambda: random_model(self.plan.shape, 0, DTYPE, self.device, self.seed))
        return LoadedSubject(model, self.tokenizer, "random subject")

    @cached_property
    def simulator(self) -> FinetunedSimulator:
        """A random model of the fine-tuned form."""
        make = random_simulator_model
        model = self._announced("simulator", lambda: make(self.plan.shape, DTYPE, self.device, self.seed + 1))
        return FinetunedSimulator((model, self.tokenizer))

    @cached_property
    def exemplars(self) -> list[Any]:
        """What is simulated."""
        return simulate.exemplars_of(self.tokenizer, self.plan.exemplars, 64, TEXTS)

    def _gathered(self) -> Collection:
        return Collection(self.subject, LAYERS, (1, -1), 100, collect.BATCH_TOKENS)

    def _reserved(self, part: str) -> float:
        """Seconds for the parts behind this one."""
        names: Sequence[str] = list(self.parts)
        return sum(self.plan.needs[name] for name in names[names.index(part) + 1 :])

    def _announced(self, name: str, make: Callable[[], Any]) -> Any:
        start = self.limit.elapsed
        model = make()
        finish()
        self.say(
            name,
            f"{sum(each.numel() for each in model.parameters()) / 1e6:,.1f} million random parameters made in "
            f"{self.limit.elapsed - start:.1f} s; {_gigabytes(self.memory.now)} in use",
        )
        return model


def _gigabytes(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.2f} GB"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the lines; the exit status."""
    parser = argparse.ArgumentParser(description="A rehearsal for a GPU, without weights and without a network.")
    parser.add_argument("--tiny", action="store_true", help="a tiny shape on a processor, in seconds")
    parser.add_argument("--seconds", type=float, default=480, help="parts for which too little is left are skipped")
    parser.add_argument("--device", help="a torch device; by default cuda, and with --tiny cpu")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    device = torch.device(chosen.device or ("cpu" if chosen.tiny else "cuda"))
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; --tiny runs on a processor")
    plan = TINY if chosen.tiny else FULL
    return Rehearsal(plan, TimeLimit(chosen.seconds), device, chosen.seed).run()


if __name__ == "__main__":
    sys.exit(main())
