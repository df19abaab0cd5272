"""Planted concepts: a sentence in one of many wordings, and exactly which tokens of real text it is about.

`draw(rng, texts)` draws a sentence with its truth. What it draws from: hand-written families (`families.jsonl`), WordNet
categories (`categories.jsonl`), closed classes, forms of tokens, single words and their contexts, all of train documents.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from categories import categories, may_be_learned

from neuronscope.offline.text import Text

Hits = Callable[[Text], np.ndarray]

CLASSES: dict[tuple[str, ...], str] = {
    (
        "prepositions",
        "prepositions of place and direction",
        "a preposition",
    ): "of in to for on with at by from into through during against among between over under within across behind beyond near upon toward towards along around above below",
    ("articles", "the articles", "definite and indefinite articles"): "the a an",
    ("coordinating conjunctions", "conjunctions that join two things"): "and or but nor",
    (
        "modal verbs",
        "modals",
        "auxiliaries of possibility and obligation",
    ): "can could may might must shall should will would",
    ("forms of the verb be", "copula verbs", "the verb to be in any form"): "is are was were be been being am",
    ("forms of have", "the auxiliary have", "have, has or had"): "have has had having",
    ("first-person pronouns", "pronouns of the speaker"): "i me my mine we us our ours myself ourselves",
    (
        "third-person pronouns",
        "pronouns for other people",
    ): "he she him her his hers they them their theirs himself herself",
    ("possessive determiners", "possessives"): "my your his her its our their",
    ("demonstratives", "pointing words"): "this that these those",
    ("relative pronouns", "words that open a relative clause"): "which who whom whose that",
    ("question words", "interrogatives", "wh-words"): "what when where who why how which",
    ("negations", "words of negation", "negative particles"): "not no never none nothing neither nor cannot without",
    (
        "quantifiers",
        "words for how many or how much",
    ): "all some many most few several each every any both much more less",
    (
        "cardinal numbers written out",
        "number words",
        "numbers spelled as words",
    ): "one two three four five six seven eight nine ten eleven twelve twenty thirty hundred thousand million",
    (
        "ordinal words",
        "ordinals",
        "words giving a rank in a sequence",
    ): "first second third fourth fifth sixth seventh last",
    (
        "adverbs of frequency",
        "words that say how often",
    ): "always often usually sometimes rarely never frequently generally occasionally",
    (
        "subordinating conjunctions",
        "words that open a subordinate clause",
    ): "because although though while since unless until whereas if whether",
    (
        "contrast words",
        "words that mark a contrast",
        "connectives of contrast",
    ): "but however although though yet whereas despite nevertheless instead rather",
    (
        "months",
        "names of months",
        "the name of a month",
    ): "january february march april may june july august september october november december",
    ("days of the week", "weekday names", "weekdays"): "monday tuesday wednesday thursday friday saturday sunday",
    (
        "units of time",
        "words for spans of time",
    ): "second seconds minute minutes hour hours day days week weeks month months year years decade decades century centuries",
    (
        "verbs of speaking and reporting",
        "speech verbs",
        "verbs of saying",
    ): "said says say told tell announced reported claimed stated argued asked replied added explained",
    (
        "words of cause and result",
        "causal connectives",
    ): "because therefore thus hence since consequently so due caused causes result results",
    (
        "Python keywords",
        "keywords of a programming language",
    ): "def class return import if else for while try except raise lambda yield with assert del pass",
    (
        "titles of people",
        "titles before a name",
    ): "mr mrs ms dr sir lord lady president king queen prince professor general captain",
    (
        "comparatives",
        "comparative adjectives and adverbs",
        "words that compare",
    ): "more less better worse larger smaller greater higher lower older younger longer shorter earlier later",
    (
        "superlatives",
        "superlative forms",
    ): "most least best worst largest smallest greatest highest lowest oldest youngest longest earliest latest",
    (
        "verbs of being called or considered",
        "naming verbs",
    ): "called named known considered regarded described termed referred",
    ("particles after verbs", "verb particles"): "up out off down away back over on in",
}
FORMS: tuple[tuple[tuple[str, ...], Callable[[Text, int], float]], ...] = (
    (
        ("capitalised words", "words with a capital letter", "tokens that begin with an upper-case letter"),
        lambda t, i: t.capitalised[i],
    ),
    (("digits", "numerals", "any digit", "single digits of numbers"), lambda t, i: t.contents[i].isdigit()),
    (
        ("the last digit of a four-digit year", "final digits of years", "the digit that completes a year"),
        lambda t, i: (
            bool(re.search(r"(?<!\d)(1[5-9]|20)\d$", t.left[i][-3:]))
            and t.contents[i].isdigit()
            and (len(t.left[i]) < 4 or not t.left[i][-4].isdigit())
        ),
    ),
    (
        ("the first digit of a number", "a digit that opens a number"),
        lambda t, i: t.contents[i].isdigit() and not t.left[i][-1:].isdigit(),
    ),
    (
        ("later digits of a number", "digits inside a longer number"),
        lambda t, i: t.contents[i].isdigit() and t.left[i][-1:].isdigit(),
    ),
    (("commas", "the comma", "comma tokens"), lambda t, i: t.contents[i] == ","),
    (("full stops", "periods", "the period at the end of a sentence"), lambda t, i: t.contents[i] == "."),
    (("opening parentheses", "an opening bracket", "left parentheses"), lambda t, i: t.contents[i].startswith("(")),
    (("closing parentheses", "the closing bracket", "right parentheses"), lambda t, i: t.contents[i].startswith(")")),
    (
        ("hyphens", "the hyphen inside a compound", "hyphens and dashes"),
        lambda t, i: t.contents[i] in ("-", "–", "—", "--"),
    ),
    (("colons and semicolons", "colon or semicolon"), lambda t, i: t.contents[i] in (":", ";")),
    (
        ("quotation marks", "opening or closing quote marks"),
        lambda t, i: t.contents[i].strip(".,") in ('"', "'", "``", "''", "“", "”"),
    ),
    (("apostrophe-s", "the possessive ending 's", "genitive 's"), lambda t, i: t.contents[i] in ("'s", "’s")),
    (
        ("punctuation", "punctuation marks of any kind"),
        lambda t, i: bool(t.contents[i].strip()) and not any(c.isalnum() for c in t.contents[i]),
    ),
    (("line breaks", "newlines", "the blank line between paragraphs"), lambda t, i: "\n" in t.contents[i]),
    (
        (
            "later pieces of split words",
            "a fragment that continues a word cut in two",
            "word-internal pieces of rare words and names",
        ),
        lambda t, i: t.continues[i] and t.contents[i].isalpha(),
    ),
    (
        ("the first word of a sentence", "words that open a sentence, right after a full stop"),
        lambda t, i: t.left[i].rstrip(' "(').endswith((".", "?", "!", "\n")) and t.contents[i].isalpha(),
    ),
    (
        ("the token right after a comma", "words that follow a comma"),
        lambda t, i: t.left[i].rstrip(" ").endswith(",") and bool(t.contents[i].strip()),
    ),
    (
        ("capitalised words in the middle of a sentence", "proper names inside a sentence"),
        lambda t, i: t.capitalised[i] and not t.continues[i] and t.left[i][-1:].isalnum(),
    ),
    (
        ("words right after a number", "what follows a number, such as a unit"),
        lambda t, i: t.left[i].rstrip(" ")[-1:].isdigit() and t.contents[i].isalpha(),
    ),
    (("the first tokens of a text", "the very beginning of the text"), lambda t, i: i < 3),
    (("adverbs ending in -ly", "-ly adverbs"), lambda t, i: t.words[i].endswith("ly") and len(t.words[i]) > 4),
    (
        ("present participles and gerunds", "-ing forms of verbs"),
        lambda t, i: t.words[i].endswith("ing") and len(t.words[i]) > 5,
    ),
    (
        ("past-tense verbs and participles in -ed", "regular past forms"),
        lambda t, i: t.words[i].endswith("ed") and len(t.words[i]) > 4,
    ),
    (
        ("nominalisations such as -tion words", "abstract nouns in -tion or -ment"),
        lambda t, i: t.words[i].endswith(("tion", "ment", "sion")) and len(t.words[i]) > 5,
    ),
    (
        ("short words of one or two letters", "very short words"),
        lambda t, i: t.words[i] == t.contents[i] and 0 < len(t.contents[i]) <= 2 and t.contents[i].isalpha(),
    ),
    (("long words of ten letters or more", "very long words"), lambda t, i: len(t.words[i]) >= 10),
)
SUFFIXES = "ing ed ly er est tion sion ment ness ity al ive ous able ible ful less ism ist ize ise ary ory ance ence ant ent an ian ese ic ship hood ward age ure".split()
PREFIXES = "un re in im dis pre post anti inter sub over under mis non trans super semi auto bio geo micro multi out con com de ex pro per".split()

ONE = (
    "{x}",
    "{x}.",
    "The word {x}",
    "The token {x} wherever it stands",
    "The exact word {x}.",
    "Fires on {x}",
    "{x} in any context",
    "Responds to {x} and nothing else",
    "Occurrences of {x}",
    "{x}, in running text",
    "Just {x}, whatever surrounds it",
    "This neuron activates on {x}",
    "The neuron reacts when the text says {x}",
    "Each mention of {x}",
    "{x}; everything else is silent",
    "The string {x}",
    "Activates strongly on {x}.",
    "Mentions of {x}, strongest in plain prose",
)
MANY = (
    "{xs}",
    "The words {xs}",
    "Words such as {xs}",
    "Any of {xs}",
    "Activates on {xs}.",
    "{xs}, and no other words",
    "Tokens like {xs}",
    "One of {xs}, wherever it stands",
    "Fires on {xs}; near zero elsewhere",
)
AFTER = (
    "{x} right after {y}",
    "{x} after {y}; other uses of {x} stay near zero",
    '{x} in the phrase "{ybare} {xbare}"',
    "The word {x}, only when {y} comes directly before it",
    "{x} following {y}",
    '{x} when preceded by {y}, as in "{ybare} {xbare}"',
    'In "{ybare} {xbare}", the second word',
    '{x} as in "{ybare} {xbare}"; elsewhere almost nothing',
)
ANY_AFTER = (
    "The word right after {y}",
    "Any token that follows {y}",
    "Whatever comes directly after {y}; {y} itself is silent",
    "The token after {y}, not {y} itself",
    "What stands immediately after {y}",
    "Words directly following {y}, such as those it introduces",
)
CLASS = (
    "{n}",
    "{n}.",
    "Words for {n}",
    "{N}, wherever they occur",
    "Activates on {n}",
    "Fires on {n}.",
    "Words that have to do with {n}",
    "{N}; other words near zero",
    "Terms for {n}",
    "{N}, in ordinary prose",
    "The neuron responds to {n}",
    "Any of {n}",
    "{N}, usually in the middle of a sentence",
)
CLASS_EXAMPLES = (
    "{N} such as {xs}",
    "{N}, for example {xs}",
    "{N} ({xs})",
    "{N}, like {xs}",
    "Words such as {xs}: {n}",
    "{N}, e.g. {xs}",
    "{xs} and other {n}",
    "{xs} or similar {n}",
)
HEDGES = (
    "",
    "",
    "",
    "",
    "",
    ", especially in encyclopedic text",
    "; usually weak",
    ", often in news reports",
    "; many other words stay silent",
    ", mostly after a verb",
    ", in factual prose",
    "; strongest early in a text",
    ", sometimes only weakly",
    "; ordinary words give nothing",
    ", with values of about {v}",
    "; {v} at best",
)


@dataclass(frozen=True, slots=True)
class Concept:
    """A sentence and its truth."""

    sentence: str
    hits: Hits


class Planter:
    """Draws concepts whose words the texts have."""

    def __init__(self, texts: Sequence[Text]) -> None:
        self.texts = texts
        self.where: dict[str, list[int]] = {}
        for number, text in enumerate(texts):
            for word in {w for w in text.words if w}:
                self.where.setdefault(word, []).append(number)
        self.common = [word for word, places in self.where.items() if len(places) >= 4 and len(word) > 1]
        self.families = [(f["names"], f["members"]) for f in categories("families.jsonl")]
        self.categories = [(c["names"], c["members"]) for c in categories("categories.jsonl")]
        self.classes = {names: words for names, words in CLASSES.items() if may_be_learned(words.split())}

    def draw(self, rng: np.random.Generator) -> Concept:
        """One concept: now and then two clauses, or one with an exception, in one sentence."""
        kind = rng.choice(
            [
                "word",
                "words",
                "after",
                "any after",
                "affix",
                "form",
                "class",
                "family",
                "family",
                "family",
                "topic",
                "two",
                "except",
            ]
        )
        return getattr(self, "_" + kind.replace(" ", "_"))(rng)

    def _word(self, rng: np.random.Generator) -> Concept:
        word = str(rng.choice(self.common))
        return Concept(_fill(rng, ONE, x=quote(rng, word)), among({word}))

    def _words(self, rng: np.random.Generator) -> Concept:
        words = [str(w) for w in rng.choice(self.common, rng.integers(2, 5), replace=False)]
        return Concept(_fill(rng, MANY, xs=listed(rng, words)), among(set(words)))

    def _pair(self, rng: np.random.Generator) -> tuple[str, str]:
        while True:
            text = self.texts[rng.integers(len(self.texts))]
            ends = [
                i for i in range(1, len(text.words)) if text.words[i] and not text.continues[i] and text.words[i - 1]
            ]
            if ends:
                i = int(rng.choice(ends))
                if text.words[i].isalpha() and text.words[i - 1].isalpha() and len(self.where[text.words[i]]) > 5:
                    return text.words[i - 1], text.words[i]

    def _after(self, rng: np.random.Generator) -> Concept:
        before, word = self._pair(rng)
        sentence = _fill(rng, AFTER, x=quote(rng, word), y=quote(rng, before), xbare=word, ybare=before)
        return Concept(sentence, where(lambda t, i: t.words[i] == word and previous(t, i) == before))

    def _any_after(self, rng: np.random.Generator) -> Concept:
        before, _ = self._pair(rng)
        return Concept(
            _fill(rng, ANY_AFTER, y=quote(rng, before)),
            where(lambda t, i: bool(t.contents[i].strip()) and previous(t, i) == before and not t.continues[i]),
        )

    def _affix(self, rng: np.random.Generator) -> Concept:
        if rng.random() < 0.65:
            suffix = str(rng.choice(SUFFIXES))
            x = f'"{suffix}"' if rng.random() < 0.5 else f'"-{suffix}"' if rng.random() < 0.7 else f"-{suffix}"
            sentence = str(
                rng.choice(
                    [
                        "Words ending in {x}",
                        "Words that end with {x}",
                        "The suffix {x}",
                        "{x} words",
                        "Words with the ending {x}, whatever they mean",
                        "Any word whose last letters are {x}",
                    ]
                )
            ).replace("{x}", x)
            return Concept(
                sentence, where(lambda t, i: t.words[i].endswith(suffix) and len(t.words[i]) > len(suffix) + 1)
            )
        prefix = str(rng.choice(PREFIXES))
        x = f'"{prefix}"' if rng.random() < 0.5 else f'"{prefix}-"' if rng.random() < 0.7 else f"{prefix}-"
        sentence = str(
            rng.choice(
                [
                    "Words starting with {x}",
                    "Words that begin with {x}",
                    "The prefix {x}",
                    "Words with the prefix {x}",
                    "Any word whose first letters are {x}",
                ]
            )
        ).replace("{x}", x)
        return Concept(sentence, where(lambda t, i: t.words[i].startswith(prefix) and len(t.words[i]) > len(prefix)))

    def _form(self, rng: np.random.Generator) -> Concept:
        names, test = FORMS[rng.integers(len(FORMS))]
        name = str(rng.choice(names))
        return Concept(hedged(rng, _sentence_case(rng, name)), where(test))

    def _class(self, rng: np.random.Generator) -> Concept:
        names = list(self.classes)[rng.integers(len(self.classes))]
        return self._class_of(rng, list(names), self.classes[names].split())

    def _family(self, rng: np.random.Generator) -> Concept:
        if rng.random() < 0.5:
            names, members = self.families[rng.integers(len(self.families))]
        else:
            names, members = self.categories[rng.integers(len(self.categories))]
        return self._class_of(rng, names, members)

    def _class_of(self, rng: np.random.Generator, names: list[str], members: list[str]) -> Concept:
        name, known = str(rng.choice(names)), [m for m in members if m in self.where]
        if rng.random() < 0.4 and len(known) > 3:
            some = [str(m) for m in rng.choice(known, rng.integers(2, 4), replace=False)]
            shown = listed(rng, some) if rng.random() < 0.6 else ", ".join(some[:-1]) + " or " + some[-1]
            return Concept(
                _fill(rng, CLASS_EXAMPLES, n=name, N=_sentence_case(rng, name, True), xs=shown), among(set(members))
            )
        return Concept(_fill(rng, CLASS, n=name, N=_sentence_case(rng, name, True)), among(set(members)))

    def _topic(self, rng: np.random.Generator) -> Concept:
        names, members = self.families[rng.integers(len(self.families))]
        name, inside = str(rng.choice(names)), set(members)
        narrow = str(rng.choice(["the", "of", "a", "and", "in", "to", ",", "."])) if rng.random() < 0.6 else ""

        def test(t: Text, i: int) -> float:
            count = sum(1 for word in t.words[: i + 1] if word in inside)
            share = 0.0 if count == 0 else 0.5 if count == 1 else 1.0
            return share * (t.contents[i] == narrow if narrow else 0.3 + 0.7 * (t.words[i] in inside))

        if narrow:
            x = quote(rng, narrow)
            sentence = str(
                rng.choice(
                    [
                        "{x} in text about {n}",
                        "{x}, in passages about {n}; elsewhere zero",
                        "{x} where the topic is {n}",
                        "In articles on {n}, the token {x}",
                    ]
                )
            )
            return Concept(sentence.replace("{x}", x).replace("{n}", name), where(test))
        sentence = str(
            rng.choice(
                [
                    "Text about {n}",
                    "Any word in passages about {n}",
                    "The topic of {n}, all through the text",
                    "Articles on {n}, most on the words themselves",
                ]
            )
        )
        return Concept(sentence.replace("{n}", name), where(test))

    def _two(self, rng: np.random.Generator) -> Concept:
        kinds = ["word", "after", "class", "family", "form", "affix"]
        first, second = (getattr(self, "_" + str(k))(rng) for k in rng.choice(kinds, 2))
        share = float(rng.choice([1.0, 1.0, 0.5, 0.3]))
        joiner = {
            1.0: ["; also {b}", ", and {b}", "; {b} too", " or {b}"],
            0.5: ["; less on {b}", ", more weakly {b}", "; {b} about half as much"],
            0.3: ["; {b} only faintly", ", slightly on {b}", "; sometimes {b}, weakly"],
        }[share]
        sentence = first.sentence.rstrip(".") + str(rng.choice(joiner)).replace(
            "{b}", _lower(second.sentence.rstrip("."))
        )
        return Concept(sentence, lambda t: np.maximum(first.hits(t), share * second.hits(t)))

    def _except(self, rng: np.random.Generator) -> Concept:
        names, members = (self.families if rng.random() < 0.5 else self.categories)[rng.integers(len(self.families))]
        known = sorted((m for m in members if m in self.where), key=lambda m: -len(self.where[m]))
        if len(known) < 4:
            return self._after(rng)
        out = [str(x) for x in rng.choice(known[:5], rng.integers(1, 3), replace=False)]
        sentence = _sentence_case(rng, str(rng.choice(names)), True) + str(
            rng.choice(
                [
                    "; {xs} stay near zero",
                    ", but not {xs}",
                    " other than {xs}",
                    "; not on {xs}",
                    ", except {xs}",
                    "; nothing on {xs}",
                    "; {xs} stays silent",
                ]
            )
        ).replace("{xs}", listed(rng, out))
        return Concept(sentence, among(set(members) - set(out)))


def previous(text: Text, position: int) -> str:
    return text.words[position - 1] or text.contents[position - 1] if position else ""


def where(test: Callable[[Text, int], float]) -> Hits:
    return lambda text: np.array([float(test(text, i)) for i in range(len(text.contents))], dtype=np.float32)


def among(members: set[str]) -> Hits:
    return where(lambda t, i: t.words[i] in members or (t.contents[i] in members and not t.continues[i]))


def quote(rng: np.random.Generator, word: str) -> str:
    return str(
        rng.choice(
            [
                f'"{word}"',
                f'"{word}"',
                f'"{word}"',
                f'"{word}"',
                f"'{word}'",
                f"`{word}`",
                word.capitalize() if word.isalpha() else f'"{word}"',
                f'"{word.capitalize()}"',
                word,
            ]
        )
    )


def listed(rng: np.random.Generator, words: list[str]) -> str:
    bare = rng.random() < 0.25
    shown = [word if bare else f'"{word}"' for word in words]
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + str(rng.choice([" and ", " or ", ", "])) + shown[-1]


def _fill(rng: np.random.Generator, templates: Sequence[str], **parts: str) -> str:
    sentence = str(rng.choice(list(templates)))
    for name, part in parts.items():
        sentence = sentence.replace("{" + name + "}", part)
    return hedged(rng, sentence)


def hedged(rng: np.random.Generator, sentence: str) -> str:
    hedge = str(rng.choice(list(HEDGES))).replace("{v}", str(rng.integers(2, 9)))
    return sentence.rstrip(".") + hedge + "." if hedge else sentence


def _sentence_case(rng: np.random.Generator, name: str, always: bool = False) -> str:
    return name[:1].upper() + name[1:] if always or rng.random() < 0.5 else name


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
