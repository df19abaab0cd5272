"""Step 3: whether a word belongs to what a phrase names: a correction of MiniLM's geometry.

    python training/reader/kinship.py WORK

Learns from families.jsonl and categories.jsonl over the vocabulary of lexicon.json, and writes WORK/kinship.pt. Every
tenth category is held out and measured. Three minutes on one core.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch

from neuronscope.simulators.reader.model import Kinship

sys.path.insert(0, str(Path(__file__).parent))
from batches import LargeBatches
from categories import categories

SEED, STEPS = 23, 900


def main(work: Path) -> None:
    if (work / "kinship.pt").exists():
        return
    here = Path(__file__).parent
    known = categories()
    words = sorted(json.loads((here / "lexicon.json").read_text(encoding="utf-8")))
    words = sorted({*words, *(member for category in known for member in category["members"])})
    index = {word: i for i, word in enumerate(words)}
    names = [name for category in known for name in category["names"]]
    of_name = [c for c, category in enumerate(known) for _ in category["names"]]
    vectors = LargeBatches()
    table, phrases = torch.tensor(vectors.stack(words)), torch.tensor(vectors.stack(names))
    member = torch.zeros(len(known), len(words))
    for c, category in enumerate(known):
        member[c, [index[word] for word in category["members"]]] = 1
    held = torch.tensor([c % 10 == 9 for c in of_name])
    torch.manual_seed(SEED)
    model = Kinship()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    train = torch.nonzero(~held)[:, 0]
    for step in range(STEPS):
        at = train[torch.randint(len(train), (48,))]
        truth = member[torch.tensor([of_name[i] for i in at])]
        chosen = torch.cat([torch.nonzero(truth.any(dim=0))[:, 0], torch.randint(len(words), (1500,))]).unique()
        logits = model(table[chosen], phrases[at])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth[:, chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        optimiser.param_groups[0]["lr"] = 1e-3 * (1 - step / STEPS)
    model.eval()
    with torch.no_grad():
        at = torch.nonzero(held)[:, 0]
        truth = member[torch.tensor([of_name[i] for i in at])].numpy()
        learned, plain = (
            torch.sigmoid(model(table, phrases[at])).numpy(),
            (phrases[at] @ table.T).clamp(min=0.3).numpy(),
        )
    for name, guess in (("MiniLM above .3", plain), ("learned", learned)):
        rows = [np.corrcoef(a, b)[0, 1] for a, b in zip(guess, truth, strict=True) if a.std() > 0 and b.std() > 0]
        print(f"{name}: correlation with membership, held-out categories, {np.mean(rows):.3f}", flush=True)
    torch.save(model.state_dict(), work / "kinship.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
