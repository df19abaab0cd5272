"""Step 2: linear probes on SmolLM2's states: part of speech, broad meaning, whether a word goes on.

    python training/reader/probes.py WORK

Writes WORK/probes.pt (`weight`, `bias`). The labels: words of `lexicon.json` (WordNet: what nearly all uses of a word
are), capital letters inside a sentence, and the next token. The context teaches the probe what a word is in it. Two
minutes on one core. WORK/states.pt, what the layers make of the pool's tokens, is kept for the next steps.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch.nn import functional

from neuronscope.offline.text import Text, text_of
from neuronscope.simulators.reader.sentence import PROBES
from neuronscope.simulators.reader.states import encode
from neuronscope.subject.loading import load_model
from neuronscope.subject.tokens import token_strings

SEED, STEPS = 23, 1500
POS = ("noun", "verb", "adjective", "adverb", "function")


def main(work: Path) -> None:
    if (work / "probes.pt").exists():
        return
    model, tokenizer, _ = load_model("smollm2-135m", device="cpu", dtype="bfloat16")
    ids = torch.load(work / "pool.pt", mmap=True)["ids"]
    states = encoded(model.model, ids)
    torch.save(states, work / "states.pt")
    texts = [text_of(token_strings(tokenizer, row)) for row in ids]
    lexicon = json.loads(Path(__file__).with_name("lexicon.json").read_text(encoding="utf-8"))
    labels = torch.cat([labels_of(text, lexicon) for text in texts])
    inputs = torch.cat(states)
    held = torch.arange(len(inputs)) % 10 == 9
    weight, bias = (
        torch.zeros(len(PROBES), inputs.shape[1], requires_grad=True),
        torch.zeros(len(PROBES), requires_grad=True),
    )
    scale = inputs.float().std()
    optimiser = torch.optim.AdamW([weight, bias], lr=3e-3, weight_decay=0.01)
    generator = torch.Generator().manual_seed(SEED)
    train = torch.nonzero(~held)[:, 0]
    for step in range(STEPS):
        at = train[torch.randint(len(train), (1024,), generator=generator)]
        known = labels[at] >= 0
        logits = functional.linear(inputs[at].float() / scale, weight, bias)
        loss = functional.binary_cross_entropy_with_logits(logits[known], labels[at].float()[known])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * (1 - step / STEPS)
    with torch.no_grad():
        guess = functional.linear(inputs[held].float() / scale, weight, bias)
        for i, name in enumerate(PROBES):
            truth = labels[held][:, i]
            positive, negative = guess[truth == 1, i], guess[truth == 0, i]
            better = float((positive[:2000, None] > negative[None, :2000]).float().mean())
            print(
                f"{name:10s} {len(positive):6d} of {len(positive) + len(negative):6d}, area under the curve {better:.3f}"
            )
    torch.save({"weight": weight.detach() / scale, "bias": bias.detach()}, work / "probes.pt")


def encoded(language_model: object, ids: list[list[int]]) -> list[torch.Tensor]:
    """Each row's states, in batches of similar length."""
    order = sorted(range(len(ids)), key=lambda n: len(ids[n]))
    states: list[torch.Tensor] = [torch.zeros(0)] * len(ids)
    for first in range(0, len(order), 32):
        batch = order[first : first + 32]
        rows = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids[n]) for n in batch], batch_first=True)
        for n, row in zip(batch, encode(language_model, rows), strict=True):
            states[n] = row[: len(ids[n])].clone()
    return states


def labels_of(text: Text, lexicon: dict[str, list[str]]) -> torch.Tensor:
    """1, 0, or -1 where it is not known, for each token and probe."""
    labels = torch.full((len(text.contents), len(PROBES)), -1, dtype=torch.int8)
    index = {name: i for i, name in enumerate(PROBES)}
    for i, (content, word) in enumerate(zip(text.contents, text.words, strict=True)):
        goes_on = i + 1 < len(text.contents) and text.continues[i + 1]
        if content.isalpha() and i + 1 < len(text.contents):
            labels[i, index["goes on"]] = goes_on
        opens = not text.left[i].strip() or text.left[i].rstrip()[-1:] in '.?!":\n'
        if content.isalpha() and not text.continues[i] and not opens:
            labels[i, index["name"]] = text.capitalised[i]
        known = lexicon.get(word, [])
        if goes_on or not known:
            continue
        meanings = [name for name in known if name not in POS]
        for name, at in index.items():
            if name in POS and any(k in POS for k in known):
                labels[i, at] = name in known
            elif name not in POS and name not in ("name", "goes on") and (meanings or "function" in known):
                labels[i, at] = name in meanings
    return labels


if __name__ == "__main__":
    main(Path(sys.argv[1]))
