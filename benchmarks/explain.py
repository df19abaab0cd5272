"""What explaining neurons costs, stage by stage, beside the least that any method costs.

    python benchmarks/explain.py                        # 64 random neurons of layer 9 of SmolLM2, without an LLM
    python benchmarks/explain.py --neurons 1536         # the whole layer

Exemplars are those of the cache folder, collected before the clock starts; activations token by token, what the reader
knows of texts and vectors of words are not there, and are part of the bill. Times are processor time of one thread, so
that other programs do not count. Each stage is what its functions take; what calls within them take belongs to these.

**The floor** is scoring alone: the sentences that were found, scored once more by the same run as any method's
would be (`Session.score_explainer`), when all is known of activations, texts and words.

With an LLM, requests, tokens and dollars a neuron are those of `Session.plan`; nothing is sent.
"""

from __future__ import annotations

import argparse
import functools
import os
import shutil
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

import neuronscope as ns
from neuronscope.exemplars import activations
from neuronscope.exemplars import store as stores
from neuronscope.graphs import examine
from neuronscope.interfaces import Explained
from neuronscope.llm.minilm import MiniLM
from neuronscope.offline.features import Features
from neuronscope.runs.folder import RunFolder
from neuronscope.simulators.reader import ReaderSimulator

SUBJECT = "smollm2-135m"
FLOOR_NEURONS = 64
"""The floor is measured on so many neurons, at most."""


class Stages:
    """Processor seconds by stage; a stage that runs within another one, in the same thread, is not counted there."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._thread = threading.local()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what happens inside."""
        within = getattr(self._thread, "within", 0.0)
        self._thread.within = 0.0
        began = time.thread_time()
        try:
            yield
        finally:
            took = time.thread_time() - began
            self.seconds[name] += took - self._thread.within
            self._thread.within = within + took

    def count(self, owner: object, function: str, name: str) -> None:
        """Have a function of a module or a class counted."""
        inner = vars(owner)[function]
        plain: Callable[..., Any] = inner.__func__ if isinstance(inner, classmethod) else inner

        @functools.wraps(plain)
        def counted(*arguments: Any, **named: Any) -> Any:
            with self.stage(name):
                return plain(*arguments, **named)

        setattr(owner, function, classmethod(counted) if isinstance(inner, classmethod) else counted)


class Reader(ReaderSimulator):
    """The reader, whose work on new texts is counted apart from its predictions."""

    def __init__(self, stages: Stages) -> None:
        super().__init__()
        self._stages = stages

    def simulate(self, explanations: Sequence[str], exemplars: Sequence[ns.Exemplar]) -> list[NDArray[Any]]:
        """Predict."""
        with self._stages.stage("the simulator's reading of texts"):
            super().simulate([], exemplars)
        with self._stages.stage("predictions"):
            return super().simulate(explanations, exemplars)


class Found:
    """The sentences of a result, as if a method had just written them."""

    name = "found"

    def __init__(self, result: ns.NeuronExplanation) -> None:
        self._sentences = [mode.explanation for mode in result.modes]

    async def explain(self, neuron: ns.Neuron, exemplars: object, instruments: object) -> Explained:
        """Give them."""
        return Explained(sentences=self._sentences)


def counted_stages() -> Stages:
    """The stages, with the functions that do the work counted."""
    stages = Stages()
    stages.count(stores, "compute", "activations")
    for function in ("add", "get"):
        stages.count(activations.ActivationCache, function, "activations, kept on disk")
    for function in ("prefetch", "by_id", "top_ids", "random_ids", "strata"):
        stages.count(stores.ExemplarStore, function, "exemplars")
    for function in ("of", "matching_pursuit", "predict", "estimate", "explained"):
        stages.count(Features, function, "hypotheses and candidates")
    stages.count(MiniLM, "embed_documents", "embeddings")
    for function in ("contexts_of", "likeness", "separation", "_score", "number_interval", "corpus_correlation"):
        stages.count(examine, function, "test scores and intervals")
    stages.count(RunFolder, "save", "saving")
    return stages


