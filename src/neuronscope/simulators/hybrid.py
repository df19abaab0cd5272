"""A simulator that needs no language model: what an explanation quotes, and what it is about.

The lexical channel reads quoted words, what stands before them and strength words (see `grammar`). The semantic
channel compares embeddings: of the explanation's topic with the words and left contexts of the text, and of quoted
words with words that are not quoted. Embeddings of a text are computed once and reused for every explanation.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neuronscope.errors import SimulatorError
from neuronscope.locks import Lock
from neuronscope.offline.english import Condition, Reading, read
from neuronscope.offline.features import View, view
from neuronscope.stopping import check_stopped

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from neuronscope.types import Exemplar

Array = NDArray[np.float32]

NEIGHBOUR_THRESHOLD = 0.5
"""Cosine above which a word counts as a neighbour of a quoted word."""
NEIGHBOUR_SHARE = 0.5
"""A word of cosine 1 to a quoted word would fire at this share of the quoted word's strength."""
PART_SHARE = 0.5
"""A quoted word that turns up as the continuation of another word fires at this share of its strength."""
CONTEXT_SHARE = 0.35
"""Weight of a token's left context beside its word when both are compared with a topic."""
TOPIC_FLOOR, TOPIC_CEILING = 2.5, 5.5
"""Standard deviations above the similarity of unrelated words where a topic starts to fire, and fires fully."""
QUOTED_TOPIC_SHARE, EXAMPLES_TOPIC_SHARE = 0.25, 0.6
"""What a topic counts beside quoted words: little, since it mostly describes them; more if they are mere examples."""
_UNRELATED = """
time year people way day man thing woman life child world school state family student group country problem hand
part place case week company system program question work government number night point home water room mother area
money story fact month lot right study book eye job word business issue side kind head house service friend father
power hour game line end member law car city community name president team minute idea kid body information back
parent face others level office door health person art war history party result change morning reason research girl
guy moment air teacher force education run move live believe hold bring happen write provide sit stand lose pay meet
include continue set learn lead understand watch follow stop create speak read allow add spend grow open walk win
offer remember love consider appear buy wait serve die send expect build stay fall cut reach kill remain suggest raise
pass sell require report decide pull good new old great high small large next early young important few public bad
same able blue cold dark green hot red sad sweet tall warm winter summer music dog tree river engine metal bread doctor
soldier king castle planet cell gene atom market price tax church prayer mountain ocean python function variable file
server quickly never here there because however between against during without the and of with from
""".split()
"""Common words of many kinds: what a topic's similarity to a text is measured against."""


