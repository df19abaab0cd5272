"""Step 5: sentences with targets, and the features of every sentence beside its texts.

    python training/reader/prepare.py WORK

Writes WORK/tasks.pt. A task is a few sentences, their texts, and the values to predict there:

- `readings`: a neuron of `readings.jsonl`, each mode's careful reading as a share of its strength; every fifth neuron is
  for validation;
- `planted`: concepts with exact truth (`worded.py`).

Some five minutes on one core.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuronscope.offline.text import Text, text_of
from neuronscope.simulators.reader.batch import batch_of
from neuronscope.simulators.reader.features import features, words_of
from neuronscope.simulators.reader.model import ReaderNetwork
from neuronscope.simulators.reader.tokens import Pieces
from neuronscope.subject.loading import load_model
from neuronscope.subject.tokens import token_strings

sys.path.insert(0, str(Path(__file__).parent))
from batches import LargeBatches
from probes import encoded
from worded import WordedPlanter

SEED = 23
N_PLANTED, CONCEPTS = 4000, 4
TRIED = 800
"""Texts that are looked at for a concept."""
VALIDATION_EVERY = 5

Task = dict[str, Any]


def main(work: Path) -> None:
    """Make the tasks unless they are there."""
    if (work / "tasks.pt").exists():
        return
    model, tokenizer, _ = load_model("smollm2-135m", device="cpu", dtype="bfloat16")
    ids: list[list[int]] = list(torch.load(work / "pool.pt")["ids"])
    lasts = [list(range(len(row))) for row in ids]
    texts = [text_of(token_strings(tokenizer, row)) for row in ids]
    n_pool = len(ids)
    tasks = planted(texts)
    pieces = Pieces(tokenizer)
    lines = Path(__file__).with_name("readings.jsonl").read_text(encoding="utf-8").splitlines()
    for number, record in enumerate(map(json.loads, lines)):
        tasks.append(reading(record, len(ids), number % VALIDATION_EVERY == VALIDATION_EVERY - 1))
        for text in record["texts"]:
            row, last = pieces.encode(text["tokens"])
            ids.append(row)
            lasts.append(last)
            texts.append(text_of(text["tokens"]))
    network = ReaderNetwork().eval()
    network.probes.load_state_dict(torch.load(work / "probes.pt"))
    network.kinship.load_state_dict(torch.load(work / "kinship.pt"))
    network.naming.load_state_dict(torch.load(work / "naming.pt"))
    states = [*torch.load(work / "states.pt"), *encoded(model.model, ids[n_pool:])]
    with torch.no_grad():
        probed = [network.probe(row[last]).numpy() for row, last in zip(states, lasts, strict=True)]
    used = {n for task in tasks for n in task["texts"]}
    vectors = LargeBatches()
    vectors.remember({word for n in used for word in texts[n].words})
    vectors.remember({word for task in tasks for sentence in task["sentences"] for word in words_of(sentence)})
    for task in tasks:
        task["told"] = [None] * len(task["pairs"])
        for mode, sentence in enumerate(task["sentences"]):
            pairs = [pair for pair, (of, _) in enumerate(task["pairs"]) if of == mode]
            numbers = [task["texts"][task["pairs"][pair][1]] for pair in pairs]
            its, told_of = [texts[n] for n in numbers], [probed[n] for n in numbers]
            batch = batch_of(its, told_of, vectors, lambda words: network.corrected(vectors.stack(words)))
            told = torch.from_numpy(features(sentence, batch, vectors, network.belongs, network.named)).half()
            for pair, (start, end) in zip(pairs, batch.spans, strict=True):
                task["told"][pair] = told[start:end].clone()
    torch.save({"tasks": tasks}, work / "tasks.pt")


def reading(record: dict[str, Any], first: int, validation: bool) -> Task:
    """A neuron's careful readings; `first` is the number of its first text."""
    strengths = [float(mode["strength"]) for mode in record["modes"]]
    pairs, targets = [], []
    for place, text in enumerate(record["texts"]):
        for mode, strength in enumerate(strengths):
            pairs.append((mode, place))
            targets.append(dense(text["predicted"][mode], len(text["tokens"])) / strength)
    return {
        "kind": "readings",
        "validation": validation,
        "form": record["form"],
        "sentences": [mode["explanation"] for mode in record["modes"]],
        "strengths": strengths,
        "texts": list(range(first, first + len(record["texts"]))),
        "pairs": pairs,
        "targets": targets,
        "joint": [dense(text["actual"], len(text["tokens"])) for text in record["texts"]],
    }


def planted(texts: list[Text]) -> list[Task]:
    """Concepts in groups, each with up to four texts that have it and two that do not."""
    rng = np.random.default_rng(SEED)
    planter = WordedPlanter(texts)
    tasks: list[Task] = []
    count = 0
    while count < N_PLANTED:
        concept = planter.draw(rng)
        hit: list[tuple[int, np.ndarray]] = []
        miss: list[tuple[int, np.ndarray]] = []
        for n in rng.permutation(len(texts))[:TRIED]:
            values = concept.hits(texts[n])
            (hit if values.max(initial=0) > 0 else miss).append((int(n), values))
            if len(hit) >= 4 and len(miss) >= 2:
                break
        if not hit:
            continue
        if count % CONCEPTS == 0:
            tasks.append(
                {
                    "kind": "planted",
                    "validation": len(tasks) % VALIDATION_EVERY == 0,
                    "sentences": [],
                    "texts": [],
                    "pairs": [],
                    "targets": [],
                }
            )
        task = tasks[-1]
        for n, values in [*hit[:4], *miss[:2]]:
            task["pairs"].append((len(task["sentences"]), len(task["texts"])))
            task["texts"].append(n)
            task["targets"].append(values)
        task["sentences"].append(concept.sentence)
        count += 1
    return tasks


def dense(values: dict[str, float], length: int) -> np.ndarray:
    """Values by token number as an array."""
    row = np.zeros(length, dtype=np.float32)
    for index, value in values.items():
        row[int(index)] = value
    return row


if __name__ == "__main__":
    main(Path(sys.argv[1]))
