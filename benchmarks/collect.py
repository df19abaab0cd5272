"""What collecting costs over the bare model: floor and collector alternately, in one process, on the same batches.

    python benchmarks/collect.py                     # one shallow layer, four layers, all layers of SmolLM2
    python benchmarks/collect.py --layers 5 --rounds 1 --sequences 128

**The floor** is what issue trackers and papers mean by "the forward passes": the model's own trunk without its output
head, in the same dtype, on the same batches in the same order, called as one calls it (with an attention mask), and
ended after the deepest layer asked for, that layer complete, the final norm left out. It keeps nothing.

**The strict floor** is the collector's own forward pass with nothing kept: no attention mask, ended before the deepest
layer's output projection. The difference between the two is what the collector saves; the ratio to the strict floor is
what gathering the statistics costs.

**The collector** is `Collection.add_chunk`, both signs, all splits, with frequency, mean and maximum, on lists that are
already full, and it includes tokenization. There are two: *top 100* lists that many sequences of every split, *default*
what `collect_exemplars` does, 400 of train and 100 of the others. Checkpoints and the final writing are timed apart.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch

import neuronscope as ns
from measuring import seconds
from neuronscope.corpus import Window, open_corpus, windows
from neuronscope.exemplars.activations import batches
from neuronscope.exemplars.checkpoints import INTERVAL, MAX_SHARE, Checkpoints
from neuronscope.exemplars.sampling import DEFAULT_TOP_K
from neuronscope.exemplars.statistics_pass import CHUNK_SEQUENCES, Collection
from neuronscope.subject import LoadedSubject

BATCH_TOKENS = 32 * 64
FILLING = 3 * CHUNK_SEQUENCES
"""Sequences that are collected first: then every list is full, and fewer enter."""


class _Deep(Exception):  # noqa: N818 - a signal, not an error
    """Ends a forward pass."""


def inputs(subject: LoadedSubject, chunk: Sequence[Window]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The chunk's batches as the collector forms them: input ids with what stands in front, and the attention mask."""
    by_id = {window.sequence_id: window.token_ids for window in chunk}
    found = []
    for batch in batches(by_id, BATCH_TOKENS):
        rows = [torch.tensor([*subject.leading_ids, *by_id[i]]) for i in batch]
        masks = [torch.ones_like(row) for row in rows]
        pad = torch.nn.utils.rnn.pad_sequence
        row, mask = (pad(each, batch_first=True).to(subject.device) for each in (rows, masks))
        found.append((row, mask))
    return found


def run_floor(subject: LoadedSubject, found: Sequence[tuple[torch.Tensor, torch.Tensor]], deepest: int) -> None:
    """The model's trunk, ended after the deepest layer."""

    def stop(*_: Any) -> None:
        raise _Deep

    decoder = subject.model.get_decoder()
    layers = decoder.layers if hasattr(decoder, "layers") else decoder.h
    hook = layers[deepest].register_forward_hook(stop)
    try:
        with torch.inference_mode():
            for rows, mask in found:
                with suppress(_Deep):
                    decoder(input_ids=rows, attention_mask=mask, use_cache=False)
    finally:
        hook.remove()


def run_strict_floor(subject: LoadedSubject, chunk: Sequence[Window], deepest: int) -> None:
    """The collector's forward pass, of which nothing is kept."""
    by_id = {window.sequence_id: window.token_ids for window in chunk}
    for batch in batches(by_id, BATCH_TOKENS):
        subject.capture([by_id[i] for i in batch], [deepest])


def stream(subject: LoadedSubject, corpus: Any, sequences: int) -> Iterator[list[Window]]:
    """The corpus in chunks of so many sequences, again and again, with new sequence ids each time."""
    offset = 0
    while True:
        last = 0
        whole = windows(open_corpus(corpus), subject.tokenizer, 64)
        while chunk := list(islice(whole, sequences)):
            last = chunk[-1].sequence_id
            yield [Window(each.sequence_id + offset, each.token_ids, each.split, each.source) for each in chunk]
        offset += last + 1


class Comparison(NamedTuple):
    """Medians of the rounds, in seconds a round."""

    n_tokens: float
    """Of a round."""
    n_rounds: int
    floor: float
    strict: float
    collectors: list[float]

    def speed(self, median: float) -> float:
        """Tokens a second."""
        return self.n_tokens / median


