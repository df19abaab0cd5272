"""Step 4: what kind of tokens a few words of a sentence name, or none: a linear map of MiniLM's vectors.

    python training/reader/naming.py WORK

Learns from the wordings in wordings.json, with the names of families and categories as what names no kind, and writes
WORK/naming.pt. Half a minute on one core. The relations in wordings.json are what the package carries as patterns.json.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from neuronscope.simulators.reader.clauses import clauses_of
from neuronscope.simulators.reader.compiled import NAMED, OPEN

sys.path.insert(0, str(Path(__file__).parent))
from batches import LargeBatches
from categories import categories

HERE = Path(__file__).parent
RELATIONS = ("after", "phrase", "topic", "examples", "exception")
KIND_OF: dict[str, str] = {
    "allcaps": "all capitals", "year": "digit of a year", "year-last": "last of a year", "number-first": "first digit",
    "number-later": "later digit", "longword": "long word", "shortword": "short word", "open-paren": "opening parenthesis",
    "close-paren": "closing parenthesis", "open-quote": "opening quotation mark", "close-quote": "closing quotation mark",
    "any-quote": "quotation mark", "question": "question mark", "bracket": "any bracket", "newline": "line break",
    "personal-pronoun": "personal pronoun", "relative-pronoun": "relative pronoun", "number-word": "number word",
    "possessive-determiner": "possessive determiner", "ordinal-word": "ordinal word", "question-word": "question word",
    "frequency-adverb": "adverb of frequency", "title-of-person": "title of a person", "ly-adverb": "-ly",
    "ing-form": "-ing", "ed-form": "-ed", "function-word": "function word", "sentence-first": "first of a sentence",
    "line-first": "first of a line", "text-first": "first of a text", "mid-capital": "mid capital",
    "in-brackets": "in square brackets", "in-parentheses": "in parentheses", "in-quotes": "in quotes",
}  # fmt: skip
"""What wordings.json calls a kind, and what the reader calls it, where they differ."""
_DIGITS = re.compile(r"\b(two|2|three|3|four|4)\b|10 and 99|100 to 999")
_NUMBER = {"two": "two", "2": "two", "10 and 99": "two", "three": "three", "3": "three", "100 to 999": "three",
           "four": "four", "4": "four"}  # fmt: skip


def wordings() -> list[dict[str, Any]]:
    """What each hand wrote: wordings of kinds, and of relations."""
    hands: list[dict[str, Any]] = json.loads((HERE / "wordings.json").read_text(encoding="utf-8"))
    return hands


def named_kinds() -> list[tuple[str, str]]:
    """Wordings, each with the kind of `NAMED` that it names."""
    found = []
    for hand in wordings():
        for label, phrases in hand["kinds"].items():
            for phrase in phrases:
                if label == "ndigits" and (digits := _DIGITS.search(phrase)):
                    found.append((phrase, f"{_NUMBER[digits[0]]} digits"))
                elif (kind := KIND_OF.get(label, label)) in NAMED:
                    found.append((phrase, kind))
    return found


def main(work: Path) -> None:
    """Train the map unless it is there, and write the patterns."""
    merged = {name: list(dict.fromkeys(w for hand in wordings() for w in hand[name])) for name in RELATIONS}
    package = HERE.parents[1] / "src" / "neuronscope" / "simulators" / "reader" / "patterns.json"
    package.write_text(json.dumps(merged, ensure_ascii=False, indent=0), encoding="utf-8")
    if (work / "naming.pt").exists():
        return
    known = [
        (text, kind) for phrase, kind in named_kinds() for text in dict.fromkeys((_target(phrase), phrase.lower()))
    ]
    unknown = list(dict.fromkeys(name for category in categories() for name in category["names"]))
    vectors = LargeBatches()
    rows = vectors.stack([*(text for text, _ in known), *unknown])
    labels = [*(NAMED.index(kind) for _, kind in known), *[OPEN] * len(unknown)]
    model = LogisticRegression(C=100, max_iter=400).fit(rows, labels)
    weight = np.zeros((OPEN + 1, rows.shape[1]), dtype=np.float32)
    bias = np.full(OPEN + 1, -20, dtype=np.float32)
    weight[model.classes_], bias[model.classes_] = model.coef_, model.intercept_
    torch.save({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)}, work / "naming.pt")


def _target(phrase: str) -> str:
    """A wording as the reader will see it: what is left of it as a clause's target."""
    clauses = clauses_of(phrase)
    return clauses[0].target.words if clauses and clauses[0].target.words else phrase.lower()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
