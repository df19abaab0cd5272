"""What the reader is told of each token beside its text: where it meets the sentence literally and by meaning.

Everything here is causal: of a word that is split into several tokens, a token knows the pieces up to itself.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from neuronscope.offline.conditions import Condition
from neuronscope.offline.english import LONGEST_QUOTE, Parse, read
from neuronscope.offline.tokens import content_of

Array = NDArray[np.float32]

N_FEATURES = 37
"""Columns of `Matcher.features`."""
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_QUOTE = re.compile(
    rf"\"([^\"\n]{{1,{LONGEST_QUOTE}}})\"|“([^”\n]{{1,{LONGEST_QUOTE}}})”|`([^`\n]{{1,{LONGEST_QUOTE}}})`"
)
_STOPWORDS = frozenset(
    """a an the of in on at to for from by with and or but not no as is are was were be been it its this that these
    those such like words word other others uses use especially most more less than when where which who any some all
    only often near zero stay stays weak weakly strongly strong slightly nothing give gives usually sometimes same
    their his her they he she one two etc then so if into about over after before right following directly token tokens
    name names noun nouns verb verbs phrase phrases text sentence sentences fires activates response""".split()
)
_EXCEPTION = re.compile(
    r"\b(?:zero|silent|nothing|inactive|absent|not|never|none|except|excluding|other than|no response|drops?|falls?)\b"
)
_HEDGE = re.compile(r"\b(?:weak\w*|faint\w*|slight\w*|sometimes|occasional\w*|rarely|low|small|usually|less|only)\b")
_AFTER = re.compile(r"\b(?:after|following|follows?|preceded by|governed by|introduced by|behind)\b([^.;:]*)")
_CLASSES: tuple[tuple[re.Pattern[str], re.Pattern[str]], ...] = tuple(
    (re.compile(rf"\b(?:{names})\b"), re.compile(rf"(?:{tokens})\Z"))
    for names, tokens in (
        ("commas?", ","),
        (r"periods?|full stops?|dots?", r"\."),
        (r"colons?", ":"),
        (r"semicolons?", ";"),
        (r"hyphens?|dash(?:es)?", "[-–—]+"),
        (r"parenthes[ie]s|brackets?|parenthesised", r"[()\[\]{}]+.?"),
        (r"quotation marks?|quote marks?|quotes?|apostrophes?", "[\"'“”‘’`]+s?"),
        (r"line ?breaks?|newlines?|blank lines?|paragraphs?|headings?", r"\n+"),
        (r"underscores?", "_+"),
        (r"slash(?:es)?", "/"),
        (r"punctuation|marks?|symbols?|operators?", r"[^\w\s]+"),
        (r"spaces?|blanks?|indent\w*", r"\s+"),
        (r"digits?|numbers?|numerals?|years?|dates?|figures?|quantity|quantities|decimals?|scores?", r"\d+"),
        (r"articles?|determiners?", "the|an?"),
        (
            r"prepositions?|particles?",
            "of|in|to|for|on|with|at|by|from|into|through|during|against|among|between|over|under|within|across|upon|toward|towards|along|about|up|out|off|down",
        ),
        (r"conjunctions?|joiners?|connectives?", "and|or|but|nor|because|although|while|since|if|as|that"),
        (r"pronouns?", "i|me|we|us|you|he|him|she|her|it|they|them|who|whom|which|one"),
        (r"possessives?|determiners?", "my|our|your|his|her|its|their|'s|’s"),
        (r"demonstratives?", "this|that|these|those"),
        (r"auxiliar(?:y|ies)|modals?", "can|could|may|might|must|shall|should|will|would|do|does|did|have|has|had"),
        (r"copulas?|be|auxiliar(?:y|ies)|linking verbs?|forms of be", "is|are|was|were|be|been|being|am"),
        (r"negations?|negatives?", "not|no|never|none|nothing|neither|nor|n't"),
        (
            r"number words?|numbers?|quantit(?:y|ies)|quantifiers?",
            "one|two|three|four|five|six|seven|eight|nine|ten|dozen|hundred|thousand|million|many|several|some|few",
        ),
        (r"ordinals?", "first|second|third|fourth|fifth|last|th|st|nd|rd"),
        (r"months?", "january|february|march|april|may|june|july|august|september|october|november|december"),
        (r"adverbs?", r"\w{2,}ly"),
        (r"gerunds?|participles?|progressives?", r"\w{2,}ing"),
        (r"participles?|past tense|past verbs?", r"\w{2,}ed"),
        (r"plurals?|plural nouns?", r"\w{3,}s"),
    )
)
"""What sentences call some kinds of tokens, and those tokens."""
_UNRELATED = (
    "time year people way day man thing world life hand part place case week company system work number night point "
    "home water story fact month book eye job business side house service power game line end law car city name the "
    "and of with from good new old great small important different run move believe bring write"
).split()
_SUFFIXES = re.compile(r"(?:ies|es|s|ied|ed|ing|ly|er|ers|ion|ions|ment|ments|al|ally|ive|ity|ous|ness)$")


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """A text's tokens as they are matched: what each is, and the word that it ends so far."""

    contents: list[str]
    """Each token as it is compared, see `content_of`."""
    words: list[str]
    """For each token the word up to its end, in lower case; empty for white space and punctuation."""
    left: list[str]
    """For each token the text before it, in lower case, at most the last 100 characters."""
    continues: list[bool]
    """Whether a token continues a word."""
    capitalised: list[bool]
    """Whether a token begins with a capital letter."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """What is compared with a text."""

    parse: Parse
    quoted: frozenset[str]
    """Words within quotation marks."""
    plain: tuple[str, ...]
    """Other words that carry meaning."""
    stems: frozenset[str]
    bigrams: frozenset[tuple[str, str]]
    pieces: frozenset[str]
    """Quoted text that is one token's content."""
    phrases: tuple[tuple[str, ...], ...]
    """Quoted phrases of two words and more."""
    excepted: frozenset[str]
    """Words of clauses that say where nothing is to be expected."""
    before: frozenset[str]
    """Words that are said to come before."""
    classes: tuple[re.Pattern[str], ...]
    """Kinds of tokens that are named."""
    about: tuple[float, ...]
    """What kind of sentence it is, for every token alike."""


