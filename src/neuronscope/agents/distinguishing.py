"""What sets conditions apart: they begin alike, and the same few words stand around what each of them names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile

from neuronscope.text import BEGINNING

FRAME = "This neuron activates when "
"""What every condition is put behind, so that how similar two sentences are does not depend on how both begin."""

_WORD = re.compile(r'"[^"]*"|\w+(?:[\'’-]\w+)*')
_COMMON = frozenset(
    """
    a about according act activate activated activates activation activations active also an and any appear appearing
    appears are as at barely be been begin being by certain condition conditions contain containing contains context
    contexts describe described describes describing discuss discussed discusses discussing encounter encounters
    especially excerpt excerpts expression expressions faintly feature features fire fires for from given has have
    if in include includes including indicate indicates involve involves involving is it its like mainly mention
    mentioned mentioning mentions moderately name named names neuron occur occurrence occurring occurs of often on one
    or particularly passage passages phrase phrases present presence primarily react reacts refer refers referring
    related relating respond responds said say says see seen sees sentence sentences some somebody someone something
    speak speaks specific stand stands state stated states strongly such term terms text texts that the there these
    this those to token tokens typically unit use used uses using various very was weakly were when whenever where
    which whose with word words written
    """.split()
)
"""Words that explanations are made of, whatever they explain."""


LEAST_SHARED = 3
"""Fewer words than these, which all sentences begin with, are likely to be what they are about."""


def in_one_frame(sentences: Sequence[str]) -> list[str]:
    """The sentences, each behind `FRAME` in place of its own beginning.

    "It responds whenever a ship is mentioned." becomes "This neuron activates when a ship is mentioned."
    """
    return [FRAME + condition for condition in _conditions(sentences)]


def informative_words(sentences: Sequence[str]) -> list[str]:
    """Of each sentence the words that not every explanation has, or all of its condition where there are none.

    "This neuron activates when the text speaks of ships." becomes "ships". Quoted words stay.
    """
    conditions = _conditions(sentences)
    words = [
        [word for word in _WORD.findall(condition) if word.startswith('"') or word.casefold() not in _COMMON]
        for condition in conditions
    ]
    return [" ".join(each) or condition for each, condition in zip(words, conditions, strict=True)]


def _conditions(sentences: Sequence[str]) -> list[str]:
    """The sentences without "This neuron activates when"; where that is not their beginning, without a common one.

    Common beginnings are not looked for where the usual one is found: what then follows alike is likely to be meant.
    """
    lines = [" ".join(sentence.split()) for sentence in sentences]
    begun = [BEGINNING.match(line) for line in lines]
    rest = [line[match.end() :] if match else line for line, match in zip(lines, begun, strict=True)]
    if not all(begun):
        words = [line.split() for line in rest]
        shared = _shared(words) if len(words) > 1 else 0
        if shared >= LEAST_SHARED and all(len(each) > shared for each in words):
            rest = [" ".join(each[shared:]) for each in words]
    return [condition or line for condition, line in zip(rest, lines, strict=True)]


def _shared(rows: Sequence[Sequence[str]]) -> int:
    """How many words all rows begin with."""
    columns = zip(*rows, strict=False)
    return sum(1 for _ in takewhile(lambda column: len({word.casefold() for word in column}) == 1, columns))