class HybridSimulator:
    """Predicts activations from the explanation's text and the tokens alone, without a language model.

    Args:
        embeddings: a LangChain embedding model for the semantic channel; by default MiniLM, loaded on first use.
        capacity: how many texts' embeddings and how many exemplars are remembered.
    """

    def __init__(self, embeddings: Embeddings | None = None, capacity: int = 20_000) -> None:
        self._embeddings = embeddings
        self._views: OrderedDict[tuple[str, ...], View] = OrderedDict()
        self._vectors: OrderedDict[str, Array] = OrderedDict()
        self._capacity = capacity
        self._lock = Lock()

    def simulate(self, explanations: Sequence[str], exemplars: Sequence[Exemplar]) -> list[Array]:
        """Predict every explanation on every exemplar: one `(n_explanations, seq_len)` array each, 0-10.

        Threads may share a simulator; their calls take turns.

        Raises:
            LLMError: the embeddings cannot be had, or cannot be used.
            SimulatorError: their vectors have changed in length.
        """
        with self._lock:
            return self._simulate(explanations, exemplars)

    def _simulate(self, explanations: Sequence[str], exemplars: Sequence[Exemplar]) -> list[Array]:
        readings = [read(explanation) for explanation in explanations]
        views = [self._view(exemplar.tokens) for exemplar in exemplars]
        self._remember(text for reading in readings for text in _texts_of(reading))
        if any(reading.topic or _neighbourly(reading) for reading in readings):
            self._remember(word for seen in views for word in seen.words)
        if any(reading.topic for reading in readings):
            self._remember(context for seen in views for context in seen.contexts)
        predictions = []
        for seen in views:
            check_stopped()
            rows = [self._predict(reading, seen) for reading in readings]
            predictions.append(np.stack(rows) if rows else np.zeros((0, len(seen.contents)), dtype=np.float32))
        return predictions

    def _predict(self, reading: Reading, seen: View) -> Array:
        guess = np.maximum(_by_kind(reading, seen), self._by_topic(reading, seen))
        guess = np.maximum(guess, self._by_neighbours(reading, seen))
        quoted = quoted_strengths(reading, seen)
        return np.where(np.isnan(quoted), guess, quoted).astype(np.float32)

    def _by_topic(self, reading: Reading, seen: View) -> Array:
        """How near each token's word and left context are to what the explanation is about."""
        if not reading.topic:
            return np.zeros(len(seen.contents), dtype=np.float32)
        topic = self._stack([reading.topic])[0]
        unrelated = self._unrelated @ topic
        mean, deviation = float(unrelated.mean()), float(unrelated.std()) + 1e-6
        words = (self._stack(seen.words) @ topic - mean) / deviation if seen.words else np.zeros(0)
        contexts = (self._stack(seen.contexts) @ topic - mean) / deviation
        by_word = np.append(words, 0.0)[seen.word_of]
        nearness = by_word + CONTEXT_SHARE * np.clip(contexts[seen.context_of], 0, None)
        share = np.clip((nearness - TOPIC_FLOOR) / (TOPIC_CEILING - TOPIC_FLOOR), 0, 1)
        weight = reading.topic_strength
        if reading.conditions:
            weight *= EXAMPLES_TOPIC_SHARE if reading.by_example else QUOTED_TOPIC_SHARE
        return np.where(seen.word_of >= 0, share * weight, 0.0).astype(np.float32)

    def _by_neighbours(self, reading: Reading, seen: View) -> Array:
        """What is not quoted, but close in meaning to a quoted word, fires a little."""
        quoted = _neighbourly(reading)
        if not quoted or not seen.words:
            return np.zeros(len(seen.contents), dtype=np.float32)
        cosines = self._stack(seen.words) @ self._stack([condition.text for condition in quoted]).T
        nearness = np.clip((cosines - NEIGHBOUR_THRESHOLD) / (1 - NEIGHBOUR_THRESHOLD), 0, 1)
        strengths = np.array([condition.strength for condition in quoted], dtype=np.float32)
        best = (nearness * strengths).max(axis=1) * NEIGHBOUR_SHARE
        return np.append(best, 0.0)[seen.word_of].astype(np.float32)

    @cached_property
    def _unrelated(self) -> Array:
        return self._stack(_UNRELATED)

    def _view(self, tokens: Sequence[str]) -> View:
        key = tuple(tokens)
        if key not in self._views:
            self._views[key] = view(key)
            if len(self._views) > max(self._capacity // 10, 1):
                self._views.popitem(last=False)
        self._views.move_to_end(key)
        return self._views[key]

    def _stack(self, texts: Sequence[str]) -> Array:
        self._remember(texts)
        return np.stack([self._vectors[text] for text in texts])

    def _remember(self, texts: Iterable[str]) -> None:
        """Embed what is not known yet, in one batch."""
        wanted = list(dict.fromkeys(texts))
        missing = [text for text in wanted if text not in self._vectors]
        if missing:
            self._vectors.update(zip(missing, self._embed(missing), strict=True))
        for text in wanted:
            self._vectors.move_to_end(text)
        while len(self._vectors) > max(self._capacity, len(wanted)):
            self._vectors.popitem(last=False)

    def _embed(self, texts: Sequence[str]) -> Array:
        from neuronscope.llm.embeddings import embed, resolve_embeddings

        if self._embeddings is None:
            self._embeddings = resolve_embeddings("minilm")
        vectors = embed(self._embeddings, texts, "the hybrid simulator").astype(np.float32)
        known = next(iter(self._vectors.values()), vectors[0])
        if known.shape != vectors[0].shape:
            raise SimulatorError(
                f"The hybrid simulator's embeddings returned vectors of length {len(known)} before, and of length "
                f"{len(vectors[0])} now, which cannot be compared. Use embeddings of one length."
            )
        return vectors


def _texts_of(reading: Reading) -> list[str]:
    return [*([reading.topic] if reading.topic else []), *(c.text for c in _neighbourly(reading))]


def _neighbourly(reading: Reading) -> list[Condition]:
    """The quoted words whose meaning can be compared: no parts, no function words, no symbols."""
    return [
        condition
        for condition in reading.conditions
        if condition.form == "word"
        and condition.strength > 0
        and len(condition.text) > 2
        and condition.text[0].isalpha()
    ]


def _by_kind(reading: Reading, seen: View) -> Array:
    values = np.zeros(len(seen.contents), dtype=np.float32)
    for name, strength in reading.kinds:
        hits = np.array([_is_of_kind(name, position, seen) for position in range(len(seen.contents))])
        values = np.maximum(values, hits * np.float32(strength))
    return values


def _is_of_kind(name: str, position: int, seen: View) -> bool:
    content = seen.contents[position]
    if name == "numbers":
        return content.isdigit()
    if name == "line breaks":
        return "\n" in content
    if name == "punctuation":
        return bool(content.strip()) and not any(character.isalnum() for character in content)
    return bool(seen.capitalised[position])


def quoted_strengths(reading: Reading, seen: View) -> Array:
    """The strength of the most specific quoted condition on each token; NaN where none applies."""
    values = np.full(len(seen.contents), np.nan, dtype=np.float32)
    rank = np.full(len(seen.contents), -1, dtype=np.int64)
    for condition in reading.conditions:
        specific = (2 if condition.after else 0) + (1 if condition.text else 0) + (4 if condition.strength == 0 else 0)
        for position, share in _matches(condition, seen):
            if condition.after and not any(seen.preceded_by(position, before) for before in condition.after):
                continue
            value = condition.strength * share
            if specific > rank[position] or (specific == rank[position] and value > values[position]):
                rank[position], values[position] = specific, value
    return values


def _matches(condition: Condition, seen: View) -> list[tuple[int, float]]:
    """Where a condition's text stands, and the share of its strength that counts there."""
    if not condition.text:
        return [(position, 1.0) for position in range(len(seen.contents))]
    if condition.form in ("ending", "beginning"):
        return _words_with(condition, seen)
    places = seen.places.get(condition.text, [])
    if condition.form == "part":
        return [(position, 1.0) for position in places if seen.continues[position]]
    if places:
        whole = not condition.text[0].isalpha()  # a digit is as much itself inside a number
        return [(position, 1.0 if whole or not seen.continues[position] else PART_SHARE) for position in places]
    spread = []
    for first, last in seen.spans(condition.text):
        spread += [(position, PART_SHARE) for position in range(first, last)] + [(last, 1.0)]
    return spread


def _words_with(condition: Condition, seen: View) -> list[tuple[int, float]]:
    """Tokens at which words with an ending or a beginning are complete, or begun."""
    ending = condition.form == "ending"
    found = []
    for position, word in enumerate(seen.word_of):
        if word < 0:
            continue
        text = seen.words[word]
        fits = text.endswith(condition.text) if ending else text.startswith(condition.text)
        following = position + 1 < len(seen.contents) and seen.continues[position + 1]
        if fits and (not following if ending else not seen.continues[position]):
            found.append((position, 1.0))
    return found