@lru_cache(maxsize=4096)
def sentence_of(explanation: str) -> Sentence:
    """An explanation as it is compared with texts."""
    lowered = explanation.lower()
    quotes = [next(filter(None, found.groups())) for found in _QUOTE.finditer(lowered)]
    quoted = frozenset(word for quote in quotes for word in _WORD.findall(quote))
    outside = _WORD.findall(_QUOTE.sub(" ", lowered))
    plain = tuple(dict.fromkeys(word for word in outside if word not in _STOPWORDS and len(word) > 1))
    every = _WORD.findall(lowered)
    parse = read(explanation)
    clauses = [
        clause for clause in re.split(r"[;:.]|, (?:but|and|though|while)\b", lowered) if _EXCEPTION.search(clause)
    ]
    excepted = frozenset(word for clause in clauses[-2:] for word in _WORD.findall(clause)) - _STOPWORDS
    return Sentence(
        parse=parse,
        quoted=quoted,
        plain=plain,
        stems=frozenset(_stem(word) for word in (*quoted, *plain)),
        bigrams=frozenset(pairwise(every)),
        pieces=frozenset(content_of(quote).strip("-…. ") or content_of(quote) for quote in quotes),
        phrases=tuple(words for words in (tuple(_WORD.findall(quote)) for quote in quotes) if len(words) > 1),
        excepted=excepted,
        before=frozenset(w for found in _AFTER.finditer(lowered) for w in _WORD.findall(found[1])[:8])
        - {"a", "the", "of"},
        classes=tuple(tokens for names, tokens in _CLASSES if names.search(lowered)),
        about=(
            min(len(quoted), 8) / 8,
            float(parse.by_example),
            float(
                bool(re.search(r"\b(?:pieces?|fragments?|split|half|syllables?|start(?:ing)? of|endings?)\b", lowered))
            ),
            float(bool(re.search(r"\b(?:capital\w*|proper|names?|surnames?|title)\b", lowered))),
            float(bool(clauses)),
            float(bool(_HEDGE.search(lowered))),
            min(len(plain), 16) / 16,
        ),
    )


