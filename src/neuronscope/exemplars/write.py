"""Writing a store: whole, or not at all. `layout` says what goes where."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file

from neuronscope.errors import StoreError
from neuronscope.exemplars.accumulator import TOTAL_UNIT, LayerAccumulator
from neuronscope.exemplars.layout import INFO_FILE, describe, layer_file
from neuronscope.exemplars.partial_store import new_store_folder
from neuronscope.exemplars.pool import SequencePool
from neuronscope.exemplars.sequences import write_sequences
from neuronscope.exemplars.topk import unpack
from neuronscope.io import OTHER_PLACE, write_atomically, writing
from neuronscope.types import SPLITS


def write_store(
    folder: Path,
    partial_folder: Path,
    info: Mapping[str, Any],
    layers: Iterable[LayerAccumulator],
    pool: SequencePool,
    strings: Callable[[Sequence[int]], list[str]],
    write_more: Callable[[Path], None] = lambda folder: None,
) -> None:
    """Write a store under a temporary name, then rename its folder.

    Args:
        folder: where the store will be; if another process has put an equal store there meanwhile, that one stays.
        partial_folder: the folder for the temporary one, on the same disk, which others may use as well; removed if
            nothing else is in it.
        info: subject, corpus and settings; counts per split are added.
        layers: the statistics and top lists.
        pool: the sequences they refer to, and nothing else: prune it before.
        strings: the text of each of a sequence's tokens.
        write_more: writes what else the store is to hold into its folder.

    Raises:
        StoreError: something that is not a store is in the way, or it cannot be written there.
    """
    counts = {
        "n_tokens": {split: pool.n_tokens[split] for split in SPLITS},
        "n_sequences": {split: pool.n_sequences[split] for split in SPLITS},
    }
    remedy = f"{OTHER_PLACE}, with cache_dir= or the variable NEURONSCOPE_CACHE."
    with (
        writing(folder, SafetensorError, kind=StoreError, remedy=remedy),
        new_store_folder(partial_folder) as temporary,
    ):
        for layer in layers:
            _write_layer(temporary, layer, pool.n_tokens.total())
        write_sequences(temporary, sorted(pool.sequences.items()), pool.sampled(), strings)
        write_more(temporary)
        _write_info(temporary, {**info, **counts})
        temporary.chmod(0o755)
        _rename(temporary, folder)


def _rename(temporary: Path, folder: Path) -> None:
    try:
        temporary.rename(folder)
    except OSError as error:
        if not folder.exists():
            raise
        if not (folder / INFO_FILE).is_file():
            raise StoreError(f"{folder} is in the way: it is not an exemplar store. Move or delete it.") from error


def _write_info(folder: Path, info: Mapping[str, Any]) -> None:
    """Write `store.json`; a folder without it is not a store, so it comes last."""
    write_atomically(folder / INFO_FILE, describe(folder, info).to_json())


def _write_layer(folder: Path, accumulator: LayerAccumulator, n_tokens: int) -> None:
    """Write a layer's statistics and top lists."""
    arrays: dict[str, NDArray[Any]] = {}
    for sign, statistics in accumulator.signs.items():
        arrays[f"{sign:+d}/frequency"] = (statistics.counts.sum(1).cpu().double() / n_tokens).float().numpy()
        arrays[f"{sign:+d}/mean"] = (statistics.total.cpu().double() * TOTAL_UNIT / n_tokens).float().numpy()
        arrays[f"{sign:+d}/maximum"] = statistics.maximum.cpu().numpy()
        for split, keys in statistics.top.items():
            activations, ids = unpack(keys, accumulator.top_k[split])
            arrays[f"{sign:+d}/{split}/activations"] = activations.cpu().numpy()
            arrays[f"{sign:+d}/{split}/sequences"] = ids.cpu().numpy()
    save_file(arrays, folder / layer_file(accumulator.point))
