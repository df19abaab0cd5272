r"""Conditions as English: the part of it that the hybrid simulator reads, and sentences that it reads back exactly.

It reads

- quoted words, word parts and phrases: `activates on "predict", "oracle"`; a part that continues a word has a hyphen in
  front, `"-ness"`; ` ending in "ness"` and `starting with "un"` speak of whole words;
- what comes before: `"which" after "of" or "in"`, `the word after "the"`;
- how strongly, for what follows up to the next such word: very strongly, strongly, moderately, weakly, faintly, barely;
- exceptions: `but not "only"`, `except after "the"`; what would come after a token (`before "x"`) is left out: a neuron
  cannot see it;
- kinds of tokens: numbers, punctuation, capitalised words, line breaks;
- everything else, as a topic for the semantic channel: `words for colours`.

Within quotes `\n` is a line break, `\t` a tab, `\\` a backslash and `\-` a hyphen that does not mark a part.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby

from neuronscope.offline.conditions import DEFAULT_STRENGTH, STRENGTH_LEVELS, Condition
from neuronscope.offline.tokens import content_of

STRENGTH_WORDS = ("very strongly", "strongly", "moderately", "weakly", "faintly", "barely")
STRENGTHS: tuple[tuple[str, float], ...] = tuple(zip(STRENGTH_WORDS, STRENGTH_LEVELS, strict=True))
"""The strength words that are written, with what they mean on the scale 0-10."""

LONGEST_QUOTE = 80
"""A longer text between quotation marks is no quoted token; so a stray mark does not swallow half a sentence."""

LONGEST_EXPLANATION = 20_000
"""Characters of an explanation that are read; a sentence of 60 words has some 400."""


@dataclass(frozen=True, slots=True)
class Parse:
    """Everything that an explanation says."""

    conditions: tuple[Condition, ...] = ()
    """Quoted conditions, in the order of the text."""
    kinds: tuple[tuple[str, float], ...] = ()
    """Names of `KINDS` that are spoken of, with their strengths."""
    topic: str = ""
    """The words that remain when quotes, strengths and the grammar's own words are taken away."""
    topic_strength: float = DEFAULT_STRENGTH
    """How strongly the neuron activates on the topic."""
    by_example: bool = False
    """Whether the quoted words are marked as examples ("such as", "like") of something wider."""


KINDS: dict[str, re.Pattern[str]] = {
    "numbers": re.compile(r"\b(?:numbers|digits?|numerals?|numerical|numeric|years|dates)\b"),
    "punctuation": re.compile(r"\bpunctuation\b"),
    "capitalised": re.compile(r"\bcapitali[sz](?:ed|ation)\b|\bcapital letters?\b|\bproper (?:nouns?|names?)\b"),
    "line breaks": re.compile(r"\b(?:line ?breaks?|newlines?|new lines?)\b"),
}
"""Kinds of tokens that are named without quoting any."""

