"""What the reader is told of each token: where it meets the sentence, literally and by meaning.

Everything here is causal: of a word that is split into several tokens, a token knows the pieces up to itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from neuronscope.offline.tokens import is_of_kind
from neuronscope.simulators.reader.literal import literal
from neuronscope.simulators.reader.sentence import PROBES, STOPWORDS, WORD, sentence_of, stem
from neuronscope.simulators.reader.text import Text, Vectors

Array = NDArray[np.float32]
Belongs = Callable[[Array, Array], Array]


N_FEATURES = 60
"""Columns of `Matcher.features`."""
EXCEPTED = 2
"""The column that says that a token is quoted as an exception."""
UNRELATED = (
    "time year people way day man thing world life hand part place case week company system work number night point "
    "home water story fact month book eye job business side house service power game line end law car city name the "
    "and of with from good new old great small important different run move believe bring write"
).split()


def features(explanation: str, text: Text, vectors: Vectors, probed: Array, belongs: Belongs) -> Array:
    """The features of each token of a text beside an explanation: `(n_tokens, N_FEATURES)`, about 0 to 1.

    Args:
        explanation: the sentence.
        text: its tokens.
        vectors: of words.
        probed: for each token, what each of `PROBES` tells of it, a share.
        belongs: from vectors of words and of phrases, how far each word belongs to what a phrase names.
    """
    sentence = sentence_of(explanation)
    parse = sentence.parse
    out = np.zeros((len(text.contents), N_FEATURES), dtype=np.float32)
    if not text.contents:
        return out
    literal(parse.conditions, text, out)
    for name, strength in parse.kinds:
        each = zip(text.contents, text.capitalised, strict=True)
        hits = np.array([is_of_kind(name, content, is_capitalised) for content, is_capitalised in each])
        out[:, 3] = np.maximum(out[:, 3], hits * strength / 10)
    words = vectors.stack(text.words)
    if parse.topic:
        out[:, 4] = words @ vectors.stack([parse.topic])[0]
        out[:, 5] = np.maximum.accumulate(out[:, 4])
        out[:, 6] = np.cumsum(out[:, 4]) / np.arange(1, len(words) + 1)
    quoted = sorted(sentence.quoted - STOPWORDS)
    if quoted:
        out[:, 7] = np.clip(((words @ vectors.stack(quoted).T).max(axis=1) - 0.3) / 0.7, 0, 1)
    if sentence.plain:
        cosines = np.clip((words @ vectors.stack(sentence.plain).T - 0.3) / 0.7, 0, 1)
        out[:, 8] = cosines.max(axis=1)
    if parse.topic:
        topic, unrelated = vectors.stack([parse.topic])[0], vectors.stack(UNRELATED)
        usual = unrelated @ topic
        out[:, 20] = (out[:, 4] - usual.mean()) / (usual.std() + 1e-6) / 6
        sums = np.concatenate([np.zeros(1), np.cumsum(out[:, 4], dtype=np.float64)])
        first = np.maximum(np.arange(len(words)) - 7, 0)
        out[:, 21] = (sums[1:] - sums[first]) / (np.arange(len(words)) + 1 - first)
    if sentence.clauses:
        phrases = vectors.stack(sentence.clauses)
        usual = vectors.stack(UNRELATED) @ phrases.T
        out[:, 56] = ((words @ phrases.T - usual.mean(axis=0)) / (usual.std(axis=0) + 1e-6) / 6).max(axis=1)
        out[:, 57] = belongs(words, phrases).max(axis=1)
    if parse.topic:
        out[:, 58] = belongs(words, vectors.stack([parse.topic]))[:, 0]
    if sentence.preceding:
        preceding = belongs(words, vectors.stack([sentence.preceding]))[:, 0]
        out[1:, 59] = preceding[:-1]
    named, before_named = sentence.named
    out[:, 37] = (probed[:, :6] * named[:6]).max(axis=1)
    out[:, 38] = (probed[:, 7:] * named[7:]).max(axis=1)
    out[:, 39:46] = probed[:, :7]
    out[:, 46] = probed[:, 6] * named[6]
    out[:, 47] = (1 - probed[:, 6]) * text.continues
    previous = np.concatenate([np.zeros((1, len(PROBES)), dtype=np.float32), probed[:-1]])
    out[:, 48] = (previous[:, :6] * before_named[:6]).max(axis=1)
    out[:, 49] = (previous[:, 7:] * before_named[7:]).max(axis=1)
    out[:, 50] = previous[:, 5]
    out[:, 51] = named[6]
    out[:, 52] = bool(named[:6].any())
    out[:, 53] = bool(before_named.any())
    out[:, 54] = out[:, 37] * out[:, 38]
    out[:, 55] = out[:, 38] * np.clip(out[:, 20], 0, 1)
    last, start = "", 0
    seen: set[str] = set()
    plain = frozenset(sentence.plain)
    for position, (content, word) in enumerate(zip(text.contents, text.words, strict=True)):
        key = word or content
        out[position, 9] = word in sentence.quoted
        out[position, 10] = word in plain
        out[position, 11] = bool(word) and stem(word) in sentence.stems
        out[position, 12] = (last, word) in sentence.bigrams
        out[position, 13] = last in sentence.quoted
        out[position, 14] = content in sentence.pieces
        out[position, 15] = text.continues[position]
        out[position, 16] = text.capitalised[position]
        out[position, 17] = min(position, 64) / 64
        out[position, 18] = key in seen
        out[position, 19] = bool(content) and not any(character.isalnum() for character in content)
        if not text.continues[position]:
            start = position
        before = text.words[start - 1] if start else ""
        out[position, 22] = any(kind.match(content) or (word and kind.match(word)) for kind in sentence.classes)
        out[position, 23] = bool(word) and word in sentence.excepted
        out[position, 24], out[position, 25] = _in_phrase(sentence.phrases, text, position)
        out[position, 26] = last in sentence.before
        out[position, 27] = out[start - 1, 7] if before else 0
        out[position, 28] = out[start - 1, 8] if before else 0
        out[position, 29] = content.isdigit()
        out[position, 30:37] = sentence.about
        seen.add(key)
        if not text.continues[position] and position and text.words[position - 1]:
            last = text.words[position - 1]
    return out


def words_of(explanation: str) -> list[str]:
    """What of an explanation `features` embeds."""
    sentence = sentence_of(explanation)
    return [
        *UNRELATED,
        sentence.parse.topic,
        sentence.preceding,
        *sentence.clauses,
        *sorted(sentence.quoted - STOPWORDS),
        *sentence.plain,
    ]


def _in_phrase(phrases: Sequence[tuple[str, ...]], text: Text, position: int) -> tuple[float, float]:
    """Whether a quoted phrase ends at a token, and whether one goes on there."""
    word = text.words[position]
    if not word or not phrases:
        return 0.0, 0.0
    left = [*WORD.findall(text.left[position]), word][-8:]
    if text.continues[position] and len(left) > 1:
        del left[-2]
    ends = goes_on = 0.0
    for phrase in phrases:
        for length in range(1, len(phrase) + 1):
            if phrase[length - 1] == word and tuple(left[-length:]) == phrase[:length]:
                if length == len(phrase):
                    ends = 1.0
                else:
                    goes_on = max(goes_on, length / len(phrase))
    return ends, goes_on
