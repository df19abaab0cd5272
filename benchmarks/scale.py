"""What collecting exemplars for every neuron of large models costs, computed from their shapes and from this code.

    python benchmarks/scale.py              # the tables, some of which docs/scale.md has
    python benchmarks/scale.py --tokenizer  # measures what one core tokenizes

Sizes come from the collector's own data structures and constants; the memory traffic of its statistics is counted
while the real code runs on tensors without storage. What is assumed is named `ASSUMED_`, what was measured `MEASURED_`;
no time here was measured on a GPU.
"""

from __future__ import annotations

import argparse
import inspect
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from neuronscope.exemplars.accumulator import TOTAL_UNIT, LayerAccumulator, SignStatistics
from neuronscope.exemplars.checkpoints import INTERVAL, MAX_SHARE
from neuronscope.exemplars.collect import collect_exemplars
from neuronscope.exemplars.pool import SAMPLE_SIZE
from neuronscope.exemplars.sampling import TopK, by_split
from neuronscope.exemplars.statistics_pass import CHUNK_SEQUENCES
from neuronscope.exemplars.topk import MAX_ID
from neuronscope.types import SPLITS, HookPoint

_DEFAULTS = {name: each.default for name, each in inspect.signature(collect_exemplars).parameters.items()}
SEQ_LEN: int = _DEFAULTS["seq_len"]
TOP_K = by_split(_DEFAULTS["top_k"])
BATCH_SEQUENCES: int = _DEFAULTS["batch_size"]
SIGNS: tuple[int, ...] = _DEFAULTS["signs"]

A100_FLOPS = 312e12
"""Per second, bfloat16 without sparsity: NVIDIA's data sheet, as are the next two."""
A100_BYTES_PER_SECOND = 2.039e12
A100_BYTES = 80e9
ASSUMED_COMPUTE_SHARE = 0.45
"""Of the peak, by the model's large matrix products."""
ASSUMED_BANDWIDTH_SHARE = 0.80
"""Of the peak, by element-wise kernels."""
ASSUMED_DISK_BYTES_PER_SECOND = 1e9
ASSUMED_NETWORK_BYTES_PER_SECOND = 1.25e9
"""Ten gigabits."""
ASSUMED_DOCUMENT_TOKENS = 700
"""Of a web page; a conversation has fewer."""
DIGEST_BYTES = 100
"""Of a document seen: 16 bytes in a Python `bytes` in a `set`; see docs/corpora.md."""
POOLED_BYTES = 500
"""Of a sequence of 64 tokens in the pool, everything counted; a test measures it."""
REFERENCE_BYTES = 75
"""Of a sequence's id in a Python set, while the pool is pruned."""
MEASURED_TOKENIZER = 260_000
"""Tokens per second of one core; see `measure_tokenizer`."""

PEER_TOKENS = 1_000_000 * 95
"""Sequences x length in the example command for one layer and one split, README of TransluceAI/observatory, expgen."""
PEER_HOURS = 64 * 2
"""A100-hours for all neurons of Llama-3.1-8B, from the same page."""

CORPORA = (250_000, 10_000_000, 100_000_000, 1_000_000_000, 100_000_000_000)


