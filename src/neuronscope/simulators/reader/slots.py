"""What a few words of a sentence name by their letters: quoted texts, beginnings and endings of words, lengths."""

from __future__ import annotations

import re
from dataclasses import dataclass

from neuronscope.offline.tokens import content_of

MARK = re.compile(r"⟦(\d+)⟧")
"""What a quote is replaced by: its number."""
_LITERAL_HEAD = re.compile(
    r"^(?:(?:any|the|an?|single|exact|precise|standalone|lone|lower-case|lowercase|english|plain|bare|both|either of|"
    r"either|one of|full|whole|concessive|connective|keyword|function|content)\s+)*"
    r"(?:words?|tokens?|terms?|strings?|lexical items?|items?|adverbs?|prepositions?|conjunctions?|pronouns?|verbs?|"
    r"nouns?|adjectives?|articles?|auxiliar(?:y|ies)|keywords?|marks?|particles?|determiners?|quantifiers?|"
    r"connectives?|complementi[sz]ers?|copulas?)\s+(?:forms?\s+)?"
    r"(?P<words>(?!that\b.|which\b|of\b.|in\b.|with\b|whose\b|where\b)[a-z][\w'’-]*"
    r"(?:(?:,? (?:and|or)|,|/) [a-z][\w'’-]*)*)"
    r"(?=$|[,.(]| itself| alone| regardless| in any| wherever| whatever)"
)
_END = re.compile(
    r"\b(?:end(?:ing|ings|s)?|suffix(?:es|ed)?|finish(?:es|ing)?|terminat\w+|word-final|clos(?:es|ing|e)|carrying|built|"
    r"derived|derivations|formed|(?:last|final) (?:\w+ )?(?:letters?|part|piece|syllable))\b"
)
_BEGIN = re.compile(
    r"\b(?:start(?:s|ing)?|begin(?:s|ning)?|prefix(?:es|ed)?|open(?:s|ing)?|initial|commenc\w+|at the front|"
    r"first (?:\w+ )?(?:letters?|part|syllable))\b"
)
_BARE_AFFIX = re.compile(r"(?<![\w-])(?:-(?P<suffix>[a-z]{1,6})(?![\w-])|(?P<prefix>[a-z]{1,6})-(?![\w-]))")
_SPELLED = re.compile(r"\b((?:[a-z]-){1,6}[a-z])\b")
_LETTERS = re.compile(r"\b(?:letters?(?: are)?|string|with|in|as|by|are) ([a-z]{2,5})\b(?:$|[,.;]| as\b| at\b)")
_NUMBERS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12, "thirteen": 13, "fifteen": 15,
}  # fmt: skip
_COUNT = rf"(?:an? )?(\d{{1,3}}(?!\d)|{'|'.join(_NUMBERS)})"
_LONGER = re.compile(
    rf"\b(?:at least|no (?:fewer|less|shorter) than|minimum of|not less than) {_COUNT}|{_COUNT}\+|"
    rf"{_COUNT}(?: letters?| characters?)?,? (?:or|and) (?:more|longer|beyond|up)|{_COUNT} letters? long or longer"
)
_LONGER_THAN = re.compile(rf"\b(?:more|longer|greater) than {_COUNT}|\bover {_COUNT}")
_SHORTER = re.compile(
    rf"\b(?:at most|up to|no (?:more|longer) than|maximum of|(?:does|do) not exceed) {_COUNT}|"
    rf"{_COUNT}(?:[ -]letters?| characters?)?(?: words?)? or (?:fewer|less|shorter)"
)
_SHORTER_THAN = re.compile(rf"\b(?:fewer|less|shorter) than {_COUNT}|\bunder {_COUNT}")
_LENGTH = re.compile(r"\b(?:letters?|characters?|length|long|short|longer|shorter|words?)\b")
PRONOUNS = frozenset("it its one that which the an this these those any some other".split())


@dataclass(frozen=True, slots=True)
class Slot:
    """What a few words of a sentence name: literal texts, beginnings and endings of words, or words to compare."""

    literals: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    shortest: int = 0
    """Letters that a word has at least."""
    longest: int = 0
    """Letters that a word has at most, 0 for any number."""
    words: str = ""
    """The rest, to be known as a kind or compared by meaning."""

    @property
    def is_literal(self) -> bool:
        """Whether letters decide."""
        return bool(self.literals or self.suffixes or self.prefixes or self.shortest or self.longest)


def quoted_in(text: str, quotes: list[str]) -> list[str]:
    """The quotes that a text has, as tokens are compared."""
    return [content_of(quotes[int(number)]) for number in MARK.findall(text)]


def slot_of(text: str, quotes: list[str]) -> Slot:
    """What a text names, its quotes given."""
    text = text.strip(" ,.:()")
    literals = tuple(quoted_in(text, quotes))
    bare = re.sub(r"\s+", " ", MARK.sub(" ", text)).strip(" ,.:()")
    shortest, longest = _lengths(bare)
    suffixes, prefixes, literals = _affixes(text, bare, literals)
    if not (literals or suffixes or prefixes or shortest or longest):
        named = _LITERAL_HEAD.match(bare)
        literals = tuple(w for w in re.split(r",? (?:and|or) |, |/", named["words"]) if w) if named else ()
    return Slot(literals, suffixes, prefixes, shortest, longest, bare)


def _lengths(bare: str) -> tuple[int, int]:
    """Letters of a word, at least and at most."""
    if not _LENGTH.search(bare):
        return 0, 0
    for expression, extra, longest in (
        (_LONGER, 0, False), (_LONGER_THAN, 1, False), (_SHORTER, 0, True), (_SHORTER_THAN, -1, True),
    ):  # fmt: skip
        if found := expression.search(bare):
            said = next(filter(None, found.groups()))
            count = (_NUMBERS.get(said) or int(said)) + extra
            return (0, count) if longest else (count, 0)
    return 0, 0


def _affixes(
    text: str, bare: str, literals: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Endings and beginnings of words that are named, and the literals that are neither."""
    found = list(_BARE_AFFIX.finditer(text))
    suffixes = [f["suffix"] for f in found if f["suffix"]] + [q[1:] for q in literals if re.fullmatch(r"-[a-z]+", q)]
    prefixes = [f["prefix"] for f in found if f["prefix"]] + [q[:-1] for q in literals if re.fullmatch(r"[a-z]+-", q)]
    rest = tuple(q for q in literals if not re.fullmatch(r"-[a-z]+|[a-z]+-", q))
    if suffixes or prefixes:
        return tuple(suffixes), tuple(prefixes), rest
    ends, begins = _END.search(bare), _BEGIN.search(bare)
    if not (ends or begins):
        return (), (), literals
    spelled = [f[1].replace("-", "") for f in _SPELLED.finditer(bare)] or [f[1] for f in _LETTERS.finditer(bare)]
    parts = [q for q in rest if re.fullmatch(r"[a-z]{1,8}", q)] or [p for p in spelled if p not in PRONOUNS]
    left = tuple(q for q in rest if q not in parts)
    return (tuple(parts), (), left) if ends else ((), tuple(parts), left)
