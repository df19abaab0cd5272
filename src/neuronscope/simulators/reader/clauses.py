"""A sentence as clauses: what the token is, what stands before it, in which phrase and in what text it counts.

    "to" in the phrase "according to"          literal "to", phrase "according to"
    the word after a comma                      any word, after: "a comma"
    long words in texts about mathematics       "long words", topic "mathematics"

Sentences are compared with wordings by several people (`patterns.json`), in which `{T}` is the target, `{A}` what
stands before it, `{P}` a quoted phrase, `{G}` a topic, `{X}` examples, `{N}` exceptions. The most specific one that
fits is peeled off, relation by relation; what is left of a slot is known as a kind of tokens or compared by meaning.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

from neuronscope.offline.english import LONGEST_EXPLANATION, LONGEST_QUOTE
from neuronscope.offline.tokens import content_of
from neuronscope.simulators.reader.slots import MARK, PRONOUNS, Slot, quoted_in, slot_of

_QUOTE = re.compile(
    rf"\"([^\"\n]{{1,{LONGEST_QUOTE}}})\"|“([^”\n]{{1,{LONGEST_QUOTE}}})”|`([^`\n]{{1,{LONGEST_QUOTE}}})`"
    r"|(?<!\w)['‘’]([^'’\n]{1,60})['’](?!\w)"
)
_BRACKETS = re.compile("[⟦⟧]")
"""What quotes are replaced by has these."""
_FILLER = re.compile(
    r"\b(?:only|just|right|directly|immediately|straight|always|usually|often|mostly|mainly|typically|especially|"
    r"particularly|very|exactly|strongly|weakly|strongest|most|chiefly|primarily|sometimes|specifically|commonly)\b ?"
)
_LEAD = re.compile(
    r"^(?:(?:this|the|a) (?:neuron|feature|unit|latent) )?"
    r"(?:(?:is )?(?:activates?|fires?|responds?|reacts?|detects?|looks|sensitive|triggers?|lights up|active|"
    r"watches)\b)?"
    r"(?: ?\b(?:on|for|to|at|when(?:ever)?|by)\b)?"
    r"(?: ?\b(?:it|the text|one|text) (?:sees|says|reads|encounters|contains)\b)?(?: ?\b(?:any |every |each |all )?"
    r"(?:occurrences?|mentions?|instances?|appearances?|uses?|cases?) of\b(?= \S))? *"
)
_SPLIT = re.compile(r";|\.(?:\s|$)|, (?:and )?also\b|\balso\b|, and (?=(?:the )?words?\b)|, or (?=(?:the )?words?\b)")
_SILENT = re.compile(
    r"(?P<excepted>.*?)[,]?\s*\b(?:(?:stays?|staying|is|are|remains?|remaining|gets?|gives?|giving|has|have|with|near|at|"
    r"left|goes|go|drops? to|falls? to|barely|scarcely|does|do|leaves the neuron) )*"
    r"(?:near zero|zero|silent|nothing|inactive|absent|no response|excluded|excepted|ignored|not count|do not|"
    r"not activate)\b"
)
_PLACE = re.compile(
    r"[,(]?\s*\b(?:(?:when|that|which|it|they|stand(?:s|ing)?|found|placed|located|appear(?:s|ing)?|is|are|enclosed|"
    r"surrounded|contained|positioned|occurring) )*(?:at|in|on|to|inside|within|between|by)\b"
    r"(?: (?:the|an?|its|each|every|any|start|beginning|opening|head|front|new|of))*"
    r" (?P<place>sentences?|lines?|paragraphs?|(?:square |round |curly )?brackets?|parenthes[ie]s|"
    r"(?:double |single )?quot(?:es|ation marks?|ation)|inverted commas)\b"
)
_STARTS = re.compile(r"\b(?:start|begin\w*|opening|head|front)\b")
_POSITIONS = {"first": 0, "second": 1, "third": 2, "last": -1, "final": -1, "closing": -1}
_AFTER_CUE = re.compile(
    r"\b(?:after|follow(?:s|ing)?|succeed\w*|behind|previous|preceded|past|subsequent|trail\w*|introduced|"
    r"(?:to|on) the right of|(?:to|on) (?:its|the|their) left|left (?:neighbou?r|context)|prev\w*|prior|next to|-ed by|"
    r"on the heels of|in the wake of)\b"
)
_PRECEDES_CUE = re.compile(r"\b(?:precedes?|comes? before|stands? before|goes before|leads? (?:in)?to|followed by)\b")
_EXCEPTION_CUE = re.compile(
    r"[,(]?\s*\b(?:but not|not|never|except\w*|exclu\w*|without|w/o|besides|save|barring|minus|unless|unlike|ignor\w*|"
    r"skip\w*|leav(?:es?|ing)|other than|rather than|apart from|aside from|does ?n[o']t|do ?n[o']t|no)\b"
)
_TOPIC_ENDS = re.compile(r",| (?:as|when|where|after|before|which|that|while|if)\b")
_WITHIN = re.compile(
    r"(?P<T>.*⟦\d+⟧(?: and ⟦\d+⟧)*)[,(]? (?:(?:used|found|occurring|appearing|thematically|bound|drawn|that|which|"
    r"is|are|have|having|has|you|would|expect|to|see|scattered|as|they) )*(?:in|within|throughout|across|amid|about|"
    r"for|re|concerning|typical of|(?:related|relating|belonging|appertaining|pertaining|bound) to|(?:associated|"
    r"connected) with|from|to do with|in connection with|with relation to|surrounded by)"
    r"(?: the (?:world|sphere|field|domain|language|vocabulary|context) of)?:? "
    r"(?P<G>[^⟦⟧]+)$"
)
"""A quoted target, and where it counts, without a word for text."""


@dataclass(frozen=True, slots=True)
class Clause:
    """One thing that a sentence says."""

    target: Slot
    after: Slot | None = None
    phrases: tuple[str, ...] = ()
    position: int | None = None
    """Which word of the phrases, where that is said."""
    topic: str = ""
    place: str = ""
    """A kind that is a place: `in quotes`, `first of a sentence`."""
    examples: tuple[str, ...] = ()
    excepted: Slot | None = None


class _Pattern(NamedTuple):
    expression: re.Pattern[str]
    weight: int
    """Characters that are not in a slot."""
    marks: bool
    """Whether a colon, a dash or a bracket is among them."""


def _weight(pattern: _Pattern) -> int:
    return -pattern.weight


@lru_cache(maxsize=1)
def _patterns() -> dict[str, list[_Pattern]]:
    """The wordings of each relation, the most specific first."""
    known = json.loads(files("neuronscope.simulators.reader").joinpath("patterns.json").read_text(encoding="utf-8"))
    compiled = {relation: [_pattern(wording) for wording in wordings] for relation, wordings in known.items()}
    return {
        relation: sorted(
            (one for one in patterns if one.weight > 1 or (relation == "examples" and one.marks)), key=_weight
        )
        for relation, patterns in compiled.items()
    }


def _pattern(wording: str) -> _Pattern:
    normal = _normal(
        _LEAD.sub("", wording.lower().replace("{t}", "{T}"), count=1) if "{" not in wording[:3] else wording
    )
    pieces = re.split(r"(\{\w\})", re.sub(r"\{(\w)\}", lambda found: "{" + found[1].upper() + "}", normal))
    last = max((n for n, piece in enumerate(pieces) if piece.startswith("{")), default=0)
    out, weight = [], 0
    for number, piece in enumerate(pieces):
        if piece == "{P}":
            out.append(r"(?P<P>⟦\d+⟧(?:(?:,? (?:and|or)|,|/) ⟦\d+⟧)*)")
        elif piece.startswith("{"):
            out.append(rf"(?P<{piece[1]}>{'.+' if number == last else '.+?'})")
        else:
            weight += len(piece.strip())
            out.append(re.escape(piece).replace(r"\ ", " "))
    return _Pattern(re.compile("".join(out).strip()), weight, re.search(r"[:(–→=]", normal) is not None)


def _normal(text: str) -> str:
    return re.sub(r"\s+", " ", _FILLER.sub("", text)).strip()


@lru_cache(maxsize=4096)
def clauses_of(explanation: str) -> tuple[Clause, ...]:
    """The clauses of an explanation, of the part of it that `offline.english` reads too."""
    explanation = explanation[:LONGEST_EXPLANATION]
    quotes: list[str] = []

    def mark(found: re.Match[str]) -> str:
        quotes.append(next(filter(None, found.groups())))
        return f" ⟦{len(quotes) - 1}⟧ "

    text = re.sub(
        r" ([,.;:)])", r"\1", re.sub(r"\s+", " ", _QUOTE.sub(mark, _BRACKETS.sub(" ", explanation.lower())))
    ).strip()
    clauses: list[Clause] = []
    for part in _SPLIT.split(text):
        stripped = part.strip(" ,.:")
        if not stripped:
            continue
        if clauses and (silent := _SILENT.match(stripped)):
            clauses[-1] = replace(clauses[-1], excepted=slot_of(silent["excepted"], quotes))
        else:
            clauses.append(_clause(stripped, quotes))
    return tuple(clauses[:8])


def _clause(text: str, quotes: list[str]) -> Clause:
    text = _LEAD.sub("", _normal(text), count=1)
    excepted = examples_of = after = None
    topic = place = ""
    phrases: tuple[str, ...] = ()
    position = None
    if found := _fit("exception", text):
        text, excepted = found.group("T"), slot_of(found["N"], quotes)
    elif (
        (found := _EXCEPTION_CUE.search(text))
        and found.start() > 3
        and not re.match(r" (?:only|just)", text[found.end() :])
    ):
        text, excepted = text[: found.start()], slot_of(text[found.end() :], quotes)
    if (found := _PLACE.search(text)) is not None:
        starts = _STARTS.search(found[0]) is not None
        place = _place(found["place"], starts)
        if place:
            text = f"{text[: found.start()]} {text[found.end() :]}".strip(" ,") or "any token"
    if found := _fit("phrase", text):
        named = [quote for quote in quoted_in(found["P"], quotes) if len(quote.split()) > 1]
        if named:
            phrases, groups = tuple(named), found.groupdict()
            said = [n for word, n in _POSITIONS.items() if re.search(rf"\b{word}\b", found[0])]
            position, text = (said[0] if said else None), groups.get("T") or "any word"
    elif (inside := _inside(text, quotes)) is not None:
        phrases, text = inside
    if found := _fit("topic", text):
        topic, text = found["G"], found["T"]
    if found := _fit("after", text):
        after, text = found["A"], found.groupdict().get("T") or "any token"
        if not topic and (inner := _fit("topic", after)):
            after, topic = inner["T"], inner["G"]
    elif (found := _AFTER_CUE.search(text)) and found.start() > 3:
        text, after = text[: found.start()], text[found.end() :]
    elif (found := _PRECEDES_CUE.search(text)) and found.start() > 1 and text[found.end() :].strip():
        text, after = text[found.end() :], text[: found.start()]
    if found := _fit("examples", text):
        text, examples_of = found["T"], found["X"]
    if not topic and (found := _WITHIN.match(text)):
        text, topic = found["T"], found["G"]
    before = None
    if after is not None:
        found = _fit("examples", after)
        before = slot_of(found["T"] if found else after, quotes)
    return Clause(
        slot_of(text, quotes),
        before,
        phrases,
        position,
        _topic(topic),
        place,
        _examples(examples_of or "", quotes),
        excepted,
    )


def _inside(text: str, quotes: list[str]) -> tuple[tuple[str, ...], str] | None:
    """A phrase that is quoted beside one of its words: the phrase, and the text without it."""
    marks = list(MARK.finditer(text))
    contents = [content_of(quotes[int(found[1])]) for found in marks]
    for whole, found in zip(contents, marks, strict=True):
        words = whole.split()
        if len(words) > 1 and any(other in words for other in contents):
            return (whole,), f"{text[: found.start()]} {text[found.end() :]}"
    return None


def _fit(relation: str, text: str) -> re.Match[str] | None:
    """The most specific wording of a relation that a text has."""
    for pattern in _patterns()[relation]:
        if found := pattern.expression.fullmatch(text):
            if relation == "topic" and not _is_topic(found):
                continue
            return found
    return None


_TEXT = re.compile(
    r"\b(?:texts?|passages?|articles?|reports?|documents?|documentation|discuss\w+|stories|writings?|prose|contexts?|entries|"
    r"news|papers?|pages?|descriptions?|paragraphs?|manuals?|accounts?|biograph\w+|journalism|topic|subject|material|"
    r"sentences|talk\w*|domain|field|world|vocabulary|language|discourse|literature|concern\w*|deal\w*|treat\w*)\b"
)


def _is_topic(found: re.Match[str]) -> bool:
    """A topic is called one, or a kind of text: `in X` alone may be anything."""
    return _TEXT.search(found[0][len(found["T"]) :] if found.start("T") == 0 else found[0]) is not None


def _place(named: str, starts: bool) -> str:
    if named.startswith(("sentence", "line", "paragraph")):
        return f"first of a {'sentence' if named.startswith('s') else 'line'}" if starts else ""
    if "quot" in named or "comma" in named:
        return "in quotes"
    return "in square brackets" if "square" in named else "in parentheses"


def _topic(words: str) -> str:
    named = _TOPIC_ENDS.split(MARK.sub(" ", words).strip(" ,"))[0]
    kept = re.findall(r"[a-z][\w'-]+", named)
    return " ".join(word for word in kept if word not in PRONOUNS)


def _examples(text: str, quotes: list[str]) -> tuple[str, ...]:
    if named := quoted_in(text, quotes):
        return tuple(named)
    return tuple(w for w in re.findall(r"[a-z0-9][\w'’.-]*", text) if w not in PRONOUNS | {"and", "or", "as"})[:6]
