"""What an explanation says, as conditions on tokens: the part of English that the hybrid simulator reads.

The same module writes sentences, so that whatever the offline agents write, the simulator reads back exactly. It reads

- quoted words, word parts and phrases: `fires on "predict", "oracle"`; a part that continues a word has a hyphen in
  front, `"-ness"`; ` ending in "ness"` and `starting with "un"` speak of whole words;
- what comes before: `"which" after "of" or "in"`, `the word after "the"`;
- how strongly, for what follows up to the next such word: very strongly, strongly, moderately, weakly, faintly, barely;
- exceptions: `but not "only"`; what would come after a token (`before "x"`) is left out: a neuron cannot see it;
- kinds of tokens: numbers, punctuation, capitalised words, line breaks;
- everything else, as a topic for the semantic channel: `words for colours`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Literal

Form = Literal["word", "part", "ending", "beginning"]

STRENGTHS: tuple[tuple[str, float], ...] = (
    ("very strongly", 10.0),
    ("strongly", 6.0),
    ("moderately", 3.6),
    ("weakly", 2.2),
    ("faintly", 1.3),
    ("barely", 0.8),
)
"""The strength words that are written, with what they mean on the scale 0-10; each is 0.6 of the one before."""

DEFAULT_STRENGTH = 6.0
"""What a sentence without a strength word means."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that a token can be, and how strongly the neuron then fires."""

    text: str
    """Lower-case text of the token, word or phrase; empty for any token (that comes after `after`)."""
    after: tuple[str, ...] = ()
    """Lower-case texts, one of which must come directly before; empty for anything."""
    strength: float = DEFAULT_STRENGTH
    """On the scale 0-10; 0 for an exception."""
    form: Form = "word"
    """A whole token or word, a part that continues a word, or a word's ending or beginning."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything that an explanation says."""

    conditions: tuple[Condition, ...] = ()
    """Quoted conditions, in the order of the text."""
    kinds: tuple[tuple[str, float], ...] = ()
    """Names of `KINDS` that are spoken of, with their strengths."""
    topic: str = ""
    """The words that remain when quotes, strengths and the grammar's own words are taken away."""
    topic_strength: float = DEFAULT_STRENGTH
    """How strongly the neuron fires on the topic."""
    by_example: bool = False
    """Whether the quoted words are said to be examples ("such as", "like") of something wider."""


KINDS: dict[str, re.Pattern[str]] = {
    "numbers": re.compile(r"\b(?:numbers|digits?|numerals?|numerical|numeric|years|dates)\b"),
    "punctuation": re.compile(r"\bpunctuation\b"),
    "capitalised": re.compile(r"\bcapitali[sz](?:ed|ation)\b|\bcapital letters?\b|\bproper (?:nouns?|names?)\b"),
    "line breaks": re.compile(r"\b(?:line ?breaks?|newlines?|new lines?)\b"),
}
"""Kinds of tokens that are named without quoting any."""