@dataclass(frozen=True)
class Model:
    """The shape of a decoder with gated MLPs, as in its public `config.json`."""

    name: str
    """As on the Hugging Face Hub."""
    layers: int
    hidden: int
    intermediate: int
    heads: int
    key_value_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    """Whether input and output embeddings are one."""
    has_bos: bool = True
    """Whether the tokenizer has a BOS, which then stands before every sequence."""

    @property
    def neurons(self) -> int:
        """Of all layers."""
        return self.layers * self.intermediate

    @property
    def trunk_parameters(self) -> int:
        """Of all matrices between embeddings and head; norms, a ten-thousandth, are left out."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.key_value_heads)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def weight_bytes(self) -> int:
        """Of the whole model in bfloat16."""
        return 2 * (self.trunk_parameters + self.vocabulary * self.hidden * (1 if self.tied else 2))

    @property
    def trunk_flops(self) -> float:
        """Of one token of the corpus: the trunk up to the deepest output projection, which is not computed.

        Attention is counted over the whole window, without use of its being causal.
        """
        positions = SEQ_LEN + self.has_bos
        products = 2 * (self.trunk_parameters - self.hidden * self.intermediate)
        attention = 4 * self.layers * self.heads * self.head_dim * positions
        return (products + attention) * positions / SEQ_LEN


MODELS = (
    Model("google/gemma-2-2b", 26, 2304, 9216, 8, 4, 256, 256_000, tied=True),
    Model("Qwen/Qwen3-4B", 36, 2560, 9728, 32, 8, 128, 151_936, tied=True, has_bos=False),
    Model("meta-llama/Llama-3.1-8B", 32, 4096, 14336, 32, 8, 128, 128_256, tied=False),
    Model("meta-llama/Llama-3.1-70B", 80, 8192, 28672, 64, 8, 128, 128_256, tied=False),
)


def places(top_k: TopK = TOP_K) -> int:
    """Of one neuron and sign, in the lists of all splits."""
    return sum(by_split(top_k).values())


def device_state_bytes(neurons: int, top_k: TopK = TOP_K, signs: int = len(SIGNS)) -> int:
    """What stays beside the model for the whole pass: maxima, counters and top lists, full."""
    one = SignStatistics(1)
    fixed = one.maximum.nbytes + one.lowest.nbytes + one.counts.nbytes
    return neurons * signs * (fixed + places(top_k) * one.top["train"].itemsize)


def checkpoint_bytes(neurons: int, sequences: int, tokens: int, top_k: TopK = TOP_K, signs: int = len(SIGNS)) -> int:
    """Of `Collection.state()`: the lists, and a pool of so many sequences and tokens with complete random samples."""
    one = SignStatistics(1)
    lists = device_state_bytes(neurons, top_k, signs) + neurons * signs * (one.total.nbytes - one.lowest.nbytes)
    return lists + sequences * 4 * 8 + tokens * 4 + len(SPLITS) * SAMPLE_SIZE * 8


def layer_file_bytes(neurons: int, top_k: TopK = TOP_K, signs: int = len(SIGNS)) -> int:
    """Of a store's arrays: frequency, mean and maximum; an activation and an id for each place."""
    return neurons * signs * (3 * 4 + places(top_k) * (4 + 4))


def chunk_bytes(neurons: int) -> int:
    """Of the sequences' maxima that wait on the device for the end of their chunk, in bfloat16."""
    return CHUNK_SEQUENCES * neurons * len(SIGNS) * 2


def references(neurons: int) -> int:
    """How many places the lists have, which bounds how many sequences they can refer to."""
    return neurons * len(SIGNS) * places()


def kept_bytes(neurons: int) -> int:
    """Of all activations that `keep_activations=True` keeps, at most: of full lists and of full random samples."""
    return 2 * neurons * SEQ_LEN * (len(SIGNS) * places() + len(SPLITS) * SAMPLE_SIZE)