def compare(
    collections: Sequence[Collection],
    corpus: Any,
    sequences: int,
    rounds: Iterable[int],
    clock: Callable[[], float] = time.perf_counter,
    warm_up: int = 1,
) -> Comparison:
    """Time floor, strict floor and every collector one after the other, in each round on the same new chunk.

    Args:
        collections: what collects.
        corpus: whatever `open_corpus` takes.
        sequences: of a round.
        rounds: one item for each round.
        clock: in seconds.
        warm_up: how many first chunks fill the lists, and are not timed.
    """
    subject, deepest = collections[0].subject, max(point.layer for point in collections[0].accumulators)
    assert isinstance(subject, LoadedSubject)
    for_floor, *streams = (stream(subject, corpus, sequences) for _ in range(1 + len(collections)))
    run_floor(subject, inputs(subject, next(for_floor)), deepest)  # its first pass is slower
    for _ in range(warm_up - 1):
        next(for_floor)
    for collection, chunks in zip(collections, streams, strict=True):
        for chunk in islice(chunks, warm_up):
            collection.add_chunk(chunk)
    floor: list[float] = []
    strict: list[float] = []
    collectors: list[list[float]] = [[] for _ in collections]
    n_tokens = []
    for _ in rounds:
        chunk = next(for_floor)
        n_tokens.append(sum(len(window.token_ids) for window in chunk))
        found = inputs(subject, chunk)
        floor.append(seconds(lambda found=found: run_floor(subject, found, deepest), clock))
        strict.append(seconds(lambda chunk=chunk: run_strict_floor(subject, chunk, deepest), clock))
        for collection, chunks, times in zip(collections, streams, collectors, strict=True):
            times.append(seconds(lambda each=collection, chunks=chunks: each.add_chunk(next(chunks)), clock))
    medians = [statistics.median(times) for times in collectors]
    return Comparison(
        statistics.mean(n_tokens), len(n_tokens), statistics.median(floor), statistics.median(strict), medians
    )


def measure(
    subject: LoadedSubject, corpus: str, layers: list[int], sequences: int, rounds: int, clock: Callable[[], float]
) -> None:
    """Print one line of the table, and what a checkpoint costs."""
    collections = [Collection(subject, layers, (1, -1), k, BATCH_TOKENS) for k in (100, DEFAULT_TOP_K)]
    found = compare(collections, corpus, sequences, range(rounds), clock, math.ceil(FILLING / sequences))
    gathered = collections[-1]
    speeds = "".join(f"  {found.speed(each):>9,.0f}" for each in (found.floor, found.strict, *found.collectors))
    ratios = "".join(f"  {each / floor:>8.3f}" for floor in (found.floor, found.strict) for each in found.collectors)
    print(f"{_name(layers):>14}{speeds}{ratios}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoints(Path(folder), {})
        cost = seconds(lambda: checkpoint.save(*gathered.state()))
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
    interval = max(INTERVAL, cost / MAX_SHARE)
    share = f"every {interval:.0f} s of work: {cost / interval:.2%}"
    print(f"{'checkpoint':>14}  {size / 1e6:,.0f} MB in {cost:.2f} s, {share}", flush=True)


def _name(layers: list[int]) -> str:
    return ",".join(map(str, layers)) if len(layers) <= 4 else f"{layers[0]} to {layers[-1]}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="What collecting costs over the bare model.")
    parser.add_argument("--subject", default="smollm2-135m")
    parser.add_argument("--corpus", default="builtin")
    parser.add_argument("--layers", action="append", help="such as 5,9; may be repeated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sequences", type=int, default=CHUNK_SEQUENCES, help="of a round")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu: for a machine that is busy")
    parser.add_argument("--threads", type=int, help="of torch; with --clock cpu, 1: threads that wait count as busy")
    arguments = parser.parse_args()
    clock = time.perf_counter if arguments.clock == "wall" else time.process_time
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    subject = ns.load_subject(arguments.subject)
    n_layers = subject.n_layers
    default = [[5], [5, 9, 19, 29], list(range(n_layers))]
    sets = [[int(each) for each in text.split(",")] for text in arguments.layers or []] or default
    print(
        f"{subject!r}, {torch.get_num_threads()} threads, {arguments.rounds} rounds of {arguments.sequences} sequences"
    )
    above = ["tokens/s"] * 4 + ["to floor"] * 2 + ["strict"] * 2
    names = [*("floor", "strict", "top 100", "default"), *(("top 100", "default") * 2)]
    for label, columns in (("", above), ("layers", names)):
        print(f"{label:>14}" + "".join(f"  {name:>{9 if i < 4 else 8}}" for i, name in enumerate(columns)))
    for layers in sets:
        measure(subject, arguments.corpus, layers, arguments.sequences, arguments.rounds, clock)


if __name__ == "__main__":
    main()
