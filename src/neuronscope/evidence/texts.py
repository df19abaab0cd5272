"""What texts tell of a neuron: the token table, ordinary text, and excerpts of all ranks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

import numpy as np

from neuronscope.evidence.record import ACTIVE, Evidence, Occurrence, RandomTexts, TokenRow
from neuronscope.types import Exemplar, normalise

ROWS = 40
"""Rows of the table."""
STRONGEST, WEAKEST, LOOK_ALIKES = 3, 2, 4
"""Contexts of each kind in a row, and tokens that look like its own."""
RANDOM_SHOWN = 20
"""Tokens of ordinary text that are shown."""
EXCERPTS = 16
"""Excerpts, half of them top ones."""
CONTEXT_CHARACTERS = 48
"""How much of the text before a token is kept, at most."""

_REST_OF_WORD = re.compile(r"\w*")
_REST_CHARACTERS = 16
_COMMON_BEGINNING = 4
"""Letters with which two tokens begin that look alike."""
_FAR_BELOW = 0.5
"""A context is a weak one below this share of the token's largest activation."""


@dataclass(slots=True)
class _Found:
    """Where one token occurs."""

    activations: list[float] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)
    """Which text, and which token of it."""


def evidence_of(
    top: Sequence[Exemplar],
    maximum: float,
    *,
    random: Sequence[Exemplar] = (),
    shown: Sequence[Exemplar] = (),
    others: Sequence[Exemplar] = (),
) -> Evidence:
    """What texts alone tell.

    Args:
        top: the neuron's top train texts, strongest first: the table is made from these.
        maximum: its largest activation, 10 on the scale.
        random: train texts drawn without regard to it.
        shown: the top ones of those that may be shown as excerpts; None given, `top`.
        others: such of lower ranks.
    """
    return Evidence(
        maximum=maximum,
        n_texts=len(top),
        tokens=token_table(top, maximum, random),
        excerpts=choose_excerpts(shown or top, others, maximum),
        random=random_texts(random, maximum) if random else None,
    )


def token_table(
    exemplars: Sequence[Exemplar], maximum: float, others: Sequence[Exemplar] = (), n: int = ROWS
) -> tuple[TokenRow, ...]:
    """The tokens on which most of the activation falls, each with all its occurrences; never a run of tokens.

    Args:
        exemplars: the texts.
        maximum: the neuron's largest activation.
        others: more texts in which tokens may look like those of the table and stay inactive.
        n: rows at most, of tokens on which the neuron is active: those first that matter most to a correlation, by the
            sum of their squared activations.
    """
    found = _by_token(exemplars, maximum)
    inactive = {
        token: len(each.activations)
        for token, each in _by_token([*exemplars, *others], maximum).items()
        if max(each.activations) < ACTIVE
    }
    ranked = sorted(found, key=lambda token: -sum(a * a for a in found[token].activations if a >= ACTIVE))
    chosen = [token for token in ranked[:n] if max(found[token].activations) >= ACTIVE]
    return tuple(_row(token, found[token], exemplars, inactive) for token in chosen)


def peaks(exemplars: Sequence[Exemplar], rows: Iterable[TokenRow]) -> list[tuple[Exemplar, int]]:
    """Where each row's token is strongest: the text, and the position in it."""
    best: dict[str, tuple[float, Exemplar, int]] = {}
    for exemplar in exemplars:
        for position, (token, value) in enumerate(zip(exemplar.tokens, exemplar.activations.tolist(), strict=True)):
            if token not in best or value > best[token][0]:
                best[token] = (value, exemplar, position)
    return [best[row.token][1:] for row in rows]


def random_texts(exemplars: Sequence[Exemplar], maximum: float, n: int = RANDOM_SHOWN) -> RandomTexts:
    """How often the neuron is active on these texts, on which tokens, and how strongly."""
    found = _by_token(exemplars, maximum)
    strongest = sorted(
        (max(zip(each.activations, each.places, strict=True), key=lambda pair: pair[0]) for each in found.values()),
        key=lambda pair: -pair[0],
    )
    return RandomTexts(
        texts=len(exemplars),
        tokens=sum(len(exemplar.tokens) for exemplar in exemplars),
        active=sum(value >= ACTIVE for each in found.values() for value in each.activations),
        strongest=tuple(
            occurrence(exemplars[index], position, value)
            for value, (index, position) in strongest[:n]
            if value >= ACTIVE
        ),
    )


