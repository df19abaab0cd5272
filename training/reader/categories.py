"""Families and categories of words to learn from: none that a concept of the package's experiments is kept from tuning by."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SHARED = 0.4
"""Of the smaller of two families' words, at most, that a family to learn from shares with one that is held out."""


def categories(*names: str) -> list[dict[str, Any]]:
    """The records of families.jsonl and categories.jsonl, or of those that are named, without what is held out."""
    records = [
        json.loads(line)
        for name in names or ("families.jsonl", "categories.jsonl")
        for line in (HERE / name).read_text(encoding="utf-8").splitlines()
    ]
    return [record for record in records if may_be_learned(record["members"])]


def may_be_learned(words: Iterable[str]) -> bool:
    """Whether a family shares little enough with all that are held out."""
    family = set(words)
    return not any(len(family & other) > SHARED * min(len(family), len(other)) for other in _held_out())


@lru_cache(maxsize=1)
def _held_out() -> list[set[str]]:
    concepts = json.loads(files("neuronscope.experiments").joinpath("concepts.json").read_text(encoding="utf-8"))
    return [set(concept["words"]) for concept in concepts if concept.get("held_out") and concept.get("words")]