def pooled_sequences(neurons: int, n_tokens: int) -> int:
    """The most sequences that can be in the pool: twice the needed before it is pruned, and no more than there are."""
    return min(-(-n_tokens // SEQ_LEN), 2 * (references(neurons) + len(SPLITS) * SAMPLE_SIZE))


class _Traffic(TorchDispatchMode):
    """Adds up the bytes that operations read and write; views cost nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        is_view = any(each.alias_info is not None and not each.alias_info.is_write for each in func._schema.returns)
        if not is_view:
            touched = tree_leaves(args) + tree_leaves(result)
            self.total += sum(_bytes(each) for each in touched if isinstance(each, torch.Tensor))
        return result


def _bytes(tensor: torch.Tensor) -> int:
    """A tensor's size; one that repeats its elements is no larger than they are."""
    return min(tensor.nbytes, tensor.untyped_storage().nbytes())


@lru_cache(maxsize=1)
def statistics_bytes() -> float:
    """Memory traffic of the statistics on a GPU, in bytes for each activation (a neuron at a token), both signs.

    Counted over the second of two batches of full sequences; each kernel reads and writes memory, none is fused.
    """
    width = 1024
    accumulator = LayerAccumulator(HookPoint(0), width, SIGNS, TOP_K)
    shape = (BATCH_SEQUENCES, SEQ_LEN + 1, width)
    first, second = (torch.empty(shape, dtype=torch.bfloat16, device="meta")[:, 1:] for _ in range(2))
    accumulator.add_batch(first, None)
    with _Traffic() as traffic:
        accumulator.add_batch(second, None)
    return float(traffic.total / second.numel())


def trunk_seconds(model: Model) -> float:
    """Of one A100 for one token: the floor."""
    return model.trunk_flops / (A100_FLOPS * ASSUMED_COMPUTE_SHARE)


def statistics_seconds(model: Model) -> float:
    """Of one A100 for one token: what the statistics add."""
    return model.neurons * statistics_bytes() / (A100_BYTES_PER_SECOND * ASSUMED_BANDWIDTH_SHARE)


def hours(model: Model, n_tokens: float) -> float:
    """Of one A100 at work, without reading, tokenizing and merging chunks."""
    return n_tokens * (trunk_seconds(model) + statistics_seconds(model)) / 3600


def measure_tokenizer() -> float:
    """Tokens per second of processor time of `windows()` over the built-in corpus, the slowest of three readings.

    On one core, with SmolLM2's tokenizer (fast, 49,152 tokens); documents are in memory, so the disk is not in it.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import neuronscope as ns
    from neuronscope.corpus import open_corpus, windows

    tokenizer = ns.load_subject("smollm2-135m").tokenizer
    documents = list(open_corpus("builtin"))
    rates = []
    for _ in range(3):
        start = time.process_time()
        n_tokens = sum(len(window.token_ids) for window in windows(documents, tokenizer, SEQ_LEN))
        rates.append(n_tokens / (time.process_time() - start))
    return min(rates)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _number(value: float) -> str:
    """Three significant digits, with thousands set apart."""
    if value == 0:
        return "0"
    digits = max(0, 2 - int(torch.tensor(value, dtype=torch.float64).abs().log10().floor()))
    return f"{value:,.{digits}f}" if digits else f"{float(f'{value:.3g}'):,.0f}"


def _size(value: float) -> str:
    return f"{_number(value / 1e9)} GB" if value >= 1e8 else f"{_number(value / 1e6)} MB"


def _duration(hours: float) -> str:
    units = ((1, "h"), (60, "min"), (3600, "s"))
    factor, unit = next((each for each in units if hours * each[0] >= 1), units[-1])
    return f"{_number(hours * factor)} {unit}"


def _tokens(value: float) -> str:
    return next(f"{value / unit:g}{name}" for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")) if value >= unit)


def _short(model: Model) -> str:
    return model.name.partition("/")[2]


def models_table() -> str:
    """The shapes, and what follows."""
    head = ["model", "layers", "hidden", "width", "heads", "KV heads", "head size", "neurons", "trunk", "weights, bf16"]
    return _table(
        head,
        [
            [
                f"`{m.name}`",
                *(f"{n:,}" for n in (m.layers, m.hidden, m.intermediate, m.heads, m.key_value_heads, m.head_dim)),
                f"{m.neurons:,}",
                f"{_number(m.trunk_parameters / 1e9)} B",
                _size(m.weight_bytes),
            ]
            for m in MODELS
        ],
    )


def compute_table() -> str:
    """Per token: operations, traffic, time."""
    head = ["model", "trunk, GFLOP", "trunk, µs", "statistics, MB", "statistics, µs", "ratio", "tokens/s"]
    return _table(
        head,
        [
            [
                _short(m),
                _number(m.trunk_flops / 1e9),
                _number(trunk_seconds(m) * 1e6),
                _number(m.neurons * statistics_bytes() / 1e6),
                _number(statistics_seconds(m) * 1e6),
                f"{1 + statistics_seconds(m) / trunk_seconds(m):.2f}",
                _number(1 / (trunk_seconds(m) + statistics_seconds(m))),
            ]
            for m in MODELS
        ],
    )


def hours_table() -> str:
    """A100-hours by corpus."""
    rows = [[_short(m), *(_duration(hours(m, n)) for n in CORPORA)] for m in MODELS]
    return _table(["time of one A100", *map(_tokens, CORPORA)], rows)


def device_table() -> str:
    """What lies on the card."""
    head = ["model", "weights", "lists and counters", "open chunk", "together", "share of 80 GB"]
    rows = []
    for m in MODELS:
        parts = (m.weight_bytes, device_state_bytes(m.neurons), chunk_bytes(m.neurons))
        rows.append([_short(m), *map(_size, (*parts, sum(parts))), f"{sum(parts) / A100_BYTES:.0%}"])
    return _table(head, rows)


def host_table() -> str:
    """The pool, at most, by corpus."""
    rows = [
        [_short(m), f"{references(m.neurons) / 1e6:,.0f} M"]
        + [_size(pooled_sequences(m.neurons, n) * POOLED_BYTES) for n in CORPORA[1:]]
        for m in MODELS
    ]
    return _table(["pool, at most", "places in lists", *map(_tokens, CORPORA[1:])], rows)


def disk_table() -> str:
    """Checkpoints and stores."""
    head = [
        "model",
        "arrays of the store",
        "with activations",
        "checkpoint at 10M",
        "at 1B",
        "written in",
        "every",
        "shard over the network",
    ]
    rows = []
    for m in MODELS:
        sizes = []
        for n in (10_000_000, 1_000_000_000):
            pooled = pooled_sequences(m.neurons, n)
            sizes.append(checkpoint_bytes(m.neurons, pooled, pooled * SEQ_LEN))
        seconds = sizes[1] / ASSUMED_DISK_BYTES_PER_SECOND
        rows.append(
            [
                _short(m),
                _size(layer_file_bytes(m.neurons)),
                _size(layer_file_bytes(m.neurons) + kept_bytes(m.neurons)),
                *map(_size, sizes),
                _duration(seconds / 3600),
                _duration(max(INTERVAL, seconds / MAX_SHARE) / 3600),
                _duration(sizes[0] / ASSUMED_NETWORK_BYTES_PER_SECOND / 3600),
            ]
        )
    return _table(head, rows)


def corpus_table() -> str:
    """What grows with the corpus, whatever the model."""
    head = ["corpus", "sequences, at least", "of all ids", "digests", "tokenizing, one core"]
    rows = [
        [
            _tokens(n),
            f"{-(-n // SEQ_LEN):,}",
            f"{n / SEQ_LEN / (MAX_ID + 1):.2%}",
            _size(n / ASSUMED_DOCUMENT_TOKENS * DIGEST_BYTES),
            _duration(n / MEASURED_TOKENIZER / 3600),
        ]
        for n in CORPORA
    ]
    return _table(head, rows)


def limits_table() -> str:
    """Where numbers run out."""
    largest = 100_000_000_000
    rows = [
        ["ids in 31 bits: full sequences", f"{(MAX_ID + 1) * SEQ_LEN / 1e9:.0f}B tokens"],
        ["ids at 100B tokens: mean length of a sequence, at least", f"{largest / (MAX_ID + 1):.1f} tokens"],
        ["sums in 63 bits at 100B tokens: mean activation, below", _number(2**63 * TOTAL_UNIT / largest)],
        ["cards that one core's tokenizer feeds: " + _short(MODELS[0]), _number(_cards(MODELS[0]))],
        ["cards that one core's tokenizer feeds: " + _short(MODELS[2]), _number(_cards(MODELS[2]))],
    ]
    return _table(["limit", "value"], rows)


def _cards(model: Model) -> float:
    return MEASURED_TOKENIZER * (trunk_seconds(model) + statistics_seconds(model))


def peer_table() -> str:
    """The published peer's case."""
    model = MODELS[2]
    size = _tokens(PEER_TOKENS)
    trunk = PEER_TOKENS * trunk_seconds(model) / 3600
    rows = [
        ["the peer, reported for all neurons", f"{PEER_HOURS}"],
        [
            f"the trunk alone, {model.layers} full passes over {size} tokens",
            _number(trunk * model.layers),
        ],
        [f"the trunk alone, one pass over {size} tokens", _number(trunk)],
        ["this design, one pass with statistics", _number(hours(model, PEER_TOKENS))],
    ]
    return _table([f"{_short(model)}", "A100-hours"], rows)


TABLES = {
    "models": models_table,
    "compute": compute_table,
    "hours": hours_table,
    "device": device_table,
    "host": host_table,
    "disk": disk_table,
    "corpus": corpus_table,
    "limits": limits_table,
    "peer": peer_table,
}
"""What the script prints."""
ON_THE_PAGE = ("hours", "device", "host", "disk")
"""Those of docs/scale.md."""


def main() -> None:
    """Print the tables, or measure."""
    parser = argparse.ArgumentParser(description="What collecting exemplars costs at scale.")
    parser.add_argument("--tokenizer", action="store_true", help="measure tokens/s of one core instead")
    if parser.parse_args().tokenizer:
        print(f"{measure_tokenizer():,.0f} tokens/s of processor time")
        return
    print(f"statistics: {statistics_bytes():.0f} bytes per activation\n")
    print("\n\n".join(table() for table in TABLES.values()))


if __name__ == "__main__":
    main()