def choose_excerpts(
    top: Sequence[Exemplar], others: Sequence[Exemplar], maximum: float, n: int = EXCERPTS
) -> tuple[Exemplar, ...]:
    """Half of them top ones, the other half of lower ranks, where the neuron is active.

    Of each half those come first whose strongest token was not shown before.
    """
    active = sorted((one for one in others if _peak(one) * 10 >= ACTIVE * maximum), key=_peak, reverse=True)
    counts: dict[str, int] = {}
    first = list(islice(_varied(top, counts), max(n // 2, n - len(active))))
    return tuple(sorted([*first, *islice(_varied(active, counts), n - len(first))], key=_peak, reverse=True))


def occurrence(
    exemplar: Exemplar, position: int, activation: float, characters: int = CONTEXT_CHARACTERS
) -> Occurrence:
    """One token of a text; what is left of a word at the context's beginning is left out."""
    text = "".join(exemplar.tokens[:position])
    before = text[-characters:]
    if len(text) > characters and (start := re.search(r"\s", before)) and start.start() < characters // 2:
        before = before[start.start() :]
    token = exemplar.tokens[position]
    following = "".join(exemplar.tokens[position + 1 : position + 9])
    rest = _REST_OF_WORD.match(following) if token[-1:].isalnum() else None
    return Occurrence(before, token, rest[0][:_REST_CHARACTERS] if rest else "", round(activation, 2))


def _by_token(exemplars: Sequence[Exemplar], maximum: float) -> dict[str, _Found]:
    found: dict[str, _Found] = {}
    for index, exemplar in enumerate(exemplars):
        levels = normalise(exemplar.activations, maximum).tolist()
        for position, (token, level) in enumerate(zip(exemplar.tokens, levels, strict=True)):
            if token:  # a part of a character has no text
                each = found.setdefault(token, _Found())
                each.activations.append(level)
                each.places.append((index, position))
    return found


def _row(token: str, found: _Found, exemplars: Sequence[Exemplar], inactive: Mapping[str, int]) -> TokenRow:
    order = np.argsort(-np.array(found.activations), kind="stable").tolist()
    largest = found.activations[order[0]]
    strong = [index for index in order if found.activations[index] >= _FAR_BELOW * largest]
    weak = order[: len(strong) - 1 : -1]
    return TokenRow(
        token=token,
        occurrences=len(order),
        active=sum(value >= ACTIVE for value in found.activations),
        mean=round(float(np.mean(found.activations)), 2),
        largest=round(largest, 2),
        strongest=tuple(islice(_contexts(strong, found, exemplars), STRONGEST)),
        weakest=tuple(islice(_contexts(weak, found, exemplars), WEAKEST)),
        look_alikes=_look_alikes(token, inactive),
    )


def _contexts(order: Iterable[int], found: _Found, exemplars: Sequence[Exemplar]) -> Iterator[Occurrence]:
    """The occurrences in this order, of those with the same words before them the first."""
    seen: set[str] = set()
    for number in order:
        index, position = found.places[number]
        one = occurrence(exemplars[index], position, found.activations[number])
        if (end := one.before[-12:]) not in seen:
            seen.add(end)
            yield one


def _look_alikes(token: str, inactive: Mapping[str, int]) -> tuple[str, ...]:
    """Inactive tokens with the same letters, digits for a digit, or with the same beginning, most frequent first."""
    own = token.strip().casefold()
    if not own[:1].isalnum():
        return ()
    beginning = own[:_COMMON_BEGINNING] if len(own) >= _COMMON_BEGINNING else own + "\0"
    alike = [
        other
        for other in inactive
        if (letters := other.strip().casefold()) == own
        or letters.startswith(beginning)
        or (own.isdecimal() and letters.isdecimal())
    ]
    return tuple(sorted(alike, key=lambda other: -inactive[other])[:LOOK_ALIKES])


def _varied(exemplars: Sequence[Exemplar], counts: dict[str, int]) -> Iterator[Exemplar]:
    """The exemplars, those first whose strongest token came up least often; `counts` goes on counting."""
    later: list[Exemplar] = []
    for exemplar in exemplars:
        token = exemplar.tokens[int(np.argmax(exemplar.activations))].strip().casefold() if len(exemplar.tokens) else ""
        if counts.get(token, 0):
            later.append(exemplar)
        else:
            counts[token] = 1
            yield exemplar
    yield from chain(later)


def _peak(exemplar: Exemplar) -> float:
    return float(exemplar.activations.max(initial=0.0))
