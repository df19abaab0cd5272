"""How often few atoms come out grouped by what they mean, and which cosine average linkage should join them at.

`conditions.json` has 56 conditions in four wordings each, written by hand. Half of the conditions choose the
thresholds; sets of the other half are counted. A set is right if its groups are exactly the conditions that it was put
together from. With the conditions' wordings, `WORDS` gives sets of the form that the offline agents write.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from hdbscan import HDBSCAN
from numpy.typing import NDArray
from sklearn.cluster import AgglomerativeClustering

from neuronscope.agents.distinguishing import FRAME, in_one_frame, informative_words
from neuronscope.llm.embeddings import embed
from neuronscope.llm.minilm import MiniLM
from neuronscope.offline.conditions import Condition
from neuronscope.offline.english import write

SHAPES = {
    "one meaning": [(2,), (3,), (4,)],
    "one meaning and a stranger": [(2, 1), (3, 1), (4, 1)],
    "two meanings": [(2, 2), (3, 2), (3, 3)],
    "meanings and strangers": [(2, 1, 1), (3, 1, 1), (2, 2, 1), (3, 2, 1)],
    "all different": [(1, 1), (1, 1, 1), (1, 1, 1, 1), (1, 1, 1, 1, 1), (1, 1, 1, 1, 1, 1)],
}
"""Sizes of the groups that a set is made of."""
LARGER = [(4, 4), (4, 3, 1), (3, 3, 2), (2, 2, 2, 2), (4, 4, 2), (4, 3, 3), (4, 3, 2, 1), (4, 4, 4, 2), (4, 4, 3, 2, 1)]
SETS_PER_KIND = 60
THRESHOLDS = [round(0.2 + 0.01 * step, 2) for step in range(66)]
AS_GOOD = 0.01
"""Of the thresholds whose share of right sets is within this of the best one's, the middle one is chosen."""
WORDS = """
monday tuesday friday sunday weekend morning tonight / not never no nothing nobody nor / court judge law trial jury /
ship sea sailor harbour boat ocean / bread soup meat rice cheese sugar / price dollars tax cost bank paid /
hand eye head arm leg skin / song guitar concert band singer / army battle soldiers enemy troops /
teacher school students lesson exam / import def return class self lambda / red blue green yellow white black /
equation theorem integral matrix proof / dog horse cat bird fish cow / said told replied asked answered /
unknown anonymous unidentified unnamed mysterious / want need try able / huge large great enormous vast /
rain snow storm wind sunny cloud / king queen prince throne crown / doctor patient disease hospital pain
"""

Similarity = Callable[[Sequence[str]], NDArray[np.float64]]


class Atoms(NamedTuple):
    """A set of conditions, and which of them mean the same."""

    kind: str
    sentences: list[str]
    meanings: list[int]


def written_sets(conditions: dict[str, list[str]], names: Sequence[str], seed: int) -> list[Atoms]:
    """Sets of every kind, of the named conditions in the wordings given."""
    drawn = random.Random(seed)
    return [
        written_set(kind, shapes[number % len(shapes)], conditions, names, drawn)
        for kind, shapes in SHAPES.items()
        for number in range(SETS_PER_KIND)
    ]


def written_set(
    kind: str, shape: Sequence[int], conditions: dict[str, list[str]], names: Sequence[str], drawn: random.Random
) -> Atoms:
    """One set, in an order that gives nothing away."""
    pairs = [
        (number, FRAME + wording)
        for number, (name, size) in enumerate(zip(drawn.sample(list(names), len(shape)), shape, strict=True))
        for wording in drawn.sample(conditions[name], size)
    ]
    drawn.shuffle(pairs)
    return Atoms(kind, [sentence for _, sentence in pairs], [number for number, _ in pairs])


def offline_sets(lists: Sequence[list[str]], seed: int) -> list[Atoms]:
    """Sets of what the offline agents write: most words of a list, with strengths drawn at random."""
    drawn, sets = random.Random(seed), []
    for number in range(SETS_PER_KIND):
        shape = [(3,), (2,), (3, 1), (2, 1), (3, 2), (3, 3), (2, 2), (1, 1), (1, 1, 1)][number % 9]
        pairs = []
        for meaning, (words, size) in enumerate(zip(drawn.sample(list(lists), len(shape)), shape, strict=True)):
            for _ in range(size):
                some = drawn.sample(words, drawn.randint(max(2, len(words) - 3), len(words)))
                pairs.append((meaning, write([Condition(word, (), drawn.choice([10.0, 6.0, 3.6])) for word in some])))
        drawn.shuffle(pairs)
        sets.append(Atoms("offline", [sentence for _, sentence in pairs], [meaning for meaning, _ in pairs]))
    return sets


def linkage(similarity: NDArray[np.float64], threshold: float) -> list[int]:
    """Groups by average linkage."""
    if len(similarity) < 2:
        return [0] * len(similarity)
    clustering = AgglomerativeClustering(
        n_clusters=None, distance_threshold=1 - threshold, metric="precomputed", linkage="average"
    )
    return [int(label) for label in clustering.fit_predict(np.maximum(1 - similarity, 0))]


