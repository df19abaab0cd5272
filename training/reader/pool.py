"""Step 1: texts of the built-in corpus, and what random neurons of SmolLM2-135M do on them.

    python training/reader/pool.py WORK

Writes WORK/pool.pt: sequences of train documents (`ids`, `source`), and half-precision activations of `NEURONS` random
neurons of each of `LAYERS` on their tokens. None of these layers but those of `readings.jsonl` itself is in the sets that
measure a simulator (5, 9, 19, 29). About ten minutes on one core.
"""

from __future__ import annotations

import json
import sys
from itertools import groupby
from pathlib import Path

import numpy as np
import torch

from neuronscope.corpus.builtin import builtin_corpus
from neuronscope.corpus.windows import windows
from neuronscope.subject.loading import load_model

LAYERS = (3, 4, 6, 7, 8, 11, 12, 13, 15, 16, 17, 18, 20, 21, 22, 24, 25, 27)
NEURONS = 60
N_TOKENS = 500_000
KEPT = 4_000
"""Sequences, of train documents only."""
SEED = 23
READINGS = Path(__file__).with_name("readings.jsonl")


def main(work: Path) -> None:
    """Make the pool unless it is there."""
    work.mkdir(parents=True, exist_ok=True)
    if (work / "pool.pt").exists():
        return
    model, tokenizer, _ = load_model("smollm2-135m", device="cpu", dtype="bfloat16")
    rng = np.random.default_rng(SEED)
    cut = [w for w in windows(builtin_corpus(), tokenizer, 64, N_TOKENS) if w.split == "train"]
    cut = sorted((cut[i] for i in rng.permutation(len(cut))[:KEPT]), key=lambda window: len(window.token_ids))
    readings = [json.loads(line) for line in READINGS.read_text(encoding="utf-8").splitlines()]
    neurons = {(layer, int(i)) for layer in LAYERS for i in rng.choice(1536, NEURONS, replace=False)}
    neurons |= {(r["layer"], r["neuron"]) for r in readings}
    ordered = sorted(neurons)
    by_layer = {layer: [n for _, n in group] for layer, group in groupby(ordered, key=lambda pair: pair[0])}
    seen: dict[int, torch.Tensor] = {}
    for layer, indices in by_layer.items():

        def keep(_: object, inputs: tuple[torch.Tensor], layer: int = layer, indices: list[int] = indices) -> None:
            seen[layer] = inputs[0][..., indices].half()

        model.model.layers[layer].mlp.down_proj.register_forward_pre_hook(keep)
    activations = []
    for _, group in groupby(cut, key=lambda window: len(window.token_ids)):
        rows = torch.tensor([window.token_ids for window in group])
        for batch in rows.split(32):
            with torch.inference_mode():
                model.model(batch, use_cache=False)
            activations.append(torch.cat([seen[layer] for layer in by_layer], dim=-1).flatten(0, 1))
        print(len(rows), "sequences of", rows.shape[1], flush=True)
    torch.save(
        {
            "ids": [window.token_ids for window in cut],
            "source": [window.source for window in cut],
            "neurons": [(layer, n) for layer, group in by_layer.items() for n in group],
            "activations": torch.cat(activations),
        },
        work / "pool.pt",
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
