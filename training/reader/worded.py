"""Concepts in the wordings of several hands: kinds of tokens, what comes before, phrases, topics, examples, exceptions."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from naming import named_kinds, wordings

from neuronscope.offline.kinds import COLUMN
from neuronscope.offline.text import Text
from neuronscope.simulators.reader.batch import before_words
from planted import Concept, Planter, hedged, listed, previous, quote, where

Test = Callable[[Text, int], float]
ANY = ("the word", "any word", "words", "the token", "whatever word", "tokens", "the very next word")
_KINDS: dict[str, list[str]] = {}
for _phrase, _kind in named_kinds():
    if _kind in COLUMN:
        _KINDS.setdefault(_kind, []).append(_phrase)
_RELATIONS = {
    name: [wording for hand in wordings() for wording in hand[name]]
    for name in ("after", "phrase", "topic", "examples", "exception")
}


class WordedPlanter(Planter):
    """Draws concepts, three of thirteen as `Planter` does."""

    def draw(self, rng: np.random.Generator) -> Concept:
        """One concept."""
        kinds = ("kind", "kind", "after", "after", "after", "phrase", "topic", "topic", "exception", "examples")
        choice = int(rng.integers(len(kinds) + 3))
        if choice >= len(kinds):
            return super().draw(rng)
        concept: Concept = getattr(self, f"_worded_{kinds[choice]}")(rng)
        return concept

    def _a_kind(self, rng: np.random.Generator) -> tuple[str, Test]:
        kind = str(rng.choice(list(_KINDS)))
        return str(rng.choice(_KINDS[kind])), lambda text, i, column=COLUMN[kind]: float(text.kinds[i, column])

    def _a_word(self, rng: np.random.Generator) -> tuple[str, Test]:
        word = str(rng.choice(self.common))
        head = str(rng.choice(["{q}", "the word {q}", "{q}", "the token {q}"]))
        return head.replace("{q}", quote(rng, word)), _is_among({word})

    def _a_family(self, rng: np.random.Generator) -> tuple[str, Test, list[str]]:
        of = self.families if rng.random() < 0.5 else self.categories
        names, members = of[rng.integers(len(of))]
        return str(rng.choice(names)), _is_among(set(members)), [m for m in members if m in self.where]

    def _worded_kind(self, rng: np.random.Generator) -> Concept:
        name, test = self._a_kind(rng)
        return Concept(hedged(rng, name), where(test))

    def _worded_after(self, rng: np.random.Generator) -> Concept:
        wording = str(rng.choice(_RELATIONS["after"]))
        before, word = self._pair(rng)
        chance = rng.random()
        target: Test
        if chance < 0.35:
            name, target = quote(rng, word), lambda text, i: float(text.words[i] == word)
        elif chance < 0.7 or "{T}" not in wording:
            name, target = str(rng.choice(ANY)), lambda text, i: float(bool(text.contents[i].strip()))
        else:
            name, target = self._a_kind(rng)
        chance = rng.random()
        preceding: Test
        if chance < 0.6:
            what, preceding = quote(rng, before), lambda text, i: float(text.words[i] == before)
        elif chance < 0.88:
            what, preceding = self._a_kind(rng)
        else:
            what, preceding, _ = self._a_family(rng)

        def hits(text: Text) -> np.ndarray:
            places = before_words(text)
            values = [target(text, i) * preceding(text, at) if at >= 0 else 0.0 for i, at in enumerate(places)]
            return np.array(values, dtype=np.float32)

        return Concept(wording.replace("{T}", name).replace("{A}", what), hits)

    def _worded_phrase(self, rng: np.random.Generator) -> Concept:
        before, word = self._pair(rng)
        usable = [wording for wording in _RELATIONS["phrase"] if not re.search(r"\bfirst\b", wording)]
        name = str(rng.choice([f'"{word}"', f'the word "{word}"']))
        sentence = str(rng.choice(usable)).replace("{T}", name).replace("{P}", f'"{before} {word}"')
        return Concept(sentence, where(lambda text, i: float(text.words[i] == word and previous(text, i) == before)))

    def _worded_topic(self, rng: np.random.Generator) -> Concept:
        names, members = self.families[rng.integers(len(self.families))]
        inside = set(members)
        name, target = self._a_kind(rng) if rng.random() < 0.6 else self._a_word(rng)

        def hits(text: Text) -> np.ndarray:
            seen = np.cumsum([word in inside for word in text.words])
            share = np.where(seen >= 2, 1.0, np.where(seen == 1, 0.4, 0.0))
            return np.array([target(text, i) * share[i] for i in range(len(text.words))], dtype=np.float32)

        wording = str(rng.choice(_RELATIONS["topic"]))
        return Concept(wording.replace("{T}", name).replace("{G}", str(rng.choice(names))), hits)

    def _worded_exception(self, rng: np.random.Generator) -> Concept:
        name, target = self._a_kind(rng) if rng.random() < 0.5 else self._a_family(rng)[:2]
        what, excepted = self._a_word(rng)
        wording = str(rng.choice(_RELATIONS["exception"]))
        sentence = wording.replace("{T}", name).replace("{N}", what)
        return Concept(sentence, where(lambda text, i: target(text, i) * (1 - excepted(text, i))))

    def _worded_examples(self, rng: np.random.Generator) -> Concept:
        name, target, known = self._a_family(rng)
        if not known:
            return self.draw(rng)
        some = [str(word) for word in rng.choice(known, min(len(known), int(rng.integers(1, 4))), replace=False)]
        wording = str(rng.choice(_RELATIONS["examples"]))
        return Concept(wording.replace("{T}", name).replace("{X}", listed(rng, some)), where(target))


def _is_among(members: set[str]) -> Test:
    return lambda text, i: float(text.words[i] in members or (text.contents[i] in members and not text.continues[i]))
