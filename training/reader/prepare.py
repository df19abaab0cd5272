"""Step 2: sentences with targets, from three sources, and the features of every sentence beside its texts.

    python training/reader/prepare.py WORK

Writes WORK/tasks.pt. A task is a few sentences, a few texts, and what to learn of them:

- `readings`: a neuron of `readings.jsonl`: each mode's careful reading, and what the neuron did;
- `more`: the same sentences on other texts, with what the neuron did;
- `neuron`: sentences made from a random neuron's most telling tokens (`neurons.py`), with what it did;
- `planted`: concepts with exact truth (`planted.py`).

Every fifth neuron of `readings.jsonl` is for validation, and is in no other task. About ten minutes on one core.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuronscope.llm.minilm import MiniLM
from neuronscope.simulators.reader_features import Text, Vectors, features, text_of, words_of
from neuronscope.simulators.reader_tokens import Pieces
from neuronscope.subject.loading import load_model
from neuronscope.subject.tokens import token_strings

sys.path.insert(0, str(Path(__file__).parent))
from neurons import describe, embeddings

from planted import Planter

SEED = 23
N_PLANTED, N_NEURONS, N_MORE = 2000, 800, 3
CONCEPTS, TEXTS = 4, 6
VALIDATION_EVERY = 5


def main(work: Path) -> None:
    """Make the tasks unless they are there."""
    if (work / "tasks.pt").exists():
        return
    rng = np.random.default_rng(SEED)
    model, tokenizer, _ = load_model("smollm2-135m", device="cpu", dtype="bfloat16")
    pool = torch.load(work / "pool.pt")
    ids: list[list[int]] = list(pool["ids"])
    lasts = [list(range(len(row))) for row in ids]
    texts: list[Text] = [text_of(token_strings(tokenizer, row)) for row in ids]
    n_pool = len(ids)
    starts = np.concatenate([[0], np.cumsum([len(row) for row in ids])])
    records = [json.loads(line) for line in Path(__file__).with_name("readings.jsonl").read_text().splitlines()]
    pieces = Pieces(tokenizer)
    tasks: list[dict[str, Any]] = []
    column = {pair: i for i, pair in enumerate(map(tuple, pool["neurons"]))}
    read = {(r["layer"], r["neuron"]) for r in records}
    for number, record in enumerate(records):
        validation = number % VALIDATION_EVERY == VALIDATION_EVERY - 1
        sentences = [mode["explanation"] for mode in record["modes"]]
        strengths = [float(mode["strength"]) for mode in record["modes"]]
        mine = []
        for text in record["texts"]:
            row, last = pieces.encode(text["tokens"])
            mine.append(len(ids))
            ids.append(row)
            lasts.append(last)
            texts.append(text_of(text["tokens"]))
        targets = [
            [_dense(text["predicted"][m], len(text["tokens"])) / s for m, s in enumerate(strengths)]
            for text in record["texts"]
        ]
        joint = [_dense(text["actual"], len(text["tokens"])) for text in record["texts"]]
        common = {
            "sentences": sentences,
            "strengths": strengths,
            "neuron": number,
            "validation": validation,
            "form": record["form"],
        }
        tasks.append({"kind": "readings", "texts": mine, "targets": targets, "joint": joint, **common})
        if validation:
            continue
        values = pool["activations"][:, column[record["layer"], record["neuron"]]].float().numpy() * record["sign"]
        values = np.maximum(values, 0)
        scaled = np.clip(values / max(np.partition(values, -3)[-3], 1e-6), 0, 1) * 10
        ranked = np.argsort(-np.maximum.reduceat(scaled, starts[:-1]), kind="stable")
        for _ in range(N_MORE):
            chosen = [*rng.permutation(ranked[:60])[:4], *rng.permutation(n_pool)[:2]]
            joint = [scaled[starts[n] : starts[n + 1]].astype(np.float32) for n in chosen]
            tasks.append({"kind": "more", "texts": [int(n) for n in chosen], "targets": None, "joint": joint, **common})
    contents = {c for text in texts for c in text.contents}
    table = embeddings(tokenizer, model.model.embed_tokens.weight.detach(), contents)
    others = [pair for pair in column if pair not in read]
    for pair in [others[i] for i in rng.permutation(len(others))[:N_NEURONS]]:
        sign = 1 if rng.random() < 0.7 else -1
        values = np.maximum(pool["activations"][:, column[pair]].float().numpy() * sign, 0)
        made = describe(rng, values, starts, texts[:n_pool], table, TEXTS)
        if made is not None:
            tasks.append(
                {
                    "kind": "neuron",
                    "sentences": [s for s, _ in made.modes],
                    "strengths": [max(v, 0.5) for _, v in made.modes],
                    "texts": made.sequences,
                    "targets": None,
                    "joint": made.targets,
                    "neuron": -1,
                    "validation": False,
                    "form": "",
                }
            )
    planter = Planter(texts[:n_pool])
    made_of: list[tuple[str, list[int], list[np.ndarray]]] = []
    while len(made_of) < N_PLANTED:
        concept = planter.draw(rng)
        order = rng.permutation(n_pool)[:1200]
        hit, miss = [], []
        for n in order:
            values = concept.hits(texts[n])
            (hit if values.max(initial=0) > 0 else miss).append((int(n), values))
            if len(hit) >= 4 and len(miss) >= 2:
                break
        if not hit:
            continue
        chosen = [*hit[:4], *miss[:2]]
        made_of.append((concept.sentence, [n for n, _ in chosen], [v for _, v in chosen]))
    for first in range(0, len(made_of), CONCEPTS):
        group = made_of[first : first + CONCEPTS]
        tasks.append(
            {
                "kind": "planted",
                "sentences": [s for s, _, _ in group],
                "strengths": [1.0] * len(group),
                "texts": [n for _, chosen, _ in group for n in chosen],
                "owner": [m for m, (_, chosen, _) in enumerate(group) for _ in chosen],
                "targets": [v for _, _, values in group for v in values],
                "joint": None,
                "neuron": -1,
                "validation": False,
                "form": "",
            }
        )
    print(len(tasks), "tasks,", len({s for t in tasks for s in t["sentences"]}), "sentences", flush=True)
    vectors = LargeBatches(capacity=1_000_000)
    vectors.remember(
        sorted(
            {w for text in texts for w in text.words} | {w for t in tasks for s in t["sentences"] for w in words_of(s)}
        )
    )
    print("words embedded", flush=True)
    for task in tasks:
        owners = task.get("owner")
        pairs = [
            (m, n)
            for n in range(len(task["texts"]))
            for m in ([owners[n]] if owners else range(len(task["sentences"])))
        ]
        task["pairs"] = pairs
        task["told"] = [
            torch.tensor(features(task["sentences"][m], texts[task["texts"][n]], vectors)).half() for m, n in pairs
        ]
        if owners is None and task["targets"] is not None:
            task["targets"] = [task["targets"][n][m] for m, n in pairs]
    torch.save({"tasks": tasks, "ids": ids, "lasts": lasts, "texts": texts}, work / "tasks.pt")


class LargeBatches(Vectors):
    """The same vectors, many at a time: equal up to rounding, and in a third of the time."""

    def remember(self, texts: Iterable[str]) -> None:
        """Embed what is not known yet."""
        missing = sorted({text for text in texts if text and text not in self._vectors}, key=len)
        if missing:
            encoder = MiniLM().model.bfloat16()
            stripped = [text.strip() for text in missing]
            rows = encoder.encode(stripped, batch_size=128, normalize_embeddings=True, convert_to_tensor=True)
            self._vectors.update(zip(missing, rows.float().numpy(), strict=True))


def _dense(values: dict[str, float], length: int) -> np.ndarray:
    row = np.zeros(length, dtype=np.float32)
    for index, value in values.items():
        row[int(index)] = value
    return row


if __name__ == "__main__":
    main(Path(sys.argv[1]))
