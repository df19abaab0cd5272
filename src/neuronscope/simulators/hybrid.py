"""A simulator that needs no language model: what an explanation quotes, and what it is about.

The lexical channel reads quoted words, what stands before them and strength words (see `offline.english`), and predicts
with these conditions (`offline.conditions`). The semantic channel compares embeddings: of the explanation's topic with
the words and left contexts of the text, and of quoted words with words that are not quoted. Embeddings of a text are
computed once and reused for every explanation.
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
from neuronscope.offline.conditions import Condition, predict
from neuronscope.offline.english import Parse, read
from neuronscope.offline.tokens import TokenFeatures, is_of_kind, token_features
from neuronscope.stopping import check_stopped

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from neuronscope.types import Exemplar

Array = NDArray[np.float32]

NEIGHBOUR_THRESHOLD = 0.5
"""Cosine above which a word counts as a neighbour of a quoted word."""
NEIGHBOUR_SHARE = 0.5
"""A word of cosine 1 to a quoted word would activate at this share of the quoted word's strength."""
CONTEXT_SHARE = 0.35
"""Weight of a token's left context, relative to its word, when both are compared with a topic."""
TOPIC_FLOOR, TOPIC_CEILING = 2.5, 5.5
"""Standard deviations above the similarity of unrelated words where a topic starts to activate, and activates fully."""
QUOTED_TOPIC_SHARE, EXAMPLES_TOPIC_SHARE = 0.25, 0.6
"""What a topic counts relative to quoted words: little, since it mostly describes them; more if they are mere
examples."""
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
        capacity: how many texts' embeddings and how many exemplars are cached.
    """

    def __init__(self, embeddings: Embeddings | None = None, capacity: int = 20_000) -> None:
        self._embeddings = embeddings
        self._features: OrderedDict[tuple[str, ...], TokenFeatures] = OrderedDict()
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
        parses = [read(explanation) for explanation in explanations]
        sequences = [self._features_of(exemplar.tokens) for exemplar in exemplars]
        self._embed_missing(text for parse in parses for text in _texts_of(parse))
        if any(parse.topic or _neighbourly(parse) for parse in parses):
            self._embed_missing(word for tokens in sequences for word in tokens.words)
        if any(parse.topic for parse in parses):
            self._embed_missing(context for tokens in sequences for context in tokens.contexts)
        predictions = []
        for tokens in sequences:
            check_stopped()
            rows = [self._predict(parse, tokens) for parse in parses]
            predictions.append(np.stack(rows) if rows else np.zeros((0, len(tokens.contents)), dtype=np.float32))
        return predictions

    def _predict(self, parse: Parse, tokens: TokenFeatures) -> Array:
        guess = np.maximum(_by_kind(parse, tokens), self._by_topic(parse, tokens))
        guess = np.maximum(guess, self._by_neighbours(parse, tokens))
        quoted = predict(parse.conditions, tokens)
        return np.where(np.isnan(quoted), guess, quoted).astype(np.float32)

    def _by_topic(self, parse: Parse, tokens: TokenFeatures) -> Array:
        """How near each token's word and left context are to what the explanation is about."""
        if not parse.topic:
            return np.zeros(len(tokens.contents), dtype=np.float32)
        topic = self._stack([parse.topic])[0]
        unrelated = self._unrelated @ topic
        mean, deviation = float(unrelated.mean()), float(unrelated.std()) + 1e-6
        words = (self._stack(tokens.words) @ topic - mean) / deviation if tokens.words else np.zeros(0)
        contexts = (self._stack(tokens.contexts) @ topic - mean) / deviation
        by_word = np.append(words, 0.0)[tokens.word_of]
        nearness = by_word + CONTEXT_SHARE * np.clip(contexts[tokens.context_of], 0, None)
        share = np.clip((nearness - TOPIC_FLOOR) / (TOPIC_CEILING - TOPIC_FLOOR), 0, 1)
        weight = parse.topic_strength
        if parse.conditions:
            weight *= EXAMPLES_TOPIC_SHARE if parse.by_example else QUOTED_TOPIC_SHARE
        return np.where(tokens.word_of >= 0, share * weight, 0.0).astype(np.float32)

    def _by_neighbours(self, parse: Parse, tokens: TokenFeatures) -> Array:
        """What is not quoted, but close in meaning to a quoted word, activates a little."""
        quoted = _neighbourly(parse)
        if not quoted or not tokens.words:
            return np.zeros(len(tokens.contents), dtype=np.float32)
        cosines = self._stack(tokens.words) @ self._stack([condition.text for condition in quoted]).T
        return np.append(near_quoted(cosines, quoted), 0.0)[tokens.word_of].astype(np.float32)

    @cached_property
    def _unrelated(self) -> Array:
        return self._stack(_UNRELATED)

    def _features_of(self, tokens: Sequence[str]) -> TokenFeatures:
        key = tuple(tokens)
        if key not in self._features:
            self._features[key] = token_features(key)
            if len(self._features) > max(self._capacity // 10, 1):
                self._features.popitem(last=False)
        self._features.move_to_end(key)
        return self._features[key]

    def _stack(self, texts: Sequence[str]) -> Array:
        self._embed_missing(texts)
        return np.stack([self._vectors[text] for text in texts])

    def _embed_missing(self, texts: Iterable[str]) -> None:
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


def near_quoted(cosines: Array, quoted: Sequence[Condition]) -> Array:
    """How strongly words activate that are close in meaning to quoted ones, 0-10.

    Args:
        cosines: shape `(words, conditions)`.
        quoted: conditions whose words can be compared, one at least.
    """
    nearness = np.clip((cosines - NEIGHBOUR_THRESHOLD) / (1 - NEIGHBOUR_THRESHOLD), 0, 1)
    strengths = np.array([condition.strength for condition in quoted], dtype=np.float32)
    nearest: Array = (nearness * strengths).max(axis=1) * NEIGHBOUR_SHARE
    return nearest


def _texts_of(parse: Parse) -> list[str]:
    return [*([parse.topic] if parse.topic else []), *(c.text for c in _neighbourly(parse))]


def _neighbourly(parse: Parse) -> list[Condition]:
    return [condition for condition in parse.conditions if condition.has_neighbours]


def _by_kind(parse: Parse, tokens: TokenFeatures) -> Array:
    values = np.zeros(len(tokens.contents), dtype=np.float32)
    for name, strength in parse.kinds:
        each = zip(tokens.contents, tokens.capitalised.tolist(), strict=True)
        hits = np.array([is_of_kind(name, content, is_capitalised) for content, is_capitalised in each])
        values = np.maximum(values, hits * np.float32(strength))
    return values
