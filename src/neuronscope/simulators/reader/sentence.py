"""A sentence about a neuron as the reader compares it with texts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from neuronscope.offline.english import LONGEST_QUOTE, Parse, read
from neuronscope.offline.tokens import WORD, content_of

Array = NDArray[np.float32]


PROBES = (
    "noun", "verb", "adjective", "adverb", "function", "name", "goes on",
    "person", "place", "group", "time", "living", "saying", "moving", "thinking", "feeling", "artifact", "quantity",
    "matter", "changing", "acting", "text", "idea", "quality", "state", "act",
)  # fmt: skip
"""What is told of a token by linear probes on SmolLM2's states: part of speech and broad meaning in its context."""
_QUOTE = re.compile(
    rf"\"([^\"\n]{{1,{LONGEST_QUOTE}}})\"|“([^”\n]{{1,{LONGEST_QUOTE}}})”|`([^`\n]{{1,{LONGEST_QUOTE}}})`"
)
STOPWORDS = frozenset(
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
_NAMED: tuple[re.Pattern[str], ...] = tuple(
    re.compile(rf"\b(?:{names})\b")
    for names in (
        "nouns?|terms?|things?|objects?|compounds?",
        "verbs?|actions?|participles?|doing|gerunds?|infinitives?",
        "adjectives?|descriptive|descriptions?|qualit(?:y|ies)|modifiers?|gradable",
        "adverbs?|intensif\\w+|degree|manner",
        "function words?|prepositions?|articles?|pronouns?|conjunctions?|particles?|auxiliar\\w+|determiners?",
        "(?:proper |first |last |family |place |foreign |rare )?names?|surnames?|proper nouns?|titles?|capitali[sz]ed",
        "first (?:piece|fragment|half|part|syllable)s?|openings?|beginnings?|starts?|incomplete|initial",
        "persons?|people|m[ae]n|women|leaders?|officials?|users?|workers?|characters?|authors?|players?|human",
        "places?|countr(?:y|ies)|cit(?:y|ies)|regions?|territor\\w+|geograph\\w+|rivers?|islands?|towns?|locations?",
        "groups?|organi[sz]ations?|compan(?:y|ies)|institutions?|governments?|teams?|part(?:y|ies)|courts?",
        "time|times|days?|years?|months?|dates?|weeks?|seasons?|periods? of|eras?|hours?",
        "animals?|plants?|species|birds?|fish|insects?|trees?|organisms?|biolog\\w+",
        "say|saying|said|speaking|speech|report\\w*|telling|communicat\\w+|claim\\w*|announc\\w*",
        "motion|moving|movement|travel\\w*|going|coming|carrying",
        "think\\w*|know\\w*|belie\\w+|percei\\w+|perception|seeing|learning|mental|cognit\\w+|understanding|consider\\w*",
        "feel\\w*|emotion\\w*|love|fear|anger|pleasure|liking",
        "tools?|machines?|vehicles?|buildings?|weapons?|devices?|instruments?|objects?|furniture|clothing",
        "numbers?|quantit(?:y|ies)|amounts?|measure\\w*|units?|counts?|percent\\w*",
        "substances?|materials?|chemical\\w*|foods?|body|medic\\w+|anatom\\w+|minerals?|metals?",
        "chang\\w+|becom\\w+|increas\\w+|decreas\\w+|grow\\w*|reduc\\w+",
        "acts?|mak\\w+|creat\\w+|giv\\w+|fight\\w*|war|attack\\w*|build\\w*",
        "texts?|books?|writings?|words? for speech|languages?|documents?|films?|music|titles?",
        "ideas?|concepts?|theor(?:y|ies)|abstract\\w*|thought",
        "qualit(?:y|ies)|propert(?:y|ies)|attributes?|size|degree|shape|colou?rs?",
        "states?|conditions?|status|disease\\w*|illness\\w*",
        "acts?|events?|activit(?:y|ies)|process\\w*|actions?|crimes?|sports?",
    )
)
"""What sentences call that of which each of `PROBES` tells."""
_SUFFIXES = re.compile(r"(?:ies|es|s|ied|ed|ing|ly|er|ers|ion|ions|ment|ments|al|ally|ive|ity|ous|ness)$")


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
    clauses: tuple[str, ...]
    """The words of each clause that says where something is to be expected."""
    preceding: str
    """The words that say what comes before."""
    named: Array
    """Which of `PROBES` the sentence speaks of, first of the token itself, then of what stands before it."""
    about: tuple[float, ...]
    """What kind of sentence it is, for every token alike."""

    @property
    def is_exact(self) -> bool:
        """Whether it has nothing but quotes and grammar."""
        return bool(self.parse.conditions) and not self.parse.topic and not self.parse.kinds


@lru_cache(maxsize=4096)
def sentence_of(explanation: str) -> Sentence:
    """An explanation as it is compared with texts."""
    lowered = explanation.lower()
    quotes = [next(filter(None, found.groups())) for found in _QUOTE.finditer(lowered)]
    quoted = frozenset(word for quote in quotes for word in WORD.findall(quote))
    outside = WORD.findall(_QUOTE.sub(" ", lowered))
    plain = tuple(dict.fromkeys(word for word in outside if word not in STOPWORDS and len(word) > 1))
    every = WORD.findall(lowered)
    parse = read(explanation)
    clauses = [
        clause for clause in re.split(r"[;:.]|, (?:but|and|though|while)\b", lowered) if _EXCEPTION.search(clause)
    ]
    excepted = frozenset(word for clause in clauses[-2:] for word in WORD.findall(clause)) - STOPWORDS
    return Sentence(
        parse=parse,
        quoted=quoted,
        plain=plain,
        stems=frozenset(stem(word) for word in (*quoted, *plain)),
        bigrams=frozenset(pairwise(every)),
        pieces=frozenset(content_of(quote).strip("-…. ") or content_of(quote) for quote in quotes),
        phrases=tuple(words for words in map(_phrase, quotes) if len(words) > 1),
        excepted=excepted,
        before=frozenset(w for found in _AFTER.finditer(lowered) for w in WORD.findall(found[1])[:8])
        - {"a", "the", "of"},
        classes=tuple(tokens for names, tokens in _CLASSES if names.search(lowered)),
        clauses=_clauses(lowered),
        preceding=" ".join(w for found in _AFTER.finditer(lowered) for w in _content_words(found[1])[:8]),
        named=_named(lowered),
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


def _phrase(quote: str) -> tuple[str, ...]:
    """A quote's words; one that ends in punctuation does not end in its last word."""
    return (*WORD.findall(quote), *([] if quote[-1:].isalnum() else [""]))


def _content_words(clause: str) -> list[str]:
    return [word for word in WORD.findall(clause) if word not in STOPWORDS and not word[0].isdigit()]


def _clauses(lowered: str) -> tuple[str, ...]:
    parts = [part for part in re.split(r"[;:,.()]", _AFTER.sub(" ", lowered)) if not _EXCEPTION.search(part)]
    return tuple(dict.fromkeys(filter(None, (" ".join(_content_words(part)[:12]) for part in parts))))[:6]


def _named(lowered: str) -> Array:
    """Which of `PROBES` a sentence speaks of: outside its clauses on what comes before, and within them."""
    before = " ".join(found[0] for found in _AFTER.finditer(lowered))
    itself = _QUOTE.sub(" ", _AFTER.sub(" ", lowered))
    return np.array([[bool(kind.search(part)) for kind in _NAMED] for part in (itself, before)], dtype=np.float32)


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """A word without its ending, roughly."""
    short = _SUFFIXES.sub("", word)
    return short if len(short) >= 3 else word