def density(units: NDArray[np.float64], min_samples: int | None) -> list[int] | None:
    """Groups by HDBSCAN, each atom without a cluster alone; None if it finds no cluster."""
    if len(units) < 2:
        return None
    labels = HDBSCAN(min_cluster_size=2, min_samples=min_samples, core_dist_n_jobs=1).fit_predict(units)
    if labels.max() < 0:
        return None
    return [int(label) if label >= 0 else len(labels) + place for place, label in enumerate(labels)]


def one_mean(units: NDArray[np.float64]) -> list[int]:
    """What was done before: all atoms are one group, or none is like another."""
    found, n = density(units, 1), len(units)
    mean = ((units @ units.T).sum() - n) / max(n * (n - 1), 1)
    return found if found is not None else [0] * n if mean > 0.68 else list(range(n))


def is_right(groups: Sequence[int], meanings: Sequence[int]) -> bool:
    """Whether two ways of grouping are the same."""
    return len(set(zip(groups, meanings, strict=True))) == len(set(groups)) == len(set(meanings))


def share(found: Sequence[bool]) -> str:
    """A share of right sets, with the number of sets."""
    return f"{np.mean(found):.2f} of {len(found)}" if found else "none of 0"


def main() -> None:
    """Choose the thresholds on one half, and print what they do on the other."""
    conditions: dict[str, list[str]] = json.loads(Path(__file__).with_name("conditions.json").read_text())
    minilm = MiniLM(capacity=100_000)

    def cosines(texts: Sequence[str]) -> NDArray[np.float64]:
        units = embed(minilm, texts, "benchmark")
        return units @ units.T

    similarities: dict[str, Similarity] = {
        "whole sentences": cosines,
        "in one frame": lambda texts: cosines(in_one_frame(texts)),
        "telling words": lambda texts: cosines(informative_words(texts)),
        "frame and telling words": lambda texts: (cosines(in_one_frame(texts)) + cosines(informative_words(texts))) / 2,
    }
    names, lists = sorted(conditions), [group.split() for group in WORDS.split("/")]
    random.Random(0).shuffle(names)
    half, offline_half = len(names) // 2, len(lists) // 2
    chosen_on = written_sets(conditions, names[:half], 1) + offline_sets(lists[:offline_half], 1)
    held_out = written_sets(conditions, names[half:], 2) + offline_sets(lists[offline_half:], 2)
    print(f"{len(chosen_on)} sets to choose on, {len(held_out)} held out")
    best: dict[str, float] = {}
    for name, similarity in similarities.items():
        known = [(similarity(each.sentences), each.meanings) for each in chosen_on]
        rights = {t: float(np.mean([is_right(linkage(s, t), m) for s, m in known])) for t in THRESHOLDS}
        good = [threshold for threshold in THRESHOLDS if rights[threshold] >= max(rights.values()) - AS_GOOD]
        best[name] = good[len(good) // 2]
        near = ", ".join(f"{t}: {rights[t]:.2f}" for t in THRESHOLDS[::2] if abs(t - best[name]) < 0.07)
        found = [
            (each.kind, is_right(linkage(similarity(each.sentences), best[name]), each.meanings)) for each in held_out
        ]
        kinds = "; ".join(
            f"{kind} {share([right for k, right in found if k == kind])}" for kind in [*SHAPES, "offline"]
        )
        print(f"{name}: threshold {best[name]} ({near}); held out {share([right for _, right in found])}: {kinds}")
    outcomes = [one_mean(embed(minilm, each.sentences, "benchmark")) for each in held_out]
    rights_before = [is_right(groups, each.meanings) for groups, each in zip(outcomes, held_out, strict=True)]
    print(f"HDBSCAN, and one mean cosine of 0.68 where it finds nothing: held out {share(rights_before)}")
    print("where HDBSCAN finds clusters, on held-out sets, by the number of atoms:")
    drawn = random.Random(3)
    larger = [written_set("larger", shape, conditions, names[half:], drawn) for shape in LARGER * 12]
    similarity = similarities["frame and telling words"]
    for size in sorted({len(each.sentences) for each in [*held_out, *larger]}):
        sets = [each for each in [*held_out, *larger] if len(each.sentences) == size]
        for min_samples in (1, None):
            found_by = [(each, density(embed(minilm, each.sentences, "benchmark"), min_samples)) for each in sets]
            by_density = [is_right(groups, each.meanings) for each, groups in found_by if groups is not None]
            by_linkage = [
                is_right(linkage(similarity(each.sentences), best["frame and telling words"]), each.meanings)
                for each, groups in found_by
                if groups is not None
            ]
            print(f"  {size} atoms, min_samples={min_samples}: {share(by_density)}; linkage {share(by_linkage)}")


if __name__ == "__main__":
    main()