def text_of(tokens: Sequence[str]) -> Text:
    """A text's tokens as they are matched."""
    contents, words, left, continues, capitalised = [], [], [], [], []
    before, word = "", ""
    for token in tokens:
        folded = token.casefold()
        pieces = _WORD.findall(folded)
        glued = bool(word) and bool(folded) and (folded[0].isalnum() or folded[0] in "'’")
        ends_in_word = bool(folded) and folded[-1].isalnum()
        contents.append(content_of(token))
        continues.append(glued)
        capitalised.append(token.strip()[:1].isupper())
        left.append(before[-100:])
        if pieces and ends_in_word:
            word = word + folded if glued and len(pieces) == 1 else pieces[-1]
        elif folded:
            word = ""
        words.append(word if folded else "")
        before += folded
    return Text(contents, words, left, continues, capitalised)


class Vectors:
    """MiniLM's vectors of words and short phrases, the latest remembered."""

    def __init__(self, capacity: int = 60_000) -> None:
        self._vectors: OrderedDict[str, Array] = OrderedDict()
        self._capacity = capacity

    def remember(self, texts: Iterable[str]) -> None:
        """Embed what is not known yet, in one batch."""
        from neuronscope.llm.embeddings import embed, resolve_embeddings

        missing = list(dict.fromkeys(text for text in texts if text and text not in self._vectors))
        if missing:
            vectors = embed(resolve_embeddings("minilm"), missing, "the reader").astype(np.float32)
            self._vectors.update(zip(missing, vectors, strict=True))
        while len(self._vectors) > max(self._capacity, len(missing)):
            self._vectors.popitem(last=False)

    def stack(self, texts: Sequence[str]) -> Array:
        """The vectors of texts, zeros for an empty one."""
        self.remember(texts)
        zero = np.zeros(384, dtype=np.float32)
        return np.stack([self._vectors[text] if text else zero for text in texts])


def features(explanation: str, text: Text, vectors: Vectors) -> Array:
    """The features of each token of a text beside an explanation: `(n_tokens, N_FEATURES)`, about 0 to 1."""
    sentence = sentence_of(explanation)
    parse = sentence.parse
    out = np.zeros((len(text.contents), N_FEATURES), dtype=np.float32)
    if not text.contents:
        return out
    _literal(parse.conditions, text, out)
    for name, strength in parse.kinds:
        hits = np.array([_is_of_kind(name, content, capital) for content, capital in _kinds_of(text)])
        out[:, 3] = np.maximum(out[:, 3], hits * strength / 10)
    words = vectors.stack(text.words)
    if parse.topic:
        out[:, 4] = words @ vectors.stack([parse.topic])[0]
        out[:, 5] = np.maximum.accumulate(out[:, 4])
        out[:, 6] = np.cumsum(out[:, 4]) / np.arange(1, len(words) + 1)
    quoted = sorted(sentence.quoted - _STOPWORDS)
    if quoted:
        out[:, 7] = np.clip(((words @ vectors.stack(quoted).T).max(axis=1) - 0.3) / 0.7, 0, 1)
    if sentence.plain:
        cosines = np.clip((words @ vectors.stack(sentence.plain).T - 0.3) / 0.7, 0, 1)
        out[:, 8] = cosines.max(axis=1)
    recent = np.stack([words[max(0, i - 7) : i + 1].mean(axis=0) for i in range(len(words))])
    if parse.topic:
        topic, unrelated = vectors.stack([parse.topic])[0], vectors.stack(_UNRELATED)
        usual = unrelated @ topic
        out[:, 20] = (out[:, 4] - usual.mean()) / (usual.std() + 1e-6) / 6
        out[:, 21] = recent @ topic
    last, start = "", 0
    seen: set[str] = set()
    plain = frozenset(sentence.plain)
    for position, (content, word) in enumerate(zip(text.contents, text.words, strict=True)):
        key = word or content
        out[position, 9] = word in sentence.quoted
        out[position, 10] = word in plain
        out[position, 11] = bool(word) and _stem(word) in sentence.stems
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
    return [*_UNRELATED, sentence.parse.topic, *sorted(sentence.quoted - _STOPWORDS), *sentence.plain]


