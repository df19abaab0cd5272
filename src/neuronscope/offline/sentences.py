"""Conditions in sentences that people would write: what their words have in common, and a few of them as examples.

`english.write` says everything that a set of conditions has; here is what a reader of English needs of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from neuronscope.offline.conditions import DEFAULT_STRENGTH, Condition
from neuronscope.offline.english import phrase, read
from neuronscope.offline.kinds import AFTER_PHRASES, PHRASES
from neuronscope.offline.naming import LEAST_MEMBERS, Name

QUOTES = 6
"""Words of one sentence that are quoted, at most, each maybe with the word before it."""
EXCEPTIONS = 2
"""Exceptions of one sentence, at most."""
OPENING = "This neuron activates on"
_QUOTED = re.compile(r"\"[^\"]*\"|`[^`]*`")
_NAMED = re.compile(rf"{OPENING} (?P<name>[^\"`;]+?), such as (?P<examples>.*?)(?:, and on |; but not |\.$)")


def sentence(conditions: Sequence[Condition], name: Name | None = None, opening: str = OPENING) -> str:
    """One sentence of at most 35 words.

    Args:
        conditions: what activates the neuron, the most important first; those that do not fit are left out. Those of
            strength 0 are exceptions, and stand at the end.
        name: what words of them have in common, "names of months"; these are its examples then. The others are meant
            themselves.
        opening: how it begins.
    """
    chosen = most_important(conditions)
    examples = [each for each in chosen if name and is_example(each) and each.text in name.members]
    if name is None or len(examples) < LEAST_MEMBERS:
        name, examples = None, []
    parts = [f"{name.text}, such as {_list(examples)}"] if name else []
    if others := [each for each in chosen if each.strength > 0 and each not in examples]:
        parts.append(f"on {_list(others)}" if parts else _list(others))
    exceptions = [each for each in chosen if each.strength == 0]
    said = f"{opening} {', and '.join(parts)}"
    return f"{said}; but not {' or '.join(map(phrase, exceptions))}." if exceptions else f"{said}."


def name_in(text: str) -> Name | None:
    """The name in a sentence of `sentence`, with its examples; None where there is none."""
    found = _NAMED.match(text)
    return Name(found["name"], frozenset(each.text for each in read(found["examples"]).conditions)) if found else None


def conditions_in(text: str) -> list[Condition]:
    """The conditions in a sentence, those of kinds first; of other people's sentences what `english.read` reads."""
    said = _QUOTED.sub(" ", text)
    kinds = [phrase for phrase in [*PHRASES.values(), *AFTER_PHRASES.values()] if f" {phrase}" in said]
    longest = [phrase for phrase in kinds if not any(phrase in other and phrase != other for other in kinds)]
    return [*(Condition(phrase, (), DEFAULT_STRENGTH, "kind") for phrase in longest), *read(text).conditions]


def most_important(conditions: Sequence[Condition]) -> list[Condition]:
    """The first conditions that one sentence has room for, each once, exceptions last; some of these always fit."""
    chosen: dict[Condition, Condition] = {}
    for each in conditions:
        chosen.setdefault(each.pattern, each)
    exceptions = [each for each in chosen.values() if each.strength == 0][:EXCEPTIONS]
    return [*[each for each in chosen.values() if each.strength > 0][: QUOTES - len(exceptions)], *exceptions]


def is_example(condition: Condition) -> bool:
    """Whether a condition is a word that can have something in common with others."""
    return condition.has_neighbours and not condition.after


def _list(conditions: Sequence[Condition]) -> str:
    parts = [phrase(each) for each in conditions]
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