@contextmanager
def another_cache(folder: Path) -> Iterator[None]:
    """A cache folder without vectors of words."""
    before = os.environ.get("NEURONSCOPE_CACHE")
    os.environ["NEURONSCOPE_CACHE"] = str(folder)
    try:
        yield
    finally:
        del os.environ["NEURONSCOPE_CACHE"]
        if before is not None:
            os.environ["NEURONSCOPE_CACHE"] = before


def plan_with(llm: str, neurons: Sequence[ns.Neuron], layer: int) -> str:
    """Requests, tokens and dollars a neuron."""
    os.environ.setdefault("OPENAI_API_KEY", "nothing is sent")
    setup = ns.Setup(subject=SUBJECT, corpus="builtin", llm=llm, embeddings="minilm", simulator="hybrid")
    with setup.open(layers=[layer]) as lab:
        plan = lab.plan(neurons)
    n = len(neurons)
    dollars = "unknown" if plan.dollars is None else f"{plan.dollars / n:.3f}"
    requests, read, written = ((each or 0) / n for each in (plan.requests, plan.input_tokens, plan.output_tokens))
    return f"with {llm}: {requests:.0f} requests, {read:,.0f} + {written:,.0f} tokens and {dollars} dollars a neuron"


def main() -> None:
    """Print neurons an hour and the share of each stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--neurons", type=int, default=64)
    parser.add_argument("--layer", type=int, default=9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parallel", type=int, default=8)
    parser.add_argument("--llm", default="openai:gpt-4o", help="for the plan")
    parser.add_argument("--store", help="a folder of exemplars; else those of 250,000 tokens, in the cache folder")
    options = parser.parse_args()
    torch.set_num_threads(1)
    stages = counted_stages()
    with tempfile.TemporaryDirectory() as folder:
        given = ns.open_store(options.store) if options.store else None
        store = given or ns.collect_exemplars(ns.load_subject(SUBJECT), "builtin", [options.layer], n_tokens=250_000)
        copied = Path(folder, "store")
        shutil.copytree(store.path, copied, ignore=shutil.ignore_patterns("activations"))
        setup = ns.Setup(
            subject=SUBJECT, store=ns.open_store(copied), llm="offline", embeddings=MiniLM(), simulator=Reader(stages)
        )
        with setup.open(layers=[options.layer]) as lab:
            neurons = lab.store.top_neurons(options.layer, options.neurons, "random", seed=options.seed)  # type: ignore[attr-defined]
            stages.seconds.clear()
            with another_cache(Path(folder, "cache")):
                wall, busy = time.perf_counter(), time.process_time()
                out = Path(folder, "run")
                results = list(lab.explain_many(neurons, out=out, parallel=options.parallel, progress=False))
                wall, busy = time.perf_counter() - wall, time.process_time() - busy
            counted = dict(stages.seconds)
            began = time.process_time()
            scored = [result for result in results if result.modes][:FLOOR_NEURONS]
            for result in scored:
                lab.score_explainer(Found(result), result.neuron)
            floor = (time.process_time() - began) / max(len(scored), 1)
        n = len(results)
        print(
            f"{n} neurons of layer {options.layer}: {busy / n:.2f} s of processor time each, so {3600 * n / busy:,.0f} "
            f"neurons an hour on one core; {wall / n:.2f} s of the clock"
        )
        counted["the graph, and all else"] = busy - sum(counted.values())
        for name, seconds in sorted(counted.items(), key=lambda each: -each[1]):
            print(f"{name:40s} {seconds / n:6.3f} s  {seconds / busy:4.0%}")
        print(f"{'the floor, scoring alone':40s} {floor:6.3f} s, of which this is {busy / n / floor:.1f} times")
    if options.llm:
        print(plan_with(options.llm, neurons, options.layer))


if __name__ == "__main__":
    main()
