"""A neuron's evidence as lines of a prompt, in the order in which it bounds an explanation best."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

import numpy as np

from neuronscope.agents.highlighting import Marks, choose_marks, graded, visible
from neuronscope.evidence import Evidence, LookBack, Occurrence, OutputTokens, RandomTexts, TokenRow, VocabularyTokens
from neuronscope.evidence.record import ACTIVE
from neuronscope.types import SCALE, Exemplar


class Sizes(NamedTuple):
    """How much of each part a prompt shows."""

    rows: int
    contexts: int
    """Strongest contexts of a row; of the weakest one less, and one at least."""
    full_rows: int
    """Rows with that many contexts: the later ones have one each."""
    random: int
    excerpts: int
    look_back: int
    vocabulary: int


HYPOTHESIS = Sizes(rows=36, contexts=3, full_rows=14, random=12, excerpts=16, look_back=8, vocabulary=20)
REFINEMENT = Sizes(rows=24, contexts=2, full_rows=10, random=8, excerpts=6, look_back=6, vocabulary=12)
SHORT = Sizes(rows=14, contexts=1, full_rows=0, random=3, excerpts=5, look_back=3, vocabulary=8)
"""For a model whose context has no room for more."""

CONTEXT_CHARACTERS = 40
"""Characters before a token that are shown in the table."""
AFTERWARDS = 12
"""Tokens of an excerpt that are shown after the last one on which the neuron is active."""
LOOK_BACK_CHARACTERS = 80
"""The same of a peak from which is asked how far back the neuron looks."""


def marks_for(evidence: Evidence, more: Iterable[str] = (), marked: Iterable[str] = ()) -> Marks:
    """Marks that occur in nothing of what is shown, of the evidence and of more texts, and fit all marked tokens."""
    found = list(_occurrences(evidence))
    texts = chain(
        (visible(exemplar.text) for exemplar in evidence.excerpts),
        (visible(one.before + one.token + one.after) for one in found),
        more,
    )
    tokens = {visible(token) for token in (*(one.token for one in found), *marked)}
    tokens |= {visible(token) for exemplar in evidence.excerpts for token in exemplar.tokens}
    return choose_marks(texts, tokens)


def evidence_lines(
    evidence: Evidence, marks: Marks, sizes: Sizes = HYPOTHESIS, excerpts: Sequence[Exemplar] | None = None
) -> list[str]:
    """All parts that were measured, each under a heading.

    Args:
        evidence: what was gathered.
        marks: stand around the token that an activation belongs to.
        sizes: how much is shown of each part.
        excerpts: those that are shown; None is the first of the evidence's own.
    """
    shown = spread(evidence.excerpts, sizes.excerpts) if excerpts is None else excerpts
    parts = [
        _table(evidence.tokens[: sizes.rows], evidence.n_texts, marks, sizes),
        _random(evidence.random, marks, sizes.random),
        _vocabulary(evidence.vocabulary, sizes.vocabulary),
        _look_back(evidence.look_back[: sizes.look_back], marks),
        _outputs(evidence.output_tokens),
        excerpt_lines(shown, evidence.maximum, marks),
    ]
    return [line for part in filter(None, parts) for line in ("", *part)][1:]


def excerpt_lines(
    exemplars: Sequence[Exemplar], maximum: float, marks: Marks, heading: str = "EXCERPTS, of all ranks"
) -> list[str]:
    """Whole texts, the activation behind each token on which the neuron is active."""
    texts = (graded(_to_its_last_activation(exemplar, maximum), maximum, marks) for exemplar in exemplars)
    return [f"{heading}:", *(f"{number}. {text}" for number, text in enumerate(texts, start=1))]


def in_context(one: Occurrence, marks: Marks, characters: int = CONTEXT_CHARACTERS) -> str:
    """A token between marks, in its left context, with the rest of its word."""
    before = visible(one.before)[-characters:]
    return f"{before}{marks.opening}{visible(one.token)}{marks.closing}{visible(one.after)}"


def quoted(token: str) -> str:
    """A token with the space that belongs to it."""
    return f'"{visible(token)}"'


def _table(rows: Sequence[TokenRow], n_texts: int, marks: Marks, sizes: Sizes) -> list[str]:
    if not rows:
        return []
    heading = (
        f"TOKENS of the {n_texts} train texts where it is most active. Token | active in n of m occurrences | mean | "
        "largest | strongest contexts | weakest contexts | look-alikes on which it is inactive:"
    )
    return [heading, *(_row(row, marks, sizes, number < sizes.full_rows) for number, row in enumerate(rows))]


def _row(row: TokenRow, marks: Marks, sizes: Sizes, in_full: bool) -> str:
    n = sizes.contexts if in_full else 1
    strongest = _joined(row.strongest[:n], marks)
    weakest = _joined(row.weakest[: max(1, n - 1)], marks)
    alike = " ".join(map(quoted, row.look_alikes))
    counts = f"{row.active} of {row.occurrences} | {row.mean:.1f} | {row.largest:.1f}"
    return f"{quoted(row.token)} | {counts} | {strongest} | {weakest} | {alike}".rstrip(" |")


def _joined(occurrences: Iterable[Occurrence], marks: Marks) -> str:
    return " ¦ ".join(f"{in_context(one, marks)} ({one.activation:.1f})" for one in occurrences)


def _random(random: RandomTexts | None, marks: Marks, n: int) -> list[str]:
    if random is None:
        return []
    heading = (
        f"ORDINARY TEXT: of {random.tokens:,} tokens of {random.texts} random texts it is active on {random.active}"
    )
    strongest = [f"- {in_context(one, marks)} ({one.activation:.1f})" for one in random.strongest[:n]]
    return [f"{heading}{', most of all on:' if strongest else '.'}", *strongest]


def _vocabulary(vocabulary: VocabularyTokens | None, n: int) -> list[str]:
    if vocabulary is None:
        return []
    shares = ", ".join(f"{share:.0%} stay below {max(value, 0.1):.1f}" for share, value in vocabulary.quantiles)
    strongest = ", ".join(f"{quoted(token)} {value:.1f}" for token, value in vocabulary.strongest[:n])
    return [f"SINGLE TOKENS of the whole vocabulary, nothing before them: {strongest}. Of all, {shares}."]


def _look_back(peaks: Sequence[LookBack], marks: Marks) -> list[str]:
    if not peaks:
        return []
    heading = (
        "LOOKING BACK: the activation at a peak, with the text before it cut to so many tokens; and the earlier token "
        "whose loss costs most:"
    )
    return [heading, *(_peak(one, marks) for one in peaks)]


def _peak(one: LookBack, marks: Marks) -> str:
    lengths = ", ".join(f"{n} → {value:.1f}" for n, value in one.by_length)
    lost = f"; without {quoted(one.decisive)} {one.without:.1f}" if one.without is not None else ""
    return f"- {in_context(one.peak, marks, LOOK_BACK_CHARACTERS)} ({one.peak.activation:.1f}): {lengths}{lost}"


def _outputs(outputs: OutputTokens | None) -> list[str]:
    if outputs is None:
        return []
    return [
        f"NEXT TOKENS that it makes likelier: {', '.join(map(quoted, outputs.promoted))}; less likely: "
        f"{', '.join(map(quoted, outputs.suppressed))}."
    ]


def _to_its_last_activation(exemplar: Exemplar, maximum: float) -> Exemplar:
    """The text without what comes long after the last token on which the neuron is active."""
    active = np.flatnonzero(exemplar.activations * SCALE >= ACTIVE * maximum)
    end = len(exemplar.tokens) if not len(active) else int(active[-1]) + 1 + AFTERWARDS
    tokens, token_ids = exemplar.tokens[:end], exemplar.token_ids[:end]
    return replace(exemplar, tokens=tokens, token_ids=token_ids, activations=exemplar.activations[:end])


def spread(exemplars: Sequence[Exemplar], n: int) -> list[Exemplar]:
    """So many of them, from the first to the last evenly."""
    if len(exemplars) <= n:
        return list(exemplars)
    return [exemplars[number * (len(exemplars) - 1) // max(1, n - 1)] for number in range(n)]


def _occurrences(evidence: Evidence) -> Iterable[Occurrence]:
    for row in evidence.tokens:
        yield from row.strongest
        yield from row.weakest
    if evidence.random is not None:
        yield from evidence.random.strongest
    yield from (one.peak for one in evidence.look_back)


LEGEND = f"""\
- TOKENS: every token on which much of the activation falls, with where it is strong and where it is weak. A space in \
front belongs to a token; one without it goes on with a word, or follows a sign. {ACTIVE:.0f} and more counts as active.
- ORDINARY TEXT, SINGLE TOKENS, LOOKING BACK and NEXT TOKENS, as far as they were measured. A peak that is as high \
without any text before it depends on the word alone; one that needs the text before it depends on a context, and the \
token whose loss costs most belongs into the sentence. What is said of next tokens is a hint at the topic at best.
- EXCERPTS, strongest first, and weaker ones on purpose: each may show another meaning."""
"""What the parts are, for a prompt's rules."""