_LENGTH = f"{{1,{LONGEST_QUOTE}}}"
_QUOTED = re.compile(
    rf"\"(?P<straight>[^\"\n]{_LENGTH})\"|“(?P<curly>[^”\n]{_LENGTH})”|`(?P<tick>[^`\n]{_LENGTH})`"
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
_SEPARATE_ITEM = re.compile(r"[.;]\s|\b(?:on|words?|any)\b|\btokens?\s*$")
_AFTER = re.compile(r"\b(?:after|following|follows?|preceded by|succeeding)\b")
_UNSEEN = re.compile(r"\b(?:before|followed by|precedes?|preceding|in front of)\b")
_EXCEPT = re.compile(
    r"\b(?:not(?! (?:only|just|merely)\b)|except(?: for)?|excluding|rather than|unlike|never|without)\b"
)
_ENDING = re.compile(r"\b(?:ending|ends?|suffix(?:es)?)(?: (?:in|with))?(?: (?:the|a|letters?|suffix))*\W*$")
_BEGINNING = re.compile(
    r"\b(?:starting|starts?|beginning|begins?|prefix(?:es)?)(?: with)?(?: (?:the|a|letters?|prefix))*\W*$"
)
_EXAMPLES = re.compile(r"\b(?:such as|like|including|includes?|e\.g\.|for example|similar|related|and so on)\b")
_LIST_GLUE = frozenset({"", "and", "or", "and or", "as well as"})
"""What stands between the items of a list, without commas and slashes."""
_OR_GLUE = frozenset({"", "or"})
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
    partly mildly slightly faint moderate except excluding
    """.split()
)
_WORD = re.compile(r"[^\W\d_][\w'-]*")
_AFFIXES: dict[str, str] = {"ending": "words ending in ", "beginning": "words starting with "}
_ESCAPE = re.compile(r"\\([\\nt-])")
_MEANING = {"\\": "\\", "n": "\n", "t": "\t", "-": "-"}


@lru_cache(maxsize=4096)
def read(explanation: str) -> Parse:
    """Read what an explanation says; text outside the grammar becomes the topic, text beyond the limit nothing."""
    conditions: list[Condition] = []
    outside: list[str] = []
    role, excepted = "item", False
    strength = DEFAULT_STRENGTH
    after_quoted = False
    for gap, quoted in _segments(explanation[:LONGEST_EXPLANATION]):
        plain = gap.lower()
        outside.append(gap)
        continues = after_quoted and bool(conditions) and _words(plain, ",/") in _LIST_GLUE
        if _CLAUSE_END.search(plain) and not continues:
            strength = DEFAULT_STRENGTH
        for found in _STRENGTH.finditer(plain):
            strength = _STRENGTH_OF[str(found.lastgroup)]
        if quoted is None:
            break
        if not (continues and (role != "after" or _words(plain, "/") in _OR_GLUE)):
            role, excepted = _role(re.split(_CLAUSE_END, plain)[-1])
        meant = 0.0 if excepted else strength
        if role == "after":
            _come_after(conditions, _content(quoted), meant, gap=plain if after_quoted else None)
        elif role != "unseen":
            conditions.append(_condition(quoted, role, meant))
        after_quoted = True
    remainder = " ".join(outside)
    lowered = remainder.lower()
    kinds = tuple(
        (name, _strength_near(lowered, pattern)) for name, pattern in KINDS.items() if pattern.search(lowered)
    )
    by_example = _EXAMPLES.search(lowered) is not None
    return Parse(tuple(conditions), kinds, *_topic(remainder), by_example)


def quotes(explanation: str) -> list[str]:
    """What an explanation quotes, in the order of the text."""
    return [quoted for _, quoted in _segments(explanation[:LONGEST_EXPLANATION]) if quoted is not None]


def write(conditions: Iterable[Condition], opening: str = "This neuron activates") -> str:
    """Write one sentence that `read` reads back: strongest first, grouped by strength word; exceptions last.

    Strengths become the nearest that there is a word for. Texts must be `quotable`.
    """
    ordered = sorted(conditions, key=lambda condition: -_written_strength(condition))
    parts = []
    for strength, members in groupby(ordered, key=_written_strength):
        phrases = [phrase(member) for member in sorted(members, key=lambda member: member.form in _AFFIXES)]
        if strength:
            parts.append(f"{nearest_strength(strength)[0]} on {_join(phrases)}")
        else:
            parts.append(f"but not {_join(phrases, separator=', not ', last=' and not ')}")
    return f"{opening} {'; '.join(parts)}."


def append(explanation: str, conditions: Iterable[Condition]) -> str:
    """The explanation in its own words, with conditions at its end."""
    return write(conditions, opening=f"{explanation.rstrip(' .')}; it also activates")


def quotable(text: str) -> bool:
    """Whether a token's text can be quoted, read back and read by people: no half characters, nothing invisible."""
    return (
        bool(text.strip(" "))
        and "\ufffd" not in text
        and (text.isprintable() or not text.strip("\n"))
        and "`" not in text
        and len(_escaped(text)) < LONGEST_QUOTE
    )


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


def _words(gap: str, separators: str) -> str:
    """The text between two quotes without separators, a space between its words."""
    return " ".join(gap.translate(dict.fromkeys(map(ord, separators), " ")).split())


def _in_last_clause(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The first match that no full stop or semicolon follows."""
    return pattern.search(text, max(text.rfind("."), text.rfind(";")) + 1)


def _role(clause: str) -> tuple[str, bool]:
    """What the next quote is (an item, what comes before one, unseen, a form), and whether it is excepted."""
    matches = {
        "after": _in_last_clause(_AFTER, clause),
        "unseen": _in_last_clause(_UNSEEN, clause),
        "ending": _ENDING.search(clause),
        "beginning": _BEGINNING.search(clause),
    }
    start, role = max(((match.start(), role) for role, match in matches.items() if match), default=(-1, "item"))
    exception = _in_last_clause(_EXCEPT, clause)
    if exception and exception.start() > start:
        return ("item", True) if role in ("after", "unseen") else (role, True)
    return role, exception is not None


def _come_after(conditions: list[Condition], before: str, strength: float, *, gap: str | None) -> None:
    """Attach what comes before to the last condition, or make a condition on any token that follows it.

    An exception (strength 0) to a condition that activates leaves that as it is and is added to it.
    """
    opening = None if gap is None else gap[: found.start()] if (found := _in_last_clause(_AFTER, gap)) else gap
    if not conditions or opening is None or _SEPARATE_ITEM.search(opening):
        conditions.append(Condition("", (before,), strength))
    elif strength == 0 and conditions[-1].strength > 0:
        conditions.append(replace(conditions[-1], after=(before,), strength=0.0))
    else:
        conditions[-1] = replace(conditions[-1], after=(*conditions[-1].after, before))


def _condition(quoted: str, role: str, strength: float) -> Condition:
    content = _content(quoted)
    if role in ("ending", "beginning"):
        return Condition(content.strip("-") or content, (), strength, "ending" if role == "ending" else "beginning")
    if _marks_part(quoted.strip(" ")):
        return Condition(content[1:], (), strength, "part")
    return Condition(content, (), strength)


def _marks_part(text: str) -> bool:
    """Whether a leading hyphen stands for the beginning of a word."""
    return len(text) > 1 and text[0] == "-" and text[1].isalpha()


def _content(quoted: str) -> str:
    """The quoted text as tokens are compared, line breaks real."""
    return content_of(_ESCAPE.sub(lambda found: _MEANING[found[1]], quoted))


def _written_strength(condition: Condition) -> float:
    return nearest_strength(condition.strength)[1] if condition.strength > 0 else 0.0


def phrase(condition: Condition) -> str:
    """One condition in words; the texts that come before are joined by "or", since a comma begins the next one."""
    if condition.form == "kind":
        return condition.text
    after = f" after {' or '.join(_quote(_escaped(text)) for text in condition.after)}" if condition.after else ""
    if not condition.text:
        return f"any token{after}"
    shown = _escaped(condition.text)
    if condition.form == "part":
        shown = f"-{shown}"
    elif condition.form == "word" and _marks_part(shown):
        shown = f"\\{shown}"
    return f"{_AFFIXES.get(condition.form, '')}{_quote(shown)}{after}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")


def _quote(shown: str) -> str:
    return f'"{shown}"' if '"' not in shown else f"`{shown}`"


def _join(parts: Sequence[str], separator: str = ", ", last: str = " and ") -> str:
    return last.join([separator.join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _topic(remainder: str) -> tuple[str, float]:
    """What is neither quoted nor grammar, and the strength word of the first clause that has something of it."""
    words: list[str] = []
    strength = DEFAULT_STRENGTH
    for clause in re.split(r"[;.]", remainder):
        found = [word for word in _WORD.findall(clause) if word.lower() not in _GRAMMAR_WORDS and len(word) > 2]
        if found and not words:
            strength = _first_strength(clause.lower())
        words += found
    return " ".join(words), strength


def _strength_near(text: str, pattern: re.Pattern[str]) -> float:
    """The strength word before a kind of token, in the same clause."""
    found = pattern.search(text)
    return _first_strength(re.split(r"[;.]", text[: found.start()])[-1]) if found else DEFAULT_STRENGTH


def _first_strength(text: str) -> float:
    found = _STRENGTH.search(text)
    return _STRENGTH_OF[str(found.lastgroup)] if found else DEFAULT_STRENGTH
