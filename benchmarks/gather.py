"""What gathering the statistics of one batch takes on a processor: 32 x 64 tokens of SmolLM2, both signs, by layer.

    python benchmarks/gather.py                     # layers 5, 20, 29, bfloat16
    python benchmarks/gather.py --dtype float32

Processor time of one thread, so that it means something on a busy machine; median and least of `--rounds`. *warm* takes
the same batch each time; *in turn* goes through eight, so that each has left the processor's cache, as if it came from
memory. In a collection a batch was computed a moment ago.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

import neuronscope as ns
from neuronscope.corpus import open_corpus, windows
from neuronscope.exemplars.accumulator import LayerAccumulator
from neuronscope.exemplars.activations import batches
from neuronscope.exemplars.statistics_pass import chunks
from neuronscope.types import HookPoint

BATCH_TOKENS = 32 * 64
N_BATCHES = 8


def milliseconds(accumulator: LayerAccumulator, batch: torch.Tensor) -> float:
    """Processor time that a batch takes."""
    start = time.process_time()
    accumulator.add_batch(batch, None)
    return 1000 * (time.process_time() - start)


def captured(layers: list[int], dtype: str) -> dict[int, list[torch.Tensor]]:
    """Activations of some batches by layer; the rows apart in memory, as behind a BOS."""
    subject = ns.load_subject("smollm2-135m", dtype=dtype)
    chunk = next(chunks(windows(open_corpus("builtin"), subject.tokenizer, 64)))
    by_id = {window.sequence_id: window.token_ids for window in chunk}
    found: dict[int, list[torch.Tensor]] = {layer: [] for layer in layers}
    for batch, _ in zip(batches(by_id, BATCH_TOKENS), range(N_BATCHES), strict=False):
        activations, _ = subject.capture([by_id[i] for i in batch], layers)
        for layer, own in activations.items():
            found[layer].append(torch.nn.functional.pad(own, (0, 0, 1, 0))[:, 1:])
    return found


def main() -> None:
    """Print a line for each layer."""
    parser = argparse.ArgumentParser(description="What gathering the statistics of one batch takes.")
    parser.add_argument("--layers", default="5,20,29")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32", "float16"])
    parser.add_argument("--rounds", type=int, default=64)
    arguments = parser.parse_args()
    found = captured([int(each) for each in arguments.layers.split(",")], arguments.dtype)
    torch.set_num_threads(1)
    for layer, given in found.items():
        accumulator = LayerAccumulator(HookPoint(layer), given[0].shape[2], (1, -1), 100)
        for batch in given:
            accumulator.add_batch(batch, None)
        in_turn, warm = (
            [milliseconds(accumulator, batch) for batch in order]
            for order in (given * (arguments.rounds // len(given)), given[:1] * arguments.rounds)
        )
        print(
            f"layer {layer:>2}  warm {statistics.median(warm):.2f} ms, least {min(warm):.2f}"
            f"   in turn {statistics.median(in_turn):.2f} ms, least {min(in_turn):.2f}"
        )


if __name__ == "__main__":
    main()