_QUOTED = re.compile(
    r"\"(?P<straight>[^\"\n]{1,80})\"|“(?P<curly>[^”\n]{1,80})”|`(?P<tick>[^`\n]{1,80})`"
    r"|(?<!\w)['‘’](?P<single>[^'’\n]{1,60})['’](?!\w)"
)
_STRENGTH = re.compile(
    r"\b(?:(?P<most>most strongly|very strongly|extremely|maximally|most|strongest|highest|peaks?|intensely)"
    r"|(?P<strong>strongly|strong|robustly|highly|heightened)"
    r"|(?P<moderate>moderately|moderate|somewhat|partly)"
    r"|(?P<weak>less strongly|weakly|weak|mildly|less)"
    r"|(?P<faint>faintly|faint|slightly|occasionally)"
    r"|(?P<bare>barely|minimally|hardly))\b"
)
_STRENGTH_OF = dict(
    zip(("most", "strong", "moderate", "weak", "faint", "bare"), (s for _, s in STRENGTHS), strict=True)
)
_AFTER = re.compile(r"\b(?:after|following|follows?|preceded by|succeeding)\b[^.;]*$")
_UNSEEN = re.compile(r"\b(?:before|followed by|precedes?|preceding|in front of)\b[^.;]*$")
_EXCEPT = re.compile(r"\b(?:not|except(?: for)?|excluding|rather than|unlike|never|without)\b[^.;]*$")
_ENDING = re.compile(r"\b(?:ending|ends?|suffix(?:es)?)(?: (?:in|with))?(?: (?:the|a|letters?|suffix))*\W*$")
_BEGINNING = re.compile(
    r"\b(?:starting|starts?|beginning|begins?|prefix(?:es)?)(?: with)?(?: (?:the|a|letters?|prefix))*\W*$"
)
_EXAMPLES = re.compile(r"\b(?:such as|like|including|includes?|e\.g\.|for example|similar|related|and so on)\b")
_LIST_GLUE = re.compile(r"^[\s,/]*(?:(?:and|or|and/or|as well as)\b)?[\s,/]*$")
_OR_GLUE = re.compile(r"^[\s/]*(?:or\b)?[\s/]*$")
_CLAUSE_END = re.compile(r"[;.]\s|[;.]$|\)")

_GRAMMAR_WORDS = frozenset(
    """
    this neuron neurons activates activate activated activation activations fires fire firing responds respond
    response reacts strongly very most moderately weakly faintly strong weak slightly especially particularly
    specifically primarily mainly only often usually typically such like including include includes token tokens word
    words phrase phrases term terms text texts part parts fragment fragments character characters appears appear
    appearing occurs occur occurring used using use context contexts contain contains containing mention mentions
    mentioned mentioning refers referring refer related associated presence present similar other various different
    specific certain any within when whenever where that which who whose what how the and for with from into onto over
    under after before following followed preceded ending starting beginning begins ends suffix prefix letter letters
    highest high level levels encounters encounter encountering encountered sees detects detecting example examples
    instance instances excerpt excerpts sentence sentences it its is are was were be been being has have had do does
    not no nor but or if as at by of on in to a an their them they these those there then than also both each either
    every all some more less one two first last new line lines break breaks newline newlines punctuation capitalised
    capitalized capital number numbers digit digits numeral numerals mark marks itself right directly directly
    immediately barely hardly minimally occasionally extremely maximally intensely robustly highly heightened somewhat
    partly mildly slightly faint moderate
    """.split()
)
_WORD = re.compile(r"[^\W\d_][\w'-]*")


@lru_cache(maxsize=4096)
def read(explanation: str) -> Reading:
    """Read what an explanation says; text outside the grammar becomes the topic."""
    conditions: list[Condition] = []
    outside: list[str] = []
    list_role: str = "item"
    strength = DEFAULT_STRENGTH
    gap_is_list = False
    for gap, quoted in _segments(explanation):
        plain = gap.lower()
        outside.append(gap)
        continues = bool(conditions) and _LIST_GLUE.match(plain) is not None and gap_is_list
        if _CLAUSE_END.search(plain) and not continues:
            strength = DEFAULT_STRENGTH
        for found in _STRENGTH.finditer(plain):
            strength = _STRENGTH_OF[str(found.lastgroup)]
        if quoted is None:
            break
        clause = re.split(_CLAUSE_END, plain)[-1]
        if not (continues and (list_role != "after" or _OR_GLUE.match(plain))):
            list_role = _role(clause)
        if list_role == "after":
            _come_after(conditions, _content(quoted), strength, gap=plain, joined=gap_is_list)
        elif list_role != "unseen":
            conditions.append(_condition(quoted, list_role, strength))
        gap_is_list = True
    remainder = _QUOTED.sub(" ", " ".join(outside))
    lowered = remainder.lower()
    kinds = tuple(
        (name, _strength_near(lowered, pattern)) for name, pattern in KINDS.items() if pattern.search(lowered)
    )
    topic = " ".join(w for w in _WORD.findall(remainder) if w.lower() not in _GRAMMAR_WORDS and len(w) > 2)
    by_example = _EXAMPLES.search(lowered) is not None
    return Reading(tuple(conditions), kinds, topic, _first_strength(lowered), by_example)


