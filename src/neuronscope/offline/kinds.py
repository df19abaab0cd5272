"""Kinds of tokens that can be told from their letters and what stands before them: `capitalised`, `comma`, `in quotes`.

Each is one name, and one column of what `kinds_of` tells of a text. All are causal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Place:
    """A token where it stands."""

    raw: str
    """As it is written, without spaces around it."""
    content: str
    """The same in lower case."""
    word: str
    """The word up to the token's end, in lower case; empty for white space and punctuation."""
    written: str
    """The word up to the token's end, as it is written."""
    left: str
    """The text before that, with the token's own spaces."""
    continues: bool
    position: int
    repeated: bool
    """Whether this word or mark occurred before."""


Test = Callable[[Place], bool]


def _words(*words: str) -> Test:
    every = frozenset(" ".join(words).split())
    return lambda place: place.word in every


def _mark(pattern: str) -> Test:
    compiled = re.compile(pattern)
    return lambda place: compiled.fullmatch(place.content) is not None


def _ends(suffixes: str, shortest: int) -> Test:
    every = tuple(suffixes.split())
    return lambda place: len(place.word) >= shortest and place.word.endswith(every) and place.word.isalpha()


def _within(opening: str, closing: str) -> Test:
    def test(place: Place) -> bool:
        start = place.left.rfind(opening)
        return start >= 0 and closing not in place.left[start + 1 :] and not place.raw.startswith(closing)

    return test


def _within_quotes(place: Place) -> bool:
    if "“" in place.left:
        start = place.left.rfind("“")
        if "”" not in place.left[start:] and not place.raw.startswith("”"):
            return True
    line = place.left.rpartition("\n\n")[2]
    return line.count('"') % 2 == 1 and '"' not in place.raw


def _is_opening(place: Place) -> bool:
    if place.raw[:1] == "“":
        return True
    before = place.left.rpartition("\n\n")[2]
    return place.raw[:1] in ('"', "`") and before.count(place.raw[0]) % 2 == 0


def _is_closing(place: Place) -> bool:
    if "”" in place.raw:
        return True
    before = place.left.rpartition("\n\n")[2]
    return '"' in place.raw and before.count('"') % 2 == 1


def _digits_before(left: str) -> int:
    return len(left) - len(left.rstrip("0123456789"))


def _run(place: Place) -> str:
    """The digits up to the token's end."""
    return place.left[len(place.left) - _digits_before(place.left) :] + place.raw if place.raw.isdigit() else ""


_SENTENCE_START = re.compile(r"(?:[.!?][\"')\]”]*\s|\n\s*[-*]?\s*)[\"'(\[“]*\s*\Z")
_IDENTIFIER = re.compile(r"[A-Za-z0-9_]*_[A-Za-z0-9_]*\Z")

_COMPARATIVES = frozenset(
    "more less better worse larger smaller greater higher lower older younger longer shorter earlier later fewer "
    "further stronger weaker wider bigger easier harder faster slower closer deeper rather other".split()
)
_GRADABLE = frozenset(
    "large small great high low old young long short early late few strong weak wide big hard fast slow close deep "
    "rich poor cheap warm cold light dark broad narrow thick thin soft loud quick near new simple tall heavy".split()
)
_FUNCTION_WORDS = frozenset(
    "the a an of in to for on with at by from into and or but nor yet because although while since if as when that "
    "which who whom whose this these those it its he she they we you i me him her them us my our your his their is "
    "are was were be been being am have has had do does did can could may might must shall should will would not no "
    "than then there so such all some any each every both few more most other between under over through during "
    "against".split()
)

