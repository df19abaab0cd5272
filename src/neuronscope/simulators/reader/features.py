"""What the reader is told of each token: where it meets the sentence, literally and by meaning.

Everything here is causal: of a word that is split into several tokens, a token knows the pieces up to itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuronscope.simulators.reader.batch import Array, Batch
from neuronscope.simulators.reader.compiled import COMPILED, Belongs, Named, compiled, words_of_clauses
from neuronscope.simulators.reader.literal import literal
from neuronscope.simulators.reader.sentence import STOPWORDS, Sentence, sentence_of
from neuronscope.simulators.reader.vectors import Vectors

ABOUT = (
    "sentence_quotes", "sentence_by_example", "sentence_of_pieces", "sentence_of_names", "sentence_has_exceptions",
    "sentence_hedges", "sentence_length",
)  # fmt: skip
PARTS_OF_SPEECH = (
    "is_noun", "is_verb", "is_adjective", "is_adverb", "is_function_word", "is_name", "goes_on",
)  # fmt: skip
"""The first of `PROBES`; the others tell of broad meaning."""
FEATURES: tuple[str, ...] = (
    "literal",  # the strength of the quoted condition that decides, a tenth of it
    "literal_applies",
    "excepted",  # it is quoted as an exception
    "kind",  # the strength of a kind of tokens that is named (numbers, punctuation), a tenth of it
    "topic",  # cosine of the word and what the sentence is about
    "topic_so_far",  # the largest of these up to here
    "topic_mean",
    "near_quoted",  # cosine of the word and the nearest quoted word, from .3 as 0
    "near_plain",  # the same of words that are not quoted
    "quoted",  # the word is one of the quoted ones
    "plain",
    "same_stem",
    "bigram",  # the sentence has the word before and this one side by side
    "after_quoted",
    "quoted_piece",  # the token itself is quoted
    "continues",  # it continues a word
    "capitalised",
    "position",
    "seen",  # the word was there before
    "symbol",
    "topic_unusual",  # `topic` in sixths of a standard deviation of unrelated words
    "topic_lately",  # its mean over eight tokens
    "of_class",  # it is of a class that the sentence names by a word of grammar
    "word_excepted",  # the word stands in a clause that says where nothing is expected
    "phrase_ends",
    "phrase_goes_on",  # the share of a quoted phrase that there is so far
    "after_named",  # the word before is one that is said to come before
    "near_quoted_before",  # `near_quoted` of the word directly before
    "near_plain_before",
    "digits",
    *ABOUT,
    "part_of_speech_named",  # what the probes tell of a part of speech that the sentence names
    "meaning_named",  # the same of broad meanings
    *PARTS_OF_SPEECH,
    "goes_on_named",
    "piece_that_ends",
    "part_of_speech_named_before",  # of the token before, and what the sentence says comes before
    "meaning_named_before",
    "is_name_before",
    "names_beginnings",  # the sentence speaks of beginnings of words
    "names_parts_of_speech",
    "names_what_comes_before",
    "part_of_speech_and_meaning_named",
    "meaning_named_and_topic",
    "clause_unusual",  # `topic_unusual`, for the nearest clause
    "belongs_to_clause",  # whether the word belongs to what a clause names, by `Kinship`
    "belongs_to_topic",
    "belongs_before",  # whether the token before belongs to what is said to come before
    *COMPILED,  # what its clauses say in so many words
)
"""The columns, about 0 to 1."""
N_FEATURES = len(FEATURES)
COLUMN = {name: index for index, name in enumerate(FEATURES)}
EXCEPTED = COLUMN["excepted"]
UNRELATED = (
    "time year people way day man thing world life hand part place case week company system work number night point "
    "home water story fact month book eye job business side house service power game line end law car city name the "
    "and of with from good new old great small important different run move believe bring write"
).split()
LATELY = 8
"""Tokens that `topic_lately` is a mean of."""


class Columns:
    """Features by name: one row of an array each, so that a whole one is written at once."""

    def __init__(self, n_tokens: int) -> None:
        self.values = np.zeros((N_FEATURES, n_tokens), dtype=np.float32)

    def __setitem__(self, name: str, values: NDArray[np.float32 | np.float64 | np.bool_] | float) -> None:
        self.values[COLUMN[name]] = values

    def __getitem__(self, name: str) -> Array:
        row: Array = self.values[COLUMN[name]]
        return row


def features(explanation: str, batch: Batch, vectors: Vectors, belongs: Belongs, named: Named) -> Array:
    """The features of each token of a batch beside an explanation: `(n_tokens, N_FEATURES)`, see `FEATURES`.

    Args:
        explanation: the sentence.
        batch: the texts' tokens.
        vectors: of words.
        belongs: from corrected vectors of words, and vectors of phrases, how far each word belongs to what each phrase
            names.
        named: from vectors of phrases, how sure it is that they name each kind of tokens.
    """
    sentence = sentence_of(explanation)
    out = Columns(len(batch))
    _of_the_text(out, batch)
    _quotes(out, sentence, batch)
    _meanings(out, sentence, batch, vectors, belongs)
    _grammar(out, sentence, batch)
    out.values[-len(COMPILED) :] = compiled(explanation, batch, vectors, belongs, named)
    return np.ascontiguousarray(out.values.T)


def words_of(explanation: str) -> list[str]:
    """What of an explanation `features` compares by its meaning."""
    sentence = sentence_of(explanation)
    return [
        *UNRELATED,
        sentence.parse.topic,
        sentence.preceding,
        *sentence.clauses,
        *sorted(sentence.quoted - STOPWORDS),
        *sentence.plain,
        *words_of_clauses(explanation),
    ]


def _of_the_text(out: Columns, batch: Batch) -> None:
    """What has nothing to do with the sentence."""
    out["continues"] = batch.continues
    out["capitalised"] = batch.capitalised
    out["position"] = np.minimum(np.arange(len(batch)) - batch.first, 64) / 64
    out["seen"] = batch.seen
    out["symbol"] = batch.symbol
    out["digits"] = batch.digits


def _quotes(out: Columns, sentence: Sentence, batch: Batch) -> None:
    """What matches letter by letter."""
    parse = sentence.parse
    out["literal"], out["literal_applies"], out["excepted"] = literal(parse.conditions, batch)
    for name, strength in parse.kinds:
        out["kind"] = np.maximum(out["kind"], batch.of_kind(name) * np.float32(strength / 10))
    out["quoted"] = batch.words.among(sentence.quoted)
    out["plain"] = batch.words.among(sentence.plain)
    out["same_stem"] = batch.stems.among(sentence.stems)
    out["bigram"] = _bigrams(sentence, batch)
    out["after_quoted"] = batch.lasts.among(sentence.quoted)
    out["after_named"] = batch.lasts.among(sentence.before)
    out["quoted_piece"] = batch.contents.among(sentence.pieces)
    for kind in sentence.classes:
        out["of_class"] = np.maximum(out["of_class"], batch.of_class(kind))
    out["word_excepted"] = batch.words.among(sentence.excepted)
    _phrases(out, sentence, batch)


def _bigrams(sentence: Sentence, batch: Batch) -> NDArray[np.bool_]:
    lasts, words = batch.lasts.index, batch.words.index
    pairs = [lasts[a] * len(words) + words[b] for a, b in sentence.bigrams if a in lasts and b in words]
    return np.isin(batch.lasts.codes.astype(np.int64) * len(words) + batch.words.codes, pairs)


def _phrases(out: Columns, sentence: Sentence, batch: Batch) -> None:
    ends, goes_on = out["phrase_ends"], out["phrase_goes_on"]
    for phrase in sentence.phrases:
        for length in range(1, len(phrase) + 1):
            if not phrase[length - 1]:
                continue
            at = batch.words.positions(phrase[length - 1])
            if length > 1:
                begun = phrase[:length]
                at = np.array([p for p in at.tolist() if batch.trail(p)[-length:] == begun], dtype=np.intp)
            if length == len(phrase):
                ends[at] = 1
            else:
                goes_on[at] = np.maximum(goes_on[at], length / len(phrase))


def _meanings(out: Columns, sentence: Sentence, batch: Batch, vectors: Vectors, belongs: Belongs) -> None:
    """What is near in meaning, by MiniLM's vectors of words and of the sentence's phrases."""
    topic, clauses, preceding = sentence.parse.topic, sentence.clauses, sentence.preceding
    quoted = sorted(sentence.quoted - STOPWORDS)
    groups = {"topic": [topic] * bool(topic), "clauses": clauses, "quoted": quoted, "plain": sentence.plain}
    stacked = vectors.stack([text for group in groups.values() for text in group])
    near = np.split(batch.vectors @ stacked.T, np.cumsum([len(group) for group in groups.values()])[:-1], axis=1)
    cosines = dict(zip(groups, near, strict=True))
    named = [*groups["topic"], *clauses, *([preceding] if preceding else [])]
    kin = dict.fromkeys(("topic", "clauses", "preceding"), np.zeros((len(batch.vectors), 0), dtype=np.float32))
    if named:
        split = np.cumsum([bool(topic), len(clauses)])
        kin = dict(zip(kin, np.split(belongs(batch.corrected, vectors.stack(named)), split, axis=1), strict=True))
    unrelated = vectors.stack(UNRELATED)
    if topic:
        out["topic"] = batch.words.of(cosines["topic"][:, 0])
        _so_far(out, batch)
        usual = unrelated @ vectors.stack([topic])[0]
        out["topic_unusual"] = (out["topic"] - usual.mean()) / (usual.std() + 1e-6) / 6
        out["belongs_to_topic"] = _of_words(batch, kin["topic"])
    for name in ("quoted", "plain"):
        if groups[name]:
            near_word = batch.words.of(np.clip((cosines[name].max(axis=1) - 0.3) / 0.7, 0, 1))
            out[f"near_{name}"] = near_word
            out[f"near_{name}_before"] = np.where(batch.has_word_before, near_word[batch.start - 1], 0)
    if clauses:
        usual = unrelated @ vectors.stack(clauses).T
        unusual = (cosines["clauses"] - usual.mean(axis=0)) / (usual.std(axis=0) + 1e-6) / 6
        out["clause_unusual"] = batch.words.of(unusual.max(axis=1))
        out["belongs_to_clause"] = _of_words(batch, kin["clauses"])
    if preceding:
        out["belongs_before"] = batch.previous(_of_words(batch, kin["preceding"]))


def _of_words(batch: Batch, kin: Array) -> Array:
    """For each token how far its word belongs to any of some phrases; not at all where there is no word."""
    found: Array = batch.words.of(kin.max(axis=1)) * batch.has_word
    return found


def _so_far(out: Columns, batch: Batch) -> None:
    """The topic in each text up to a token."""
    positions, first = np.arange(len(batch)), batch.first
    sums = np.concatenate([np.zeros(1), np.cumsum(out["topic"], dtype=np.float64)])
    out["topic_mean"] = (sums[1:] - sums[first]) / (positions + 1 - first)
    lately = np.maximum(positions - LATELY + 1, first)
    out["topic_lately"] = (sums[1:] - sums[lately]) / (positions + 1 - lately)
    for start, end in batch.spans:
        np.maximum.accumulate(out["topic"][start:end], out=out["topic_so_far"][start:end])


def _grammar(out: Columns, sentence: Sentence, batch: Batch) -> None:
    """Parts of speech and broad meanings: what the probes tell, and what the sentence speaks of."""
    probed, n_parts, goes_on = batch.probed, len(PARTS_OF_SPEECH) - 1, len(PARTS_OF_SPEECH) - 1
    named, named_before = sentence.named
    for name, value in zip(ABOUT, sentence.about, strict=True):
        out[name] = value
    for index, name in enumerate(PARTS_OF_SPEECH):
        out[name] = probed[:, index]
    out["part_of_speech_named"] = (probed[:, :n_parts] * named[:n_parts]).max(axis=1)
    out["meaning_named"] = (probed[:, goes_on + 1 :] * named[goes_on + 1 :]).max(axis=1)
    out["goes_on_named"] = probed[:, goes_on] * named[goes_on]
    out["piece_that_ends"] = (1 - probed[:, goes_on]) * batch.continues
    before = batch.previous(probed)
    out["part_of_speech_named_before"] = (before[:, :n_parts] * named_before[:n_parts]).max(axis=1)
    out["meaning_named_before"] = (before[:, goes_on + 1 :] * named_before[goes_on + 1 :]).max(axis=1)
    out["is_name_before"] = before[:, PARTS_OF_SPEECH.index("is_name")]
    out["names_beginnings"] = named[goes_on]
    out["names_parts_of_speech"] = float(named[:n_parts].any())
    out["names_what_comes_before"] = float(named_before.any())
    out["part_of_speech_and_meaning_named"] = out["part_of_speech_named"] * out["meaning_named"]
    out["meaning_named_and_topic"] = out["meaning_named"] * np.clip(out["topic_unusual"], 0, 1)