def write(conditions: Iterable[Condition], opening: str = "This neuron activates") -> str:
    """Write one sentence that `read` reads back: strongest first, grouped by strength word."""
    ordered = sorted(conditions, key=lambda c: -nearest_strength(c.strength)[1])
    groups = []
    for (word, _), members in groupby(ordered, key=lambda c: nearest_strength(c.strength)):
        groups.append(f"{word} on {_join([_phrase(member) for member in members])}")
    return f"{opening} {'; '.join(groups)}."


def nearest_strength(value: float) -> tuple[str, float]:
    """The strength word nearest a value of the scale 0-10, on a logarithmic scale."""
    return min(STRENGTHS, key=lambda s: max(s[1] / max(value, 1e-6), value / s[1]))


def _segments(explanation: str) -> Iterator[tuple[str, str | None]]:
    """The text before each quote, and the quote; last, the text after the last quote and None."""
    end = 0
    for found in _QUOTED.finditer(explanation):
        yield explanation[end : found.start()], found.group(str(found.lastgroup))
        end = found.end()
    yield explanation[end:], None


def _role(clause: str) -> str:
    """What the quote after this text is: an item, what comes before an item, unseen, an exception, a form."""
    matches = {
        "after": _AFTER.search(clause),
        "unseen": _UNSEEN.search(clause),
        "except": _EXCEPT.search(clause),
        "ending": _ENDING.search(clause),
        "beginning": _BEGINNING.search(clause),
    }
    found = [(match.start(), role) for role, match in matches.items() if match]
    return max(found)[1] if found else "item"


def _come_after(conditions: list[Condition], before: str, strength: float, *, gap: str, joined: bool) -> None:
    """Attach what comes before to the last condition, or make a condition on any token that follows it."""
    follows_item = joined and conditions and not re.search(r"[;.]\s", gap) and not re.search(r"\bon\b|\bwords?\b", gap)
    if follows_item and conditions[-1].strength:
        last = conditions.pop()
        conditions.append(Condition(last.text, (*last.after, before), last.strength, last.form))
    else:
        conditions.append(Condition("", (before,), strength))


def _condition(quoted: str, role: str, strength: float) -> Condition:
    content = _content(quoted)
    if role == "except":
        return Condition(content, (), 0.0)
    if role in ("ending", "beginning"):
        return Condition(content.strip("-"), (), strength, "ending" if role == "ending" else "beginning")
    if len(content) > 1 and content[0] == "-" and content[1].isalpha():
        return Condition(content[1:], (), strength, "part")
    return Condition(content, (), strength)


def _content(quoted: str) -> str:
    """The quoted text as tokens are compared: lower case, line breaks real, no space around."""
    text = quoted.replace("\\n", "\n").replace("\\t", "\t").casefold()
    return text.strip(" ") or text


def _phrase(condition: Condition) -> str:
    after = f" after {_join([_quote(text) for text in condition.after], 'or')}" if condition.after else ""
    if not condition.text:
        return f"any token{after}"
    lead = {"word": "", "part": "", "ending": "words ending in ", "beginning": "words starting with "}[condition.form]
    hyphen = "-" if condition.form == "part" else ""
    return f"{lead}{_quote(hyphen + condition.text)}{after}"


def _quote(text: str) -> str:
    shown = text.replace("\n", "\\n").replace("\t", "\\t")
    return f'"{shown}"' if '"' not in shown else f"`{shown}`"


def _join(parts: Sequence[str], word: str = "and") -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {word} {parts[-1]}"


def _strength_near(text: str, pattern: re.Pattern[str]) -> float:
    """The strength word before a kind of token, in the same clause."""
    found = pattern.search(text)
    return _first_strength(re.split(r"[;.]", text[: found.start()])[-1]) if found else DEFAULT_STRENGTH


def _first_strength(text: str) -> float:
    found = _STRENGTH.search(text)
    return _STRENGTH_OF[str(found.lastgroup)] if found else DEFAULT_STRENGTH