def _in_phrase(phrases: Sequence[tuple[str, ...]], text: Text, position: int) -> tuple[float, float]:
    """Whether a quoted phrase ends at a token, and whether one goes on there."""
    word = text.words[position]
    if not word or not phrases:
        return 0.0, 0.0
    left = [*_WORD.findall(text.left[position]), word][-8:]
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


def _literal(conditions: Sequence[Condition], text: Text, out: Array) -> None:
    """Columns 0 to 2: the strength of the most specific condition, whether one applies, whether as an exception."""
    rank = np.full(len(text.contents), -1)
    for condition in conditions:
        specific = (2 if condition.after else 0) + (1 if condition.text else 0) + (4 if condition.strength == 0 else 0)
        for position in range(len(text.contents)):
            if not _applies(condition, text, position):
                continue
            value = condition.strength / 10
            if specific > rank[position] or (specific == rank[position] and value > out[position, 0]):
                rank[position], out[position, 0] = specific, value
    out[:, 1] = rank >= 0
    out[:, 2] = rank >= 4


def _applies(condition: Condition, text: Text, position: int) -> bool:
    content, word, wanted = text.contents[position], text.words[position], condition.text
    left = text.left[position]
    if wanted:
        if condition.form == "ending":
            if not word.endswith(wanted):
                return False
        elif condition.form == "beginning":
            if not word.startswith(wanted):
                return False
        elif condition.form == "part":
            if content != wanted or not text.continues[position]:
                return False
        elif content != wanted and word != wanted:
            whole = left + content if text.continues[position] else f"{left.rstrip(' ')} {content}"
            if len(wanted) < 3 or not whole.endswith(wanted):
                return False
            outer = whole[: len(whole) - len(wanted)]
            if outer[-1:].isalnum() and wanted[0].isalnum():
                return False
            left = outer
    return not condition.after or any(_ends_with(left, before) for before in condition.after)


def _ends_with(left: str, before: str) -> bool:
    inside = len(before) > 1 and before[0] == "-" and before[1].isalpha()
    wanted = before[1:] if inside else before
    trimmed = left if wanted.isspace() else left.rstrip(" ")
    if not trimmed.endswith(wanted):
        return False
    outer = trimmed[: len(trimmed) - len(wanted)]
    return inside or not (wanted[:1].isalpha() and outer[-1:].isalpha())


def _kinds_of(text: Text) -> Iterable[tuple[str, bool]]:
    return zip(text.contents, text.capitalised, strict=True)


def _is_of_kind(name: str, content: str, capital: bool) -> bool:
    if name == "numbers":
        return content.isdigit()
    if name == "line breaks":
        return "\n" in content
    if name == "punctuation":
        return bool(content.strip()) and not any(character.isalnum() for character in content)
    return capital


@lru_cache(maxsize=65536)
def _stem(word: str) -> str:
    short = _SUFFIXES.sub("", word)
    return short if len(short) >= 3 else word
