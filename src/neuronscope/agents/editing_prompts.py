"""The prompt for a neuron's modes as a whole: few sentences, as one would say them to a colleague."""

from __future__ import annotations

import re
from collections.abc import Sequence

from langchain_core.messages import HumanMessage

from neuronscope.agents.evidence_lines import HYPOTHESIS, Sizes, evidence_lines, marks_for
from neuronscope.agents.highlighting import visible
from neuronscope.agents.prompts import MOST_WORDS, HypothesisPrompt, instructions, numbered
from neuronscope.evidence import Evidence
from neuronscope.llm.marks import choose_fence, fenced
from neuronscope.results import Mode

MOST_EDITED = 4
"""Sentences that a neuron is told in, at most."""

_NOTE = re.compile(r"\s*\(strength [^()]*\)\s*$")
"""What stands behind a known sentence; a small model repeats it."""

_TASK = "What it responds to is to be told"

_KNOWN = """\
Several researchers have written sentences on it, each on a part of the evidence, and each was refined by itself. \
Behind each stand the strength that fits it (0 to 10: what the neuron does where it applies), and the correlation of \
what it predicts with the activations of texts that none of them saw, as far as a program understands it, which reads \
less well than you. They are data as well:"""

_REQUEST = f"""\
Write the explanation as a whole now, as you would give it to a colleague who has a minute for it: one to four \
sentences, those that explain most of the activation first. Begin from the evidence, not from the sentences:
- What is part of one rule becomes one sentence, with the widest rule that the evidence bears. A sentence that is \
narrower than the tokens it is about (it lists instances, or the context of one text) is widened until it would hold \
on texts with other words.
- What is said of hardly any activation, exceptions that were seen once or twice, and sentences that contradict each \
other are left out or mended.
- Nothing that makes the neuron strongly active may be lost: go through TOKENS and EXCERPTS from the top, and see \
that a sentence covers most of it.
- Unrelated meanings stay apart. Each sentence has at most {MOST_WORDS} words, is clear at first reading, and can be \
checked: of any token it is plain whether it applies.

Only the sentences, one per line, each beginning with "This neuron activates on"."""


def without_note(sentence: str) -> str:
    """A sentence of the answer without what a prompt adds to the known ones."""
    return _NOTE.sub("", sentence)


def editing_prompt(
    evidence: Evidence, modes: Sequence[Mode], strengths: Sequence[float], sizes: Sizes = HYPOTHESIS
) -> HypothesisPrompt:
    """Ask for sentences in place of those of all modes.

    Args:
        evidence: what was gathered of the neuron.
        modes: with the sentences that there are.
        strengths: of each mode, 0-10.
        sizes: how much of the evidence is shown.
    """
    sentences = [
        f"{visible(mode.explanation)} (strength {strength:.1f}; by itself r = {mode.val_score or 0.0:.2f})"
        for mode, strength in zip(modes, strengths, strict=True)
    ]
    marks = marks_for(evidence, sentences)
    lines = evidence_lines(evidence, marks, sizes)
    fence, known = choose_fence("evidence", lines), choose_fence("sentences", sentences)
    request = (
        f"The neuron under investigation:\n{fenced(fence, lines)}\n\n"
        f"{_KNOWN}\n{fenced(known, numbered(sentences))}\n\n{_REQUEST}"
    )
    return HypothesisPrompt([instructions(_TASK, fence, marks), HumanMessage(request)], marks)
