"""Where what a sentence says in so many words holds: its clauses (`clauses`), token by token.

A slot's words are taken as a kind of tokens (`kinds`, or a part of speech that the probes tell) as far as the network's
`named` knows them for one, and else compared by meaning.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from neuronscope.offline.kinds import COLUMN
from neuronscope.simulators.reader.batch import Array, Batch
from neuronscope.simulators.reader.clauses import Clause, clauses_of
from neuronscope.simulators.reader.slots import Slot
from neuronscope.simulators.reader.vectors import Vectors

PARTS = ("noun", "verb", "adjective", "adverb", "function word", "name")
"""Kinds that the first probes tell."""
NAMED: tuple[str, ...] = (*COLUMN, *(part for part in PARTS if part not in COLUMN))
"""What a slot's words may name; the last of what `Naming` tells is none of these."""
OPEN = len(NAMED)

COMPILED: tuple[str, ...] = (
    "says_clause",  # the largest of any clause: target, context and topic hold
    "says_clause_anywhere",  # the same whatever the topic
    "says_target",
    "says_context",
    "says_topic",
    "says_excepted",
    "says_example",
    "sentence_has_letters",  # clauses whose target is literal, an ending, a length
    "sentence_has_kinds",
    "sentence_has_context",
    "sentence_has_topic",
    "sentence_is_open",
    "sentence_is_simple",  # short, and one clause
    "sentence_words",
)
"""The columns."""

SIMPLE, LONG = 16, 40
"""Words of a simple sentence, at most, and of one that counts as long."""

Belongs = Callable[[Array, Array], Array]
Named = Callable[[Array], Array]
_GENERAL = frozenset(
    "the a an any every each all of to word words token tokens term item string text equal identical exactly called "
    "namely just as by itself occurrence occurrences form".split()
)
"""What may stand beside a single word that is meant literally."""
_LIST = re.compile(r"[a-z][\w'’]*(?:(?:,? (?:and|or)|,|/) [a-z][\w'’]*)+")


def compiled(explanation: str, batch: Batch, vectors: Vectors, belongs: Belongs, named: Named) -> Array:
    """The columns of `COMPILED` for each token of a batch: `(n_columns, n_tokens)`."""
    out = np.zeros((len(COMPILED), len(batch)), dtype=np.float32)
    row = {name: out[index] for index, name in enumerate(COMPILED)}
    clauses = clauses_of(explanation)
    reader = _Slots(batch, vectors, belongs, named)
    reader.prepare(clauses)
    for clause in clauses:
        target = reader.hits(clause.target)
        examples = _literals(clause.examples, batch)
        target = np.maximum(target, examples)
        context = _context(clause, reader, batch)
        topic = reader.topic(clause.topic) if clause.topic else np.ones(len(batch), dtype=np.float32)
        if clause.excepted is not None:
            excepted = reader.hits(clause.excepted)
            row["says_excepted"][:] = np.maximum(row["says_excepted"], excepted)
            target = target * (1 - excepted)
        here = target if context is None else target * context
        row["says_clause_anywhere"][:] = np.maximum(row["says_clause_anywhere"], here)
        row["says_clause"][:] = np.maximum(row["says_clause"], here * topic)
        row["says_target"][:] = np.maximum(row["says_target"], target)
        row["says_example"][:] = np.maximum(row["says_example"], examples)
        if context is not None:
            row["says_context"][:] = np.maximum(row["says_context"], context)
        if clause.topic:
            row["says_topic"][:] = np.maximum(row["says_topic"], topic)
        row["sentence_has_letters"] += clause.target.is_literal / len(clauses)
        known = 1 - reader.shares(clause.target)[OPEN]
        row["sentence_has_kinds"] += known / len(clauses)
        row["sentence_has_context"] += (context is not None) / len(clauses)
        row["sentence_has_topic"] += bool(clause.topic) / len(clauses)
        row["sentence_is_open"] += (not clause.target.is_literal) * (1 - known) / len(clauses)
    n_words = len(explanation.split())
    row["sentence_is_simple"][:] = len(clauses) == 1 and n_words <= SIMPLE
    row["sentence_words"][:] = min(n_words, LONG) / LONG
    return out


def words_of_clauses(explanation: str) -> list[str]:
    """What of an explanation `compiled` compares by its meaning."""
    return [text for clause in clauses_of(explanation) for text in _phrases(clause)]


def _phrases(clause: Clause) -> list[str]:
    slots = [slot for slot in (clause.target, clause.after, clause.excepted) if slot is not None]
    return [*(slot.words for slot in slots if slot.words), *([clause.topic] if clause.topic else [])]