KINDS: dict[str, Test] = {
    "capitalised": lambda p: not p.continues and p.raw[:1].isupper(),
    "mid capital": lambda p: (
        not p.continues
        and p.raw[:1].isupper()
        and p.left[-1:] == " "
        and p.left[-2:-1] != "\n"
        and not _SENTENCE_START.search(p.left[-8:])
    ),
    "all capitals": lambda p: len(p.written) > 1 and p.written.isalpha() and p.written.isupper(),
    "letter": lambda p: len(p.written) == 1 and p.written.isalpha(),
    "number": lambda p: p.raw.isdigit(),
    "one digit": lambda p: len(_run(p)) == 1,
    "two digits": lambda p: len(_run(p)) == 2,
    "three digits": lambda p: len(_run(p)) == 3,
    "four digits": lambda p: len(_run(p)) == 4,
    "year": lambda p: re.match(r"(?:1[0-9]|20)\d\d$", _run(p)) is not None,
    "digit of a year": lambda p: re.match(r"(?:1[0-9]|20)(?:\d\d?)?$", _run(p)) is not None,
    "last of a year": lambda p: re.match(r"(?:1[0-9]|20)\d\d$", _run(p)) is not None,
    "first digit": lambda p: p.raw.isdigit() and not p.left[-1:].isdigit(),
    "later digit": lambda p: p.raw.isdigit() and p.left[-1:].isdigit(),
    "ordinal": lambda p: p.content in ("st", "nd", "rd", "th") and p.left[-1:].isdigit(),
    "decade": lambda p: p.content in ("s", "'s") and re.search(r"\d0\Z", p.left) is not None,
    "long word": lambda p: len(p.word) >= 7 and p.word.isalpha(),
    "short word": lambda p: 0 < len(p.word) <= 2 and p.word.isalpha() and not p.continues,
    "underscore": lambda p: (
        _IDENTIFIER.search((p.left[-60:] + p.raw).rpartition(" ")[2]) is not None and bool(p.raw.strip("_") or p.raw)
    ),
    "dotted": lambda p: p.raw[:1].isidentifier() and re.search(r"\w\.\Z", p.left) is not None,
    "contraction": lambda p: (
        re.search(r"['’](?:t|s|re|ve|ll|d|m)\Z", p.word) is not None
        or (p.content in ("'t", "'s", "'re", "'ve", "'ll", "'d", "'m", "’s", "’t") and p.left[-1:].isalpha())
    ),
    "possessive": lambda p: p.content in ("'s", "’s", "s'"),
    "hyphenated": lambda p: re.search(r"[A-Za-z0-9][-–]\Z", p.left) is not None and p.raw[:1].isalnum(),
    "piece": lambda p: p.continues and p.raw.isalpha(),
    "comma": _mark(r",.?"),
    "period": _mark(r"\.+\W?"),
    "colon": _mark(":+"),
    "semicolon": _mark(";"),
    "hyphen": _mark("[-–—]+"),
    "opening parenthesis": _mark(r"\W?\(\W?"),
    "closing parenthesis": _mark(r"\W*\)\W*"),
    "square bracket": _mark(r"\W*[\[\]]\W*"),
    "any bracket": _mark(r"\W*[()\[\]{}]\W*"),
    "opening quotation mark": _is_opening,
    "closing quotation mark": _is_closing,
    "quotation mark": _mark("\\W*[\"“”‘`]\\W*|'"),
    "question mark": _mark(r"\W*[?!]\W*"),
    "slash": _mark("/+"),
    "line break": lambda p: "\n" in p.raw or "\n" in p.content,
    "space": lambda p: bool(p.content) and not p.content.strip(" ") and bool(p.raw),
    "symbol": _mark(r"[^\w\s.,;:'\"()\[\]?!-]+"),
    "punctuation": lambda p: bool(p.content.strip()) and not any(c.isalnum() for c in p.content),
    "article": _words("the a an"),
    "definite article": _words("the"),
    "indefinite article": _words("a an"),
    "preposition": _words(
        "of in to for on with at by from into through during against among between over under within across upon",
        "toward towards along about around behind beyond beneath beside near without onto off up out via per",
    ),
    "coordinator": _words("and or but nor yet"),
    "subordinator": _words(
        "because although though while since if as when whereas unless until whether that after before where"
    ),
    "personal pronoun": _words("i me we us you he him she her it they them"),
    "third person": _words("he him his she her hers it its they them their theirs"),
    "first person": _words("i me my mine we us our ours myself ourselves"),
    "second person": _words("you your yours yourself"),
    "relative pronoun": _words("which who whom whose that"),
    "possessive determiner": _words("my our your his her its their whose"),
    "demonstrative": _words("this that these those"),
    "reflexive": _words("myself yourself himself herself itself ourselves themselves"),
    "be": _words("is are was were be been being am"),
    "have": _words("have has had having"),
    "do": _words("do does did doing done"),
    "modal": _words("can could may might must shall should will would cannot"),
    "auxiliary": _words("can could may might must shall should will would do does did have has had is are was were be"),
    "negation": lambda p: (
        p.word in ("not", "no", "never", "none", "nothing", "neither", "nor", "cannot", "without")
        or p.word.endswith(("n't", "n’t"))
    ),
    "quantifier": _words("all some many most few several each every any both much more less enough various"),
    "number word": _words(
        "one two three four five six seven eight nine ten eleven twelve dozen twenty thirty forty fifty hundred",
        "thousand million billion half twice",
    ),
    "ordinal word": _words("first second third fourth fifth sixth seventh eighth ninth tenth last next"),
    "question word": _words("what when where who why how which whose"),
    "month": _words(
        "january february march april may june july august september october november december jan feb mar apr jun jul",
        "aug sep sept oct nov dec",
    ),
    "weekday": _words("monday tuesday wednesday thursday friday saturday sunday"),
    "adverb of frequency": _words(
        "always often usually sometimes rarely never frequently generally occasionally seldom commonly regularly"
    ),
    "comparative": lambda p: p.word in _COMPARATIVES or (p.word.endswith("er") and p.word[:-2] in _GRADABLE),
    "superlative": lambda p: (
        p.word in ("most", "least", "best", "worst") or (p.word.endswith("est") and len(p.word) > 5)
    ),
    "title of a person": _words(
        "mr mrs ms dr sir lord lady president king queen prince professor general captain minister senator saint st"
    ),
    "-ly": _ends("ly", 5),
    "-ing": _ends("ing", 5),
    "-ed": _ends("ed", 4),
    "plural": lambda p: len(p.word) > 3 and p.word.endswith("s") and not p.word.endswith(("ss", "us", "is")),
    "-tion": _ends("tion sion ment ness ity ance ence", 6),
    "function word": lambda p: p.word in _FUNCTION_WORDS,
    "verb of saying": _words(
        "say says said saying tell tells told state states stated claim claims claimed argue argues argued announce",
        "announced report reports reported suggest suggests suggested declare declared write writes wrote explain",
        "explains explained note notes noted add adds added admit admitted assert asserts asserted reply replied warn",
        "warned insist insisted",
    ),
    "any": lambda p: bool(p.content.strip()) and not (p.continues and p.raw.isalnum()),
    "word": lambda p: bool(p.word) and not p.continues and not p.raw.isdigit(),
    "first of a sentence": lambda p: (
        p.raw[:1].isalnum() and not p.continues and _SENTENCE_START.search(p.left[-12:]) is not None
    ),
    "first of a line": lambda p: bool(p.content.strip()) and (not p.left or p.left.rstrip(" ").endswith("\n")),
    "first of a text": lambda p: p.position < 3,
    "in square brackets": _within("[", "]"),
    "in parentheses": _within("(", ")"),
    "in quotes": _within_quotes,
    "repeated": lambda p: bool(p.word) and p.repeated,
}
"""Names of kinds, and whether a token is of one."""
PHRASES: dict[str, str] = {
    "capitalised": "capitalised words",
    "all capitals": "words in capital letters",
    "letter": "single letters standing alone",
    "number": "numbers in digits",
    "two digits": "two-digit numbers",
    "year": "years in digits",
    "later digit": "the later digits of a number",
    "decade": "decades in digits",
    "long word": "long words of seven letters or more",
    "underscore": "identifiers with an underscore",
    "dotted": "names after a dot in code",
    "contraction": "contractions with an apostrophe",
    "hyphenated": "the word after a hyphen",
    "piece": "later pieces of split words",
    "comma": "commas",
    "period": "full stops",
    "colon": "colons",
    "semicolon": "semicolons",
    "hyphen": "hyphens and dashes",
    "opening parenthesis": "opening parentheses",
    "closing parenthesis": "closing parentheses",
    "square bracket": "square brackets",
    "quotation mark": "quotation marks",
    "question mark": "question and exclamation marks",
    "slash": "slashes",
    "line break": "line breaks",
    "symbol": "symbols",
    "punctuation": "punctuation marks",
    "article": "articles",
    "preposition": "prepositions",
    "coordinator": "coordinating conjunctions",
    "subordinator": "subordinating conjunctions",
    "personal pronoun": "personal pronouns",
    "third person": "third-person pronouns",
    "first person": "first-person pronouns",
    "second person": "second-person pronouns",
    "relative pronoun": "relative pronouns",
    "possessive determiner": "possessive determiners",
    "demonstrative": "demonstratives",
    "reflexive": "reflexive pronouns",
    "be": "forms of the verb to be",
    "have": "forms of the verb to have",
    "do": "forms of the verb to do",
    "modal": "modal verbs",
    "negation": "negations",
    "quantifier": "quantifiers",
    "number word": "number words",
    "ordinal word": "ordinal words",
    "question word": "question words",
    "adverb of frequency": "adverbs of frequency",
    "comparative": "comparatives",
    "superlative": "superlatives",
    "title of a person": "titles of people",
    "verb of saying": "verbs of saying",
    "function word": "function words",
    "first of a sentence": "the first word of a sentence",
    "first of a line": "the first word of a line",
    "in square brackets": "text inside square brackets",
    "in parentheses": "text inside parentheses",
    "in quotes": "text inside quotation marks",
}
"""What an explanation calls a kind; those without a phrase are parts of others."""
AFTER_PHRASES: dict[str, str] = {
    "number": "the word after a number",
    "comma": "the word after a comma",
    "period": "the word after a full stop",
    "colon": "the word after a colon",
    "capitalised": "the word after a capitalised word",
    "all capitals": "the word after a word in capital letters",
    "article": "the word after an article",
    "preposition": "the word after a preposition",
    "coordinator": "the word after a coordinating conjunction",
    "personal pronoun": "the word after a personal pronoun",
    "possessive determiner": "the word after a possessive determiner",
    "be": "the word after a form of the verb to be",
    "have": "the word after a form of the verb to have",
    "modal": "the word after a modal verb",
    "negation": "the word after a negation",
    "number word": "the word after a number word",
    "month": "the word after the name of a month",
    "comparative": "the word after a comparative",
    "verb of saying": "the word after a verb of saying",
    "quotation mark": "the word after a quotation mark",
    "line break": "the word after a line break",
}
"""The same of what stands directly before a word."""
COLUMN = {name: number for number, name in enumerate(KINDS)}


def kinds_of(
    tokens: Sequence[str], contents: Sequence[str], words: Sequence[str], continues: Sequence[bool]
) -> NDArray[np.bool_]:
    """Of what kinds each token is: `(n_tokens, n_kinds)`, in the order of `KINDS`."""
    out = np.zeros((len(tokens), len(KINDS)), dtype=np.bool_)
    left, seen = "", set[str]()
    for position, token in enumerate(tokens):
        word = words[position]
        written = (left + token)[-len(word) :] if word else ""
        key = word or contents[position]
        place = Place(
            token.strip(" ") or token,
            contents[position],
            word,
            written,
            left[-400:] + token[: len(token) - len(token.lstrip(" "))],
            continues[position],
            position,
            key in seen,
        )
        if token:
            out[position] = [test(place) for test in KINDS.values()]
        seen.add(key)
        left += token
    return out
