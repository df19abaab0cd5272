"""What a run takes on disk and in memory, from the layout of its files and from what the process has now."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from neuronscope.config import ExplainConfig
from neuronscope.exemplars.frequency import N_BINS
from neuronscope.exemplars.pool import SAMPLE_SIZE
from neuronscope.exemplars.sampling import TopK, by_split
from neuronscope.types import SPLITS

RESULT, PER_MODE = 15_000, 15_000
"""Bytes of a saved result, and of each of its modes, with histories and excerpts."""
CHECKPOINTS = 600_000
"""Bytes of a neuron under way; its place is used again when it is done."""
ANSWER, COST = 1_200, 100
"""Bytes of an answer in the cache, and of a request in a run's costs."""
PARQUET = 5
"""Bytes of a token in a store's table of sequences."""
SCORING = 5_000_000
"""Bytes of a neuron's predictions while it is under way (see `metrics.scorer`)."""


def files_of(
    config: ExplainConfig,
    neurons: int,
    *,
    modes: float,
    requests: float,
    activations: int,
    parallel: int,
    is_saved: bool,
) -> dict[str, int]:
    """Bytes that explaining adds, by what they are for.

    Args:
        config: the settings.
        neurons: how many are explained.
        modes: of one, in the mean.
        requests: to language models, of all.
        activations: tokens of one neuron whose activations a store keeps.
        parallel: neurons under way at once.
        is_saved: whether the run has a folder.
    """
    found = {"activations": 4 * neurons * activations}
    if requests and config.cache_answers:
        found["answers"] = round(requests * ANSWER)
    if is_saved:
        results = neurons * (RESULT + modes * PER_MODE)
        found["run"] = round(results + min(parallel, neurons) * CHECKPOINTS + requests * COST)
    return {name: size for name, size in found.items() if size}


def store_bytes(widths: Sequence[int], n_tokens: float, seq_len: float, top_k: TopK, n_signs: int = 2) -> int:
    """Bytes of a store without kept activations (see `exemplars.layout`)."""
    places = sum(by_split(top_k).values())
    lists = sum(widths) * n_signs * (12 + 8 * places)
    listed = (sum(widths) * n_signs * places + SAMPLE_SIZE * len(SPLITS)) * seq_len
    return round(lists + PARQUET * min(n_tokens, listed))


def collection_bytes(widths: Sequence[int], n_tokens: float, seq_len: float, top_k: TopK, n_signs: int = 2) -> int:
    """Bytes of memory that lists, counters and sequences take while exemplars are collected."""
    places = sum(by_split(top_k).values())
    lists = sum(widths) * n_signs * (16 + 8 * N_BINS + 8 * places)
    listed = (sum(widths) * n_signs * places + SAMPLE_SIZE * len(SPLITS)) * seq_len
    return round(lists + 2 * 4 * min(n_tokens, listed))


def memory() -> int | None:
    """The most main memory that this process has had, in bytes; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def gpu_memory() -> int | None:
    """The most memory of GPUs that this process has had; None where it uses none."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return sum(int(torch.cuda.max_memory_reserved(device)) for device in range(torch.cuda.device_count())) or None