class _Slots:
    """Where slots hold in a batch."""

    def __init__(self, batch: Batch, vectors: Vectors, belongs: Belongs, named: Named) -> None:
        self._batch, self._vectors, self._belongs, self._named = batch, vectors, belongs, named
        self._shares: dict[str, Array] = {}
        self._kin: dict[str, Array] = {}

    def prepare(self, clauses: Sequence[Clause]) -> None:
        """Compare all phrases at once."""
        phrases = list(dict.fromkeys(phrase for clause in clauses for phrase in _phrases(clause)))
        if not phrases:
            return
        stacked = self._vectors.stack(phrases)
        self._shares = dict(zip(phrases, self._named(stacked), strict=True))
        kin = self._belongs(self._batch.corrected, stacked)
        self._kin = {
            phrase: self._batch.words.of(kin[:, index]) * self._batch.has_word for index, phrase in enumerate(phrases)
        }

    def shares(self, slot: Slot) -> Array:
        """How sure it is that a slot's words name each of `NAMED`, or none."""
        if slot.words and slot.words in self._shares:
            return self._shares[slot.words]
        none = np.zeros(OPEN + 1, dtype=np.float32)
        none[OPEN] = 1
        return none

    def hits(self, slot: Slot, *, is_context: bool = False) -> Array:
        """How far each token is what a slot names."""
        batch = self._batch
        if slot.is_literal:
            return _letters(slot, batch)
        shares = self.shares(slot)
        if is_context and shares[OPEN] > 0.5 and (words := _listed(slot.words)):
            return _literals(words, batch)
        sure = shares[:OPEN] * (shares[:OPEN] > 0.1)
        found = (batch.of_kinds * sure[None, : len(COLUMN)]).max(axis=1)
        for number, part in enumerate(PARTS):
            if share := float(sure[NAMED.index(part)]):
                found = np.maximum(found, batch.probed[:, number] * share)
        open_share = float(shares[OPEN])
        if slot.words in self._kin:
            found = np.maximum(found, self._kin[slot.words] * open_share)
        bare = [word for word in slot.words.split() if word not in _GENERAL]
        if len(bare) == 1 and open_share > 0.5:
            found = np.maximum(found, batch.words.among(bare))
        listed: Array = found.astype(np.float32)
        return listed

    def topic(self, topic: str) -> Array:
        """How far the text so far is about a topic: the mean of the two words that belong to it most."""
        kin = self._kin[topic]
        out = np.zeros(len(self._batch), dtype=np.float32)
        for start, end in self._batch.spans:
            best = second = 0.0
            for position in range(start, end):
                value = float(kin[position])
                if value > best:
                    best, second = value, best
                elif value > second:
                    second = value
                out[position] = 0.5 * best + 0.5 * second
        return out


def _listed(words: str) -> tuple[str, ...]:
    """Bare words: `for`, `it or this`."""
    if _LIST.fullmatch(words):
        return tuple(re.split(r",? (?:and|or) |, |/", words))
    found = re.fullmatch(r"(?:the (?:word|token|preposition|verb) )?([a-z][\w'’]*)", words)
    return (found[1],) if found else ()


def _letters(slot: Slot, batch: Batch) -> Array:
    """Where a slot's letters are."""
    found = _literals(slot.literals, batch)
    for endings, test in ((slot.suffixes, str.endswith), (slot.prefixes, str.startswith)):
        if endings:
            found = np.maximum(found, batch.words.where(partial(_has_affix, endings, test)).astype(np.float32))
    if slot.shortest or slot.longest:
        longest = slot.longest or 1000
        fits = batch.words.where(lambda word: slot.shortest <= len(word) <= longest and word.isalpha())
        found = np.maximum(found, fits.astype(np.float32))
    return found


def _has_affix(affixes: Sequence[str], test: Callable[[str, str], bool], word: str) -> bool:
    return any(len(word) > len(affix) and test(word, affix) for affix in affixes)


def _literals(texts: Sequence[str], batch: Batch) -> Array:
    """Where any of some texts ends, as whole words or tokens."""
    found = np.zeros(len(batch), dtype=np.float32)
    single = [text for text in texts if " " not in text]
    if single:
        whole = batch.words.among(single) | batch.contents.among(single)
        found[whole] = 1
    for text in texts:
        if " " in text or (text and not text.isalnum()):
            found[_ends(text, batch)] = 1
    return found


def _ends(text: str, batch: Batch) -> list[int]:
    """Tokens at whose end a text of several words or signs ends."""
    out = []
    for position in np.flatnonzero(batch.ending_in(text)).tolist():
        whole = f"{batch.left(position)}{batch.folded(position)}"
        if whole.endswith(text):
            outer = whole[: len(whole) - len(text)]
            if not (text[:1].isalnum() and outer[-1:].isalnum()):
                out.append(position)
    return out


def _context(clause: Clause, reader: _Slots, batch: Batch) -> Array | None:
    """Where what a clause says of a token's surroundings holds; None where it says nothing."""
    found: list[Array] = []
    if clause.after is not None:
        found.append(_following(reader.hits(clause.after, is_context=True), batch))
    if clause.place:
        found.append(batch.of_kinds[:, COLUMN[clause.place]].astype(np.float32))
    if clause.phrases:
        found.append(_in_phrases(clause, batch))
    return np.minimum.reduce(found) if found else None


def _following(hits: Array, batch: Batch) -> Array:
    """Tokens of the word, or the sign, that comes next; spaces between do not count."""
    out = np.zeros(len(batch), dtype=np.float32)
    before = batch.before
    known = before >= 0
    out[known] = hits[before[known]]
    return out


def _in_phrases(clause: Clause, batch: Batch) -> Array:
    """Where the target is a word of a quoted phrase, as far as the text so far can tell."""
    out = np.zeros(len(batch), dtype=np.float32)
    for phrase in clause.phrases:
        words = phrase.split()
        number = max((n for n, word in enumerate(words) if word in clause.target.literals), default=len(words) - 1)
        if clause.position is not None and -len(words) <= clause.position < len(words):
            number = clause.position % len(words)
        out[_ends(" ".join(words[: number + 1]), batch)] = 1.0 if number else 0.4
    return out
