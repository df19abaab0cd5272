"""How well a simulator reads the name of a family of words, in the wording of its author and in that of others.

    python benchmarks/reader_families.py CONCEPTS_JSONL --simulators hybrid reader

A line of the file is a family: `members` (words in lower case), `phrasings` (its author's) and lists of others'
(`fresh1`, `fresh2`, …). The text is the test split of the built-in corpus: ten sequences with a member and ten without.
Ground truth is 1 on members. Printed are means of the correlation over sentences, for all families and for those that
share at most two fifths of their words with a family that the reader was trained on.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from neuronscope.corpus.builtin import builtin_corpus
from neuronscope.corpus.windows import windows
from neuronscope.simulators.reader.text import text_of
from neuronscope.simulators.registry import resolve_simulator
from neuronscope.subject.loading import load_model
from neuronscope.subject.tokens import token_strings
from reader import correlation, exemplar

TRAINED = Path(__file__).parents[1] / "training" / "reader" / "families.jsonl"
EACH, TEXTS, TOKENS, SENTENCES = 10, 900, 300_000, 2


def records(path: Path) -> list[dict[str, Any]]:
    """A JSON document a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """Print a line for each simulator and group of families."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--simulators", nargs="+", default=["hybrid", "reader"])
    arguments = parser.parse_args()
    _, tokenizer, _ = load_model("smollm2-135m", device="cpu", dtype="bfloat16")
    sequences = [each for each in windows(builtin_corpus(), tokenizer, 64, TOKENS) if each.split == "test"]
    order = np.random.default_rng(5).permutation(len(sequences))[:TEXTS]
    tokens = [token_strings(tokenizer, sequences[index].token_ids) for index in order]
    words = [text_of(each).words for each in tokens]
    trained = [set(each["members"]) for each in records(TRAINED)]
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for concept in (each for each in records(arguments.path) if each.get("kind", "family") == "family"):
        members = set(concept["members"])
        truth = [np.array([float(word in members) for word in each]) for each in words]
        chosen = [index for index, each in enumerate(truth) if each.any()][:EACH]
        if len(chosen) < 3:
            continue
        chosen += [index for index, each in enumerate(truth) if not each.any()][:EACH]
        exemplars = [exemplar(tokens[index], index) for index in chosen]
        shared = max(len(members & other) / min(len(members), len(other)) for other in trained)
        groups = ["all families"] + ["little in training"] * (shared <= 0.4)
        others = [text for name in sorted(concept) if name.startswith("fresh") for text in concept[name]]
        for wording, sentences in (("author", concept["phrasings"]), ("others", others)):
            for name in arguments.simulators:
                predictions = resolve_simulator(name).simulate(sentences[:SENTENCES], exemplars)
                pooled = np.concatenate(predictions, axis=1)
                scores = [correlation(row, np.concatenate([truth[index] for index in chosen])) for row in pooled]
                for group in groups:
                    found[group, wording, name] += scores
    for (group, wording, name), values in sorted(found.items()):
        print(f"{group:20s} {wording:7s} {name:10s} {np.mean(values):.3f}  ({len(values)} sentences)")


if __name__ == "__main__":
    main()
