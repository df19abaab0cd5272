"""Step 1: texts of the built-in corpus.

    python training/reader/pool.py WORK

Writes WORK/pool.pt: the token ids of `KEPT` random sequences of train documents. A few seconds.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from neuronscope.corpus.builtin import builtin_corpus
from neuronscope.corpus.windows import windows
from neuronscope.subject.loading import load_model

N_TOKENS, KEPT, SEED = 500_000, 4_000, 23


def main(work: Path) -> None:
    """Make the pool unless it is there."""
    work.mkdir(parents=True, exist_ok=True)
    if (work / "pool.pt").exists():
        return
    _, tokenizer, _ = load_model("smollm2-135m", device="cpu", dtype="bfloat16")
    rng = np.random.default_rng(SEED)
    cut = [w for w in windows(builtin_corpus(), tokenizer, 64, N_TOKENS) if w.split == "train"]
    kept = sorted((cut[i] for i in rng.permutation(len(cut))[:KEPT]), key=lambda window: len(window.token_ids))
    torch.save({"ids": [window.token_ids for window in kept]}, work / "pool.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
