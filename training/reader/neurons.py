"""Sentences about real neurons, written from their most telling tokens: weak, but as many as there are neurons.

The tokens come from half of a neuron's strongest sequences, the targets from the other half and from random ones.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch

from neuronscope.simulators.reader_features import Text

STRONG = 0.25
"""Of the maximum: what counts as active."""


@dataclass(frozen=True, slots=True)
class Described:
    """Sentences with strengths, and sequences with activations from 0 to 10."""

    modes: list[tuple[str, float]]
    sequences: list[int]
    targets: list[np.ndarray]


def describe(
    rng: np.random.Generator,
    values: np.ndarray,
    starts: np.ndarray,
    texts: list[Text],
    embedding: dict[str, np.ndarray],
    n_texts: int,
) -> Described | None:
    """Write sentences about a neuron from its activations on all tokens of the pool; None if it is hardly active."""
    maximum = float(np.partition(values, -4)[-4])
    if maximum <= 0:
        return None
    scaled = np.clip(values / maximum, 0, 1) * 10
    peaks = np.maximum.reduceat(scaled, starts[:-1])
    ranked = np.argsort(-peaks, kind="stable")
    shown, hidden = ranked[:50:2], ranked[1:50:2]
    found: dict[str, list[tuple[float, str, str]]] = defaultdict(list)
    for number in shown:
        text = texts[number]
        row = scaled[starts[number] : starts[number + 1]]
        for i, value in enumerate(row):
            content = text.contents[i]
            if content.strip() and content.isprintable() and '"' not in content:
                before = (text.words[i - 1] or text.contents[i - 1]) if i else ""
                whole = text.words[i] if text.continues[i] else ""
                found[content].append((float(value), before, whole))
    total = {c: sum(v for v, _, _ in seen if v > STRONG * 10) for c, seen in found.items()}
    best = [c for c in sorted(total, key=lambda c: -total[c]) if total[c] > 0][: rng.integers(4, 13)]
    if not best:
        return None
    silent = [
        c
        for c in sorted(found, key=lambda c: -len(found[c]))
        if len(found[c]) >= 3 and max(v for v, _, _ in found[c]) < 1.5
    ]
    modes = []
    for group in _grouped(best, embedding, float(rng.uniform(0.3, 0.5)))[:5]:
        seen = [s for c in group for s in found[c] if s[0] > STRONG * 10]
        mean = float(np.mean([v for v, _, _ in seen]))
        modes.append((_sentence(rng, group, found, silent, mean), round(mean * 2) / 2))
    chosen = [*rng.permutation(hidden)[: n_texts - 2], *rng.permutation(ranked[50:])[:2]]
    targets = [scaled[starts[n] : starts[n + 1]].astype(np.float32) for n in chosen]
    return Described(modes, [int(n) for n in chosen], targets)


def _grouped(words: list[str], embedding: dict[str, np.ndarray], near: float) -> list[list[str]]:
    groups: list[list[str]] = []
    for word in words:
        scores = [max(float(embedding[word] @ embedding[other]) for other in group) for group in groups]
        if scores and max(scores) > near:
            groups[int(np.argmax(scores))].append(word)
        else:
            groups.append([word])
    return groups


def _sentence(
    rng: np.random.Generator,
    group: list[str],
    found: dict[str, list[tuple[float, str, str]]],
    silent: list[str],
    mean: float,
) -> str:
    quoted = rng.random() < 0.7
    parts, contexts = [], []
    for content in group[:5]:
        active = [s for s in found[content] if s[0] > STRONG * 10]
        wholes = [w for _, _, w in active if w and w != content]
        befores = [b for _, b, _ in active if b]
        share = len(active) / len(found[content])
        if wholes and len(wholes) >= 0.6 * len(active):
            stem = wholes[0][: -len(content)]
            parts.append(
                str(
                    rng.choice(
                        [
                            f'"{content}" in "{wholes[0]}"',
                            f'"{stem}"+"{content}"',
                            f'the piece "{content}", as in "{wholes[0]}"',
                        ]
                    )
                )
            )
            continue
        word = f'"{content}"' if quoted or not content.isalpha() else content
        common = max(set(befores), key=befores.count) if befores else ""
        if common and '"' not in common and share < 0.7 and befores.count(common) >= 0.5 * len(active):
            parts.append(
                str(
                    rng.choice(
                        [
                            f'{word} after "{common}"',
                            f'{word} in "{common} {content}"',
                            f'{word} right after "{common}"',
                        ]
                    )
                )
            )
            continue
        parts.append(word)
        if befores and share < 0.8:
            contexts += [f"{b} {content}" for b in dict.fromkeys(befores) if b.isalpha()][:2]
    joined = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + str(rng.choice([" and ", " or "])) + parts[-1]
    opening = str(rng.choice(["", "", "", "Words such as ", "Words like ", "Fires on ", "The tokens ", "Mostly "]))
    sentence = opening + joined
    if len(parts) > 2 and rng.random() < 0.4:
        sentence += str(rng.choice([" and similar words", ", and words of their kind", " and the like"]))
    if contexts and rng.random() < 0.6:
        shown = contexts[:3]
        sentence += str(rng.choice([", as in ", ", e.g. ", ", especially in "])) + ", ".join(f'"{c}"' for c in shown)
    if rng.random() < 0.3:
        low, high = max(mean - 1.5, 0.5), min(mean + 1.5, 10)
        sentence += f", {low:.0f}-{high:.0f}"
    if silent and rng.random() < 0.4:
        names = " and ".join(f'"{c}"' for c in rng.permutation(silent[:6])[:2])
        sentence += str(rng.choice([f"; {names} stay near zero", f"; not {names}", f"; {names} give nothing"]))
    return sentence[:1].upper() + sentence[1:] + str(rng.choice(["", "."]))


def embeddings(tokenizer: object, table: torch.Tensor, contents: set[str]) -> dict[str, np.ndarray]:
    """A unit vector for each token's content: the mean of its pieces' rows in SmolLM2's embedding table."""
    vectors = {}
    centre = table.float().mean(dim=0)
    for content in contents:
        ids = tokenizer(f" {content}", add_special_tokens=False)["input_ids"] or [0]  # type: ignore[operator]
        vector = (table[ids].float().mean(dim=0) - centre).numpy()
        vectors[content] = vector / (np.linalg.norm(vector) + 1e-6)
    return vectors
