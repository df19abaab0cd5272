"""Planted concepts: sentences in plain English, and exactly which tokens of real text they are about.

Each has a kind: an *exact* word or mark, a *family* of words, a *form* of words, a *context* that decides, or a *topic*
of the whole passage. Its sentences are in its author's wording and in that of strangers, who were shown the tokens and
none of the author's sentences. What stands in the package is `concepts.json`; another file has the same form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from neuronscope.errors import ConfigurationError

Kind = Literal["exact", "family", "form", "context", "topic"]
KINDS: tuple[Kind, ...] = ("exact", "family", "form", "context", "topic")
Wording = Literal["author", "strangers"]
WORDINGS: tuple[Wording, ...] = ("author", "strangers")

ON_TOPIC = 3
"""A passage is on a topic if this many of its words are the topic's, two different ones among them."""


class Concept(BaseModel):
    """What a planted neuron responds to, and how it is described."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Short and unique."""
    kind: Kind
    author: tuple[str, ...]
    """Sentences of its author, one at least."""
    strangers: tuple[str, ...] = ()
    """Sentences of others."""
    held_out: bool = False
    """Whether nothing that belongs to it was used to tune anything: no sentence, no member, no figure."""
    pattern: str = ""
    """A regular expression of the target: its first group, or the whole match if it has none."""
    words: tuple[str, ...] = ()
    """Instead of a pattern: the target is any of these words, whatever their case."""
    span: bool = False
    """Whether every token of the target counts, not only the one that completes it."""
    source: str = ""
    """Only text of this source of the corpus counts."""
    topic: tuple[str, ...] = ()
    """Only passages with several of these words count."""

    @model_validator(mode="after")
    def _has_one_target(self) -> Concept:
        if bool(self.pattern) == bool(self.words):
            raise ValueError("needs either `pattern` or `words`")
        if not self.author:
            raise ValueError("needs a sentence of its author")
        try:
            self._target  # noqa: B018  # compiled for its error
        except re.error as error:
            raise ValueError(f"has a pattern that is no regular expression: {error}") from error
        return self

    def sentences(self, wording: Wording) -> tuple[str, ...]:
        """Its sentences in a wording."""
        return self.author if wording == "author" else self.strangers

    def ground_truth(self, tokens: Sequence[str], source: str) -> NDArray[np.float32]:
        """Per token 1 where the concept holds, 0 where not, NaN where that is a matter of convention.

        A word of several tokens is known when its last one is read, so that one counts; the tokens before it are left
        out. So is what stands before a passage's first word of the topic. A passage with some words of the topic, but
        too few, is left out as a whole.
        """
        values = np.zeros(len(tokens), dtype=np.float32)
        text = "".join(tokens)
        mentions = list(self._topic.finditer(text)) if self.topic else []
        if (self.source and source != self.source) or (self.topic and not mentions):
            return values
        if mentions and not _is_enough(mentions):
            return np.full_like(values, np.nan)
        matches = list(self._target.finditer(text))
        ends = np.cumsum([len(token) for token in tokens]) if matches or mentions else np.zeros(0, dtype=np.int64)
        for match in matches:
            begin, end = match.span(min(1, self._target.groups))
            if begin < end:
                # The tokens that have a character of the target: from the first that ends behind its beginning.
                first, last = np.searchsorted(ends, (begin, end - 1), side="right")
                values[first:last] = np.where(values[first:last] == 1, 1, 1 if self.span else np.nan)
                values[last] = 1
        if mentions:
            values[: np.searchsorted(ends, mentions[0].start(), side="right")] = np.nan
        return values

    @cached_property
    def _target(self) -> re.Pattern[str]:
        return _any_of(self.words) if self.words else re.compile(self.pattern)

    @cached_property
    def _topic(self) -> re.Pattern[str]:
        return _any_of(self.topic)


def _is_enough(mentions: Sequence[re.Match[str]]) -> bool:
    return len(mentions) >= ON_TOPIC and len({mention.group().casefold() for mention in mentions}) > 1


def _any_of(words: Iterable[str]) -> re.Pattern[str]:
    """Any of some words, as a whole word."""
    longest_first = sorted(words, key=len, reverse=True)
    return re.compile(rf"(?i)(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")


def load_concepts(path: Path | None = None, wordings: Path | None = None) -> list[Concept]:
    """Concepts of a JSON file; None is the package's.

    Args:
        path: a list of objects with the fields of `Concept`.
        wordings: strangers' sentences besides, as a JSON object from names of concepts to lists of sentences.

    Raises:
        ConfigurationError: a file cannot be read, or a concept's name is there twice, or is not there.
    """
    inside = files("neuronscope.experiments").joinpath("concepts.json")
    document = json.loads(inside.read_text(encoding="utf-8")) if path is None else _read(path)
    more = {} if wordings is None else _read(wordings)
    if not isinstance(document, list) or not isinstance(more, Mapping):
        raise ConfigurationError(f"{path or wordings} has another form: docs/simulators.md says what belongs there.")
    try:
        concepts = [Concept.model_validate(each) for each in document]
        known = {concept.name for concept in concepts}
        if len(known) < len(concepts) or (unknown := sorted(set(more) - known)):
            problem = "names of concepts twice" if len(known) < len(concepts) else f"no concept {unknown[0]!r}"
            raise ConfigurationError(f"{path or 'The package'} has {problem}. Give each concept a name of its own.")
        return [
            Concept.model_validate(
                concept.model_dump() | {"strangers": (*concept.strangers, *more.get(concept.name, ()))}
            )
            for concept in concepts
        ]
    except ValidationError as error:
        raise ConfigurationError(f"{path or 'The package'}: {error}") from error


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"Cannot read {path} as JSON: {error}. Name a JSON file.") from error
